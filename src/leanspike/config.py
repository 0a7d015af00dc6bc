"""The recipe: a run as typed data, section by section.

Frozen and closed: an unknown key or a wrong type is an error. Modules never see a recipe; only the
builders in ``leanspike.run`` do. ``leanspike.recipes`` reads them from YAML. What stands below a
key is its meaning in the reference (``leanspike recipes --keys``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from leanspike.data import DATASETS, datasets
from leanspike.errors import LeanspikeError
from leanspike.metrics import metrics
from leanspike.models import MODELS, check_options
from leanspike.models.own import is_own
from leanspike.neuron import NeuronSection
from leanspike.registry import Registry
from leanspike.section import Count, Finite, NonNegative, Positive
from leanspike.section import Section as Closed
from leanspike.surgery.percentile import PercentileRule
from leanspike.surgery.thresholds import check_percentile
from leanspike.temporal import encoders, norms
from leanspike.train import optimizers, schedules
from leanspike.train.terms import ObjectiveSection, terms_by_name

OF_A_HUNDRED: dict[str, Any] = {"exclusiveMinimum": 1}
"""The bound that a check with a message of its own holds."""


class Section(Closed):
    """Base of every part of a recipe."""


def _check_name(registry: Registry[Any], name: str, also: Collection[str] = ()) -> None:
    """ValueError for a name that none of the parts has, or a part that cannot be imported."""
    try:
        registry.find(name, also)
    except LeanspikeError as error:
        said = str(error)
        raise ValueError(said if name in registry else said.partition("; ")[2]) from None


def _check_options(
    registry: Registry[Any], info: ValidationInfo, key: str, options: dict[str, Any]
) -> None:
    """ValueError for options that the part named by another key does not have."""
    try:
        registry.options(info.data[key], options)
    except LeanspikeError as error:
        raise ValueError(str(error)) from None


class AugmentSection(Section):
    """Augmentation of the training images, or recordings, drawn anew for each of a batch."""

    crop: Annotated[int, Field(ge=0)] = 0
    """Images: black pixels on each side, from which a window of the old size is cut; 0: off."""
    flip: bool = False
    """Mirror left to right with probability 1/2."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Images: side of a random square, in pixels, that is blackened; 0: off."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Events: the most pixels by which a recording is moved; 0: off."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Events: the probability with which each is lost."""


class FramesSection(Section):
    """How a recording of events becomes frames, one for each timestep."""

    timesteps: Count = 10
    """Frames of a recording; `spike.timesteps` must be the same."""
    by: Literal["time", "count", "window"] = "time"
    """Each frame gets an equal part of the time, as many events, or `window_us` microseconds."""
    binary: bool = False
    """A pixel says whether there was an event, not how many."""
    window_us: Count | None = None
    """Microseconds of a frame; for "window", and only there."""


