"""The recipe: a run as typed data, section by section.

Frozen and closed: an unknown key or a wrong type is an error. Modules never see a recipe; only the
builders in ``leanspike.run`` do. ``leanspike.recipes`` reads them from YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from leanspike.errors import LeanspikeError
from leanspike.neuron.kernels import Reset
from leanspike.surgery.calibrate import PercentileRule, check_percentile

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AugmentSection(Section):
    """Augmentation in training. Of images: zero-padded random crop, mirror, cutout (in pixels).

    Of events: mirror, ``shift`` by so many pixels, ``drop`` each event with this probability.
    """

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0
    shift: Annotated[int, Field(ge=0)] = 0
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0


class FramesSection(Section):
    """How a recording of events becomes frames; see ``leanspike.data.FrameOptions``."""

    timesteps: Count = 10
    by: Literal["time", "count", "window"] = "time"
    binary: bool = False
    window_us: Count | None = None


class DataSection(Section):
    """The data set. ``mean`` and ``std`` replace its own (for published weights).

    ``image_size`` and ``channels`` (1, grey, or 3) of a folder of images are theirs unless given.

    ``validation`` training images are held out; None: the data set's own number. Of the others
    ``train_images`` are used, each class in its proportion, always the same; None: all.
    ``frames`` is for recordings of events. ``fold`` [k, n] cross-validates: the k-th of n equal
    parts of all images, training and test, is the test set.
    """

    name: str
    root: str | None = None
    validation: Annotated[int, Field(ge=0)] | None = None
    train_images: Count | None = None
    image_size: Count | None = None
    channels: Literal[1, 3] | None = None
    frames: FramesSection | None = None
    fold: tuple[Count, Count] | None = None
    mean: tuple[Finite, ...] | None = None
    std: tuple[Positive, ...] | None = None
    augment: AugmentSection = AugmentSection()


class TrainedSection(Section):
    """A network by its trained weights; ``name`` is needed with a file of weights only."""

    name: str | None = None
    options: dict[str, Any] = {}
    weights: str | None = None


class ModelSection(TrainedSection):
    """The ANN: a name of the zoo (or torchvision/NAME), its options, its trained weights.

    ``package.module:Class`` names a network of the user's own, imported with ``--trust`` only and
    built from ``options`` alone. ``weights`` is a file of the PyTorch kind, read with
    ``weights_only``, or a folder that leanspike saved, as ``runs/digits/ann``; of the latter the
    name and the options of a network of the zoo may be left out.
    """

    name: str


class SurrogateSection(Section):
    """The surrogate derivative by name; constants as its class has them."""

    name: Literal["triangle", "arctan", "sigmoid", "rectangle"] = "triangle"
    options: dict[str, float] = {}


class NeuronSection(Section):
    """The LIF neuron; see ``leanspike.LIF``."""

    threshold: Positive = 1.0
    leak: Annotated[float, Field(ge=0, le=1)] = 1.0
    learn: tuple[Literal["leak", "threshold"], ...] = ("leak", "threshold")
    reset: Reset = "soft"
    initial: Literal["zero", "half"] = "zero"
    height: Literal["unit", "threshold"] = "unit"
    surrogate: SurrogateSection = SurrogateSection()


class CalibrateSection(Section):
    """The thresholds' calibration on ``images`` training images; see ``leanspike.calibrate``."""

    images: Count = 512
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.7
    percentile_rule: PercentileRule = "interpolated"
    scale: Positive | tuple[Positive, ...] = 1.0
    method: Literal["layerwise", "one_pass"] = "layerwise"
    statistics: Literal["keep", "reestimate"] = "keep"
    timesteps: Count | None = None

    @field_validator("percentile")
    @classmethod
    def _of_a_hundred(cls, percentile: float) -> float:
        try:
            check_percentile(percentile)
        except LeanspikeError as error:
            raise ValueError(str(error).partition(", and ")[2] or str(error)) from None
        return percentile


class SpikeSection(Section):
    """The surgery; see ``leanspike.spike``. ``timesteps`` is what the SNN ends with.

    ``start`` "ann" takes the ANN's weights, if the run has one; "scratch" leaves it to teach only.
    ``encode_options`` are those of the encoder's class in ``leanspike.temporal``, ``norm_options``
    those of the temporal norm's.
    """

    encode: Literal["direct", "poisson", "frames"] = "direct"
    encode_options: dict[str, bool | float | int] = {}
    timesteps: Count = 5
    start: Literal["ann", "scratch"] = "ann"
    norm: Literal["keep", "fold", "bntt", "tdbn", "tebn"] = "keep"
    norm_options: dict[str, bool | float] = {}
    neuron: NeuronSection = NeuronSection()
    calibrate: CalibrateSection | None = CalibrateSection()


class CrossEntropySection(Section):
    """The labels, on the last answer; see ``leanspike.train.CrossEntropy``."""

    weight: NonNegative = 1.0


