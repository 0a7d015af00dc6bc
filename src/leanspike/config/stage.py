"""A stage of training in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from leanspike.config.section import Section
from leanspike.errors import LeanspikeError
from leanspike.section import Count, NonNegative, Positive
from leanspike.train import (
    Lookahead,
    OptimizerSection,
    Resolution,
    ScheduleSection,
    optimizers,
    schedules,
)
from leanspike.train.terms import ObjectiveSection


class TrainSection(Section):
    """One stage of training, of the ANN or the SNN; an SNN may have several, one after another."""

    epochs: Annotated[int, Field(ge=0)]
    """Passes over the training images."""
    timesteps: Count | None = None
    """Steps of the SNN in this stage; null: `spike.timesteps`. An ANN has none."""
    batch_size: Count = 128
    """Images of a step of the optimizer, in all processes together."""
    accumulate: Count = 1
    """Micro-batches that a batch is computed in, to need less memory; norms see one at a time."""
    synchronise_norms: bool = True
    """Whether batch norms take the statistics of all processes, where there are several."""
    optimizer: Annotated[OptimizerSection, Field(examples=list(optimizers.registered))] = (
        OptimizerSection()
    )
    """How weights follow gradients: an optimizer with its options, or its name alone."""
    learning_rate: Positive = 0.1
    """The rate that the schedule begins with, or reaches after the warm-up."""
    neuron_learning_rate: Positive | None = None
    """The learning rate of leaks and thresholds; null: `learning_rate`."""
    bias_learning_rate: Positive | None = None
    """The learning rate of biases and norms, where they do not decay; null: `learning_rate`."""
    weight_decay: NonNegative = 5e-4
    """The decay of weights; leaks, thresholds and biases have none."""
    decay_norms: bool = False
    """Whether it also holds for the norms' scales."""
    schedule: Annotated[ScheduleSection, Field(examples=list(schedules.registered))] = (
        ScheduleSection()
    )
    """How the learning rate goes: a schedule with its options, or its name alone."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all steps in which the rate rises from 0; `triangular` rises by itself."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The rate of every dropout in this stage of an SNN; null: the network's own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of a label that is spread over all classes, in `cross_entropy` and `tet`."""
    readout: Literal["sum", "mean"] = "sum"
    """The answer is the sum or mean of the outputs so far; in `cross_entropy` and `response`."""
    objective: SerializeAsAny[ObjectiveSection] = ObjectiveSection.model_validate(
        {"cross_entropy": {}}
    )
    """What is minimised."""
    gradient: Literal["bptt", "rate"] = "bptt"
    """How an SNN gets gradients: through time, or once over means in time, which keeps less."""
    weights: Literal["f32", "int8", "int6"] = "f32"
    """An SNN's weights in training; whole numbers suit `leanspike compile RUN --weights int6`."""
    max_gradient_norm: Positive | None = None
    """Gradients are scaled down to this norm where they are above it; null: never."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an average of the weights over the steps, which the stage ends with; null: none."""
    lookahead: Lookahead | None = None
    """Slow weights that the stage ends with; `{}` is airbench's choice, null: none."""
    resolution: Resolution | None = None
    """Smaller images in the first epochs; null: none."""
    select: Literal["best", "last"] = "best"
    """Keep the epoch that is best on the held-out images, or the last one."""

    @model_validator(mode="after")
    def _one_warmup(self) -> TrainSection:
        schedule = self.schedule
        try:
            schedules.create(schedule.name, schedule.options).check_warmup(self.warmup)
        except LeanspikeError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _weights_have_one_average(self) -> TrainSection:
        if self.average is not None and self.weights != "f32":
            raise ValueError(
                f"average is {self.average} and weights are {self.weights}, and an average of "
                "whole numbers is none; leave average out of this stage"
            )
        if self.lookahead is not None and self.weights != "f32":
            raise ValueError(
                f"weights are {self.weights}, and those of a lookahead lie between whole numbers; "
                "leave lookahead out of this stage"
            )
        if self.lookahead is not None:
            try:
                self.lookahead.check_alone(self.average)
            except LeanspikeError as error:
                raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _micro_batches_hold_images(self) -> TrainSection:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}, and a batch has {self.batch_size} images; set "
                "accumulate to that or less"
            )
        return self