class DataSection(Section):
    """The data set, and which part of it is used."""

    name: Annotated[str, Field(examples=list(DATASETS))]
    """The data set; `image_folder` and `webdataset` are your own images, as files or in tars."""
    root: str | None = None
    """The folder that holds the data; null: what LEANSPIKE_DATA names, else `data`."""
    validation: Annotated[int, Field(ge=0)] | None = None
    """Training images held out to select epochs on; null: the data set's own number."""
    train_images: Count | None = None
    """Of the others so many are used, each class in its proportion, always the same; null: all."""
    image_size: Count | None = None
    """Pixels per side, of images in files or of events; null: their own."""
    channels: Literal[1, 3] | None = None
    """Read images in files as grey (1) or colour (3); null: grey if all of them are."""
    skip_bad: bool = False
    """Leave out images in files that cannot be decoded, by name; else they are refused."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read and decode what does not stay in memory; 0: threads of this one."""
    frames: FramesSection | None = None
    """For recordings of events: how they become frames; null: the section's defaults."""
    cross_validation: tuple[Count, Count] | None = None
    """[k, n]: split k of n. The test set is the k-th of n equal parts of all images."""
    options: dict[str, Any] = Field({})
    """Arguments of a data set of another package, by name."""
    mean: tuple[Finite, ...] | None = None
    """Subtracted from the pixels (0 to 1), for each channel; null: the data set's own."""
    std: tuple[Positive, ...] | None = None
    """What they are divided by after that; null: the data set's own."""
    augment: AugmentSection = AugmentSection()
    """Augmentation in training."""

    @field_validator("options")
    @classmethod
    def _fit(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if options and info.data.get("name") in datasets:
            _check_options(datasets, info, "name", options)
        return options


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


class CalibrateSection(Section):
    """Thresholds found from training images, without labels, before the SNN is trained."""

    images: Count = 512
    """Training images that are looked at."""
    percentile: Annotated[float, Field(gt=0, le=100, json_schema_extra=OF_A_HUNDRED)] = 99.7
    """The threshold is this percentile of the layer's input current, times the scale."""
    percentile_rule: PercentileRule = "interpolated"
    """Between two values: between them, as numpy does, or the nearer one, as DIET-SNN does."""
    scale: Positive | tuple[Positive, ...] = 1.0
    """Of the thresholds; of several, the one whose answers agree best with the ANN's."""
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
            raise ValueError(str(error).partition(", and ")[2] or str(error)) from None
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
            _check_name(encoders, name)
        elif name not in ("keep", "fold"):
            _check_name(norms, name, ("keep", "fold"))
        return name


class TeacherSection(Section):
    """Who teaches in `response` and `feature`, if it is not the run's own ANN."""

    model: TrainedSection
    """The network; of a folder that leanspike saved the weights are enough."""
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
    """Of several processes: whether batch norms take the statistics of all of them."""
    optimizer: Annotated[str, Field(examples=list(optimizers.registered))] = "sgd"
    """SGD with momentum, AMSGrad (as in DIET-SNN's code), AdamW, or that of another package."""
    optimizer_options: dict[str, Any] = Field({})
    """Options of an optimizer of another package."""
    learning_rate: Positive = 0.1
    """The rate that the schedule begins with, or reaches after the warm-up."""
    neuron_learning_rate: Positive | None = None
    """That of leaks and thresholds; null: `learning_rate`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    nesterov: bool = True
    """Whether the momentum is Nesterov's; of SGD."""
    weight_decay: NonNegative = 5e-4
    """Of weights; leaks, thresholds and biases have none."""
    decay_norms: bool = False
    """Whether it also holds for the norms' scales."""
    schedule: Annotated[str, Field(examples=list(schedules.registered))] = "cosine"
    """How the learning rate falls: not, to 0 along a cosine or a line, or tenfold at milestones."""
    schedule_options: dict[str, Any] = Field({})
    """Options of a schedule of another package."""
    period_epochs: Count | None = None
    """Of the cosine: 0 is reached after so many epochs, then it rises again; null: at the end."""
    milestones: tuple[Count, ...] | None = None
    """Of "step": the epochs after which the rate falls tenfold; null: at 50, 70 and 90 %."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of all steps in which the rate rises from 0."""
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
    """Of an SNN: backpropagation through time, or once over means in time, which keeps less."""
    max_gradient_norm: Positive | None = None
    """Gradients are scaled down to this norm where they are above it; null: never."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The decay of an average of the weights over the steps, which the stage ends with; null: none."""
    select: Literal["best", "last"] = "best"
    """Keep the epoch that is best on the held-out images, or the last one."""

    @field_validator("optimizer", "schedule")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        _check_name(optimizers if info.field_name == "optimizer" else schedules, name)
        return name

    @field_validator("optimizer_options", "schedule_options")
    @classmethod
    def _fit(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        part = str(info.field_name).removesuffix("_options")
        if options and part in info.data:
            _check_options(optimizers if part == "optimizer" else schedules, info, part, options)
        return options

    @model_validator(mode="after")
    def _micro_batches_hold_images(self) -> TrainSection:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}, and a batch has {self.batch_size} images; set "
                "accumulate to that or less"
            )
        return self


class EvaluateSection(Section):
    """The evaluation on the whole test set."""

    batch_size: Count = 250
    """Images computed at once; it changes no number but by rounding."""
    readout: Literal["sum", "mean"] = "sum"
    """Outputs so far are summed or averaged: the same answer, but not equally sure."""
    early_exit: tuple[Literal["gamma", "margin", "entropy"], ...] = ()
    """Rules by which images leave early, to be measured; gamma needs `spike.norm=bntt`."""
    max_drop_points: Annotated[float, Field(ge=0, lt=100)] = 0.2
    """Percentage points that leaving early may lose on the held-out images."""
    metrics: dict[str, dict[str, Any]] = Field({}, examples=list(metrics.registered))
    """What else is measured after each step, by name, with its options; a list of names will do."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        named = terms_by_name(value) if isinstance(value, list) else value
        if not isinstance(named, dict):
            return named
        return {name: {} if options is None else options for name, options in named.items()}

    @field_validator("metrics")
    @classmethod
    def _fit(cls, chosen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in chosen.items():
            try:
                metrics.options(name, options)
            except LeanspikeError as error:
                raise ValueError(str(error)) from None
        return chosen


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