class TETSection(Section):
    """The labels, at every step; see ``leanspike.train.TET``."""

    weight: NonNegative = 1.0
    regularisation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target: Finite = 1.0


class ResponseSection(Section):
    """The teacher's soft answers; see ``leanspike.train.Response``."""

    weight: NonNegative = 0.5
    temperature: Positive = 2.0
    each_step: bool = False


class FeatureSection(Section):
    """The teacher's feature maps, as ``leanspike.train.Feature``; ``pairs``: student to teacher.

    Each stage begins with new adapters.
    """

    weight: NonNegative = 1.0
    pairs: dict[str, str] | None = None


class SpikeRateSection(Section):
    """A price on spikes per neuron; see ``leanspike.train.SpikeRate``."""

    weight: NonNegative = 0.1


class ObjectiveSection(Section):
    """What a stage minimises: the sum of the terms named, each times its weight.

    A list will do as well: ``[cross_entropy, {response: {temperature: 2, weight: 0.5}}]``, each
    term once; one without settings, or with null, has its defaults. In a mapping those are ``{}``,
    and null leaves the term out, as in the ``recipe.yaml`` of a run.
    """

    cross_entropy: CrossEntropySection | None = None
    tet: TETSection | None = None
    response: ResponseSection | None = None
    feature: FeatureSection | None = None
    spike_rate: SpikeRateSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return terms_by_name(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _not_empty(self) -> ObjectiveSection:
        if not any(getattr(self, name) is not None for name in type(self).model_fields):
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def is_taught(self) -> bool:
        """Whether a term of it asks a teacher."""
        return self.response is not None or self.feature is not None


def terms_by_name(terms: list[Any]) -> dict[str, Any]:
    """A list of terms as the mapping that it stands for."""
    named: dict[str, Any] = {}
    for term in terms:
        for name, settings in (term if isinstance(term, dict) else {str(term): None}).items():
            if name in named:
                raise ValueError(f"name {name} once, with all its settings")
            named[name] = {} if settings is None else settings
    return named


class TeacherSection(Section):
    """Who teaches in ``response`` and ``feature``: a network with its trained weights.

    Of a folder that leanspike saved, as ``runs/RECIPE/ann``, the weights are enough. ``mean`` and
    ``std`` are of its own training, if they are not the data set's here.
    """

    model: TrainedSection
    mean: tuple[Finite, ...] | None = None
    std: tuple[Positive, ...] | None = None

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
    """One stage of training, of the ANN or of the SNN.

    ``timesteps`` of an SNN stage default to the surgery's. ``neuron_learning_rate`` is for leaks
    and thresholds (default: ``learning_rate``). ``weight_decay`` is of weights, with
    ``decay_norms`` of the norms' scales too. ``period_epochs`` is for the schedule "cosine", which
    then reaches 0 after so many epochs and rises again; ``milestones``, for "step", are the epochs
    after which the rate falls tenfold (default: at 50, 70 and 90 %); see
    ``leanspike.train.create_schedule``. ``dropout`` is the rate of every dropout of the network in
    this stage of an SNN (default: the network's own). ``label_smoothing`` and ``readout`` hold for
    all terms of the objective that take them. ``select`` "best" keeps the weights of the epoch with
    the best validation accuracy, "last" those of the last epoch.
    """

    epochs: Annotated[int, Field(ge=0)]
    timesteps: Count | None = None
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    neuron_learning_rate: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 5e-4
    decay_norms: bool = False
    schedule: Literal["constant", "cosine", "linear", "step"] = "cosine"
    period_epochs: Count | None = None
    milestones: tuple[Count, ...] | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    readout: Literal["sum", "mean"] = "sum"
    objective: ObjectiveSection = ObjectiveSection(cross_entropy=CrossEntropySection())
    max_gradient_norm: Positive | None = None
    select: Literal["best", "last"] = "best"


class EvaluateSection(Section):
    """The evaluation on the whole test set.

    ``early_exit`` names rules by which to leave early, their thresholds chosen on the held-out
    training images so that at most ``max_drop_points`` percentage points of accuracy, in
    [0, 100), are lost. "gamma" is for networks with BNTT.
    """

    batch_size: Count = 250
    readout: Literal["sum", "mean"] = "sum"
    early_exit: tuple[Literal["gamma", "margin", "entropy"], ...] = ()
    max_drop_points: Annotated[float, Field(ge=0, lt=100)] = 0.2


class Recipe(Section):
    """A whole run: train an ANN (or take its weights), make it spike, train the SNN, evaluate.

    Where an objective needs a teacher, it is the run's own ANN unless ``teacher`` names another.
    """

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: DataSection
    model: ModelSection
    ann: TrainSection | None = None
    teacher: TeacherSection | None = None
    spike: SpikeSection = SpikeSection()
    snn: tuple[TrainSection, ...] = ()
    evaluate: EvaluateSection = EvaluateSection()
    checkpoint_minutes: Positive = 2.0

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
