"""A whole recipe: its sections, and what they must agree about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from leanspike.config.data import DataSection
from leanspike.config.evaluation import EvaluateSection
from leanspike.config.network import ModelSection, TeacherSection
from leanspike.config.section import Section
from leanspike.config.spike import SpikeSection
from leanspike.config.stage import TrainSection
from leanspike.section import Positive


class Recipe(Section):
    """A whole run: train an artificial neural network (ANN), or take its weights; make a spiking
    neural network (SNN) of it; train that; evaluate. A file that says ``extends: NAME``, a recipe
    or another file, gives only what differs.
    """

    name: str
    """The run's name; its folder is `runs/NAME` unless `--out` says another."""
    description: str = ""
    """A line for `leanspike recipes`."""
    seed: Annotated[int, Field(ge=0)] = 0
    """All that is random follows from it."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1` ...; auto takes a GPU if PyTorch finds one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The numbers of the training; auto is bfloat16 where the hardware computes in it."""
    data: DataSection
    """The data set."""
    model: ModelSection
    """The ANN."""
    ann: TrainSection | None = None
    """The ANN's training; null: none, it comes with `model.weights` or only lends its shape."""
    teacher: TeacherSection | None = None
    """Who teaches; null: the run's own ANN, where a teacher is asked for."""
    spike: SpikeSection = SpikeSection()
    """How the ANN becomes an SNN."""
    snn: tuple[TrainSection, ...] = ()
    """The SNN's training, stage after stage; `[]`: conversion only."""
    evaluate: EvaluateSection = EvaluateSection()
    """The evaluation."""
    checkpoint_minutes: Positive = 2.0
    """Minutes between checkpoints, from which a run that was stopped goes on."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name or name.startswith(".") or "/" in name or "\\" in name:
            raise ValueError("it names a folder; give one with no slash and no dot in front")
        return name

    @model_validator(mode="after")
    def _ann_is_no_snn(self) -> Recipe:
        if self.ann is not None and self.ann.timesteps is not None:
            raise ValueError(
                f"ann.timesteps is {self.ann.timesteps}, and an ANN has none; leave it out"
            )
        if self.ann is not None and self.ann.dropout is not None:
            raise ValueError(
                f"ann.dropout is {self.ann.dropout}, and the ANN's rates are its model's; set them "
                "in model.options"
            )
        if self.ann is not None and self.ann.gradient != "bptt":
            raise ValueError(
                f"ann.gradient is {self.ann.gradient}, and an ANN has no time to average over; "
                "leave it out, and set it in the stages of snn"
            )
        return self

    @model_validator(mode="after")
    def _steps_have_others_to_learn_from(self) -> Recipe:
        for term in () if self.ann is None else self.ann.objective.between_steps:
            raise ValueError(
                f"ann.objective.{term} is between the steps of an SNN, and an ANN has none; leave "
                "it out"
            )
        for number, stage in enumerate(self.snn):
            steps = stage.timesteps or self.spike.timesteps
            for term in stage.objective.between_steps if steps < 2 else ():
                raise ValueError(
                    f"snn.{number}.objective.{term} is between steps, and the stage has {steps}; "
                    f"set snn.{number}.timesteps to 2 or more, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _exits_can_be_chosen(self) -> Recipe:
        rules = self.evaluate.early_exit
        if len(set(rules)) < len(rules):
            raise ValueError(f"early exit by {', '.join(rules)}; name each rule once")
        if "gamma" in rules and self.spike.norm != "bntt":
            raise ValueError(
                f"early exit by gamma goes by the scales of BNTT, and spike.norm is "
                f"{self.spike.norm}; set spike.norm=bntt, or leave by margin or entropy"
            )
        if rules and self.data.validation == 0:
            raise ValueError(
                f"early exit by {', '.join(rules)} is chosen on held-out images, and "
                "data.validation is 0; set it to more"
            )
        return self
