"""The networks of a recipe: the ANN that becomes an SNN, and who teaches."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from leanspike.config.section import Section
from leanspike.errors import LeanspikeError
from leanspike.models import MODELS, check_options
from leanspike.models.own import is_own
from leanspike.section import Finite, Positive


class TrainedSection(Section):
    """A network with its trained weights."""

    name: Annotated[str | None, Field(examples=[*MODELS, "torchvision/NAME"])] = None
    """The network; null: the one that was saved in the folder of the weights."""
    options: dict[str, Any] = Field({})
    """Arguments of the network by name, as a width; `leanspike.models` has those of each."""
    weights: str | None = None
    """A file of PyTorch's kind, or a folder that leanspike saved, as `runs/RECIPE/ann`."""

    @field_validator("options")
    @classmethod
    def _fit(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("name")
        if name is not None and not is_own(name):
            try:
                check_options(name, options)
            except LeanspikeError as error:
                raise ValueError(str(error)) from None
        return options


class ModelSection(TrainedSection):
    """The ANN that becomes an SNN."""

    name: Annotated[str, Field(examples=[*MODELS, "torchvision/NAME", "package.module:Class"])]
    """The network; `package.module:Class` is one of your own, imported with `--trust` only."""
    options: dict[str, Any] = Field({})
    """Arguments of the network by name, as a width; your own gets these and nothing else."""
    weights: str | None = None
    """A file of PyTorch's kind, or a folder that leanspike saved; null: as it begins."""
    new_answer: bool = False
    """Take all weights but those of the last layer, which begins anew: for other classes."""

    @model_validator(mode="after")
    def _takes_weights(self) -> ModelSection:
        if self.new_answer and self.weights is None:
            raise ValueError("new_answer is true without weights; give model.weights, or leave it")
        return self


class TeacherSection(Section):
    """Who teaches in `response` and `feature`, if it is not the run's own ANN."""

    model: TrainedSection
    """The network; a folder that leanspike saved needs `weights` only."""
    mean: tuple[Finite, ...] | None = None
    """The mean that it was trained with; null: that of the data."""
    std: tuple[Positive, ...] | None = None
    """The standard deviation that it was trained with; null: that of the data."""

    @field_validator("model")
    @classmethod
    def _trained(cls, model: TrainedSection) -> TrainedSection:
        if model.name is None and model.options:
            raise ValueError("options without a name; give both, or neither")
        if model.weights is None:
            raise ValueError(
                "weights are missing; train the teacher (leanspike train RECIPE) and give its "
                "folder, as runs/RECIPE/ann, or give a file of published weights"
            )
        return model
