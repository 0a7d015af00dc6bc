"""How the ANN of a recipe becomes an SNN, and how its thresholds are found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from leanspike.config.section import Section, check_name
from leanspike.errors import LeanspikeError
from leanspike.neuron import NeuronSection
from leanspike.section import Count, Positive
from leanspike.surgery.percentile import PercentileRule
from leanspike.surgery.thresholds import check_percentile
from leanspike.temporal import encoders, norms

OF_A_HUNDRED: dict[str, Any] = {"exclusiveMinimum": 1}
"""The bound that a check with a message of its own holds."""


class CalibrateSection(Section):
    """Thresholds found from training images, without labels, before the SNN is trained."""

    images: Count = 512
    """Training images that are looked at."""
    percentile: Annotated[float, Field(gt=0, le=100, json_schema_extra=OF_A_HUNDRED)] = 99.7
    """The threshold is this percentile of the layer's input current, times the scale."""
    percentile_rule: PercentileRule = "interpolated"
    """Between two values: between them, as numpy does, or the nearer one, as DIET-SNN does."""
    scale: Positive | tuple[Positive, ...] = 1.0
    """A factor of the thresholds; several are compared by agreement with the ANN's answers."""
    method: Literal["layerwise", "one_pass"] = "layerwise"
    """Layer by layer, earlier ones spiking, as in DIET-SNN; or from the ANN's activations."""
    statistics: Literal["keep", "reestimate"] = "keep"
    """Whether the batch norms' statistics are measured again with the thresholds in force."""
    timesteps: Count | None = None
    """Timesteps of the calibration; null: `spike.timesteps`."""

    @field_validator("percentile")
    @classmethod
    def _of_a_hundred(cls, percentile: float) -> float:
        try:
            check_percentile(percentile)
        except LeanspikeError as error:
            said = str(error).partition(", but ")[2]
            raise ValueError(f"it {said}" if said else str(error)) from None
        return percentile


class SpikeSection(Section):
    """How the ANN becomes an SNN: its input, timesteps, norms and neurons."""

    encode: Annotated[str, Field(examples=list(encoders.registered))] = "direct"
    """The input of a step: the image itself, random spikes, or the step's own frame."""
    encode_options: dict[str, bool | float | int] = Field({})
    """Constants of the encoder: gain and seed of poisson, counts of frames."""
    timesteps: Count = 5
    """Steps that the SNN ends with; a stage of its training may have others."""
    start: Literal["ann", "scratch"] = "ann"
    """Begin with the ANN's weights, if there is one; or anew, and the ANN only teaches."""
    norm: Annotated[str, Field(examples=["keep", "fold", *norms.registered])] = "keep"
    """Batch norms stay, are folded into weights, or give way to ones that know the timestep."""
    norm_options: dict[str, bool | float] = Field({})
    """Constants of bntt, tdbn or tebn, as eps and momentum; `leanspike.temporal` has them."""
    neuron: NeuronSection = NeuronSection()
    """The neurons in the place of each ReLU."""
    calibrate: CalibrateSection | None = CalibrateSection()
    """How thresholds are found; null: they stay at `spike.neuron.threshold`."""

    @field_validator("encode", "norm")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        if info.field_name == "encode":
            check_name(encoders, name)
        elif name not in ("keep", "fold"):
            check_name(norms, name, ("keep", "fold"))
        return name
