"""The recipe: a run as typed data, read from YAML with dotted overrides.

Frozen and closed: an unknown key or a wrong type is answered in one line that names the key and
the nearest valid one. Modules never see a recipe; only the builders in ``leanspike.run`` do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from leanspike.errors import LeanspikeError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
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
    frames: FramesSection | None = None
    fold: tuple[Count, Count] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: AugmentSection = AugmentSection()


class ModelSection(Section):
    """The ANN: a name of the zoo (or torchvision/NAME), its options, its trained weights.

    ``weights`` is a file of the PyTorch kind, read with ``weights_only``, or a folder that
    leanspike saved, as ``runs/digits/ann``.
    """

    name: str
    options: dict[str, Any] = {}
    weights: str | None = None


class SurrogateSection(Section):
    """The surrogate derivative by name; constants as its class has them."""

    name: Literal["triangle", "arctan", "sigmoid", "rectangle"] = "triangle"
    options: dict[str, float] = {}


class NeuronSection(Section):
    """The LIF neuron; see ``leanspike.LIF``."""

    threshold: Positive = 1.0
    leak: Annotated[float, Field(ge=0, le=1)] = 1.0
    learn: tuple[Literal["leak", "threshold"], ...] = ("leak", "threshold")
    reset: Literal["soft", "hard"] = "soft"
    initial: Literal["zero", "half"] = "zero"
    height: Literal["unit", "threshold"] = "unit"
    surrogate: SurrogateSection = SurrogateSection()


class CalibrateSection(Section):
    """The thresholds' calibration on ``images`` training images; see ``leanspike.calibrate``."""

    images: Count = 512
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.7
    scale: Positive | tuple[Positive, ...] = 1.0
    method: Literal["layerwise", "one_pass"] = "layerwise"
    statistics: Literal["keep", "reestimate"] = "keep"
    timesteps: Count | None = None


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
    target: float = 1.0


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
        return _by_name(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _not_empty(self) -> ObjectiveSection:
        if not any(getattr(self, name) is not None for name in type(self).model_fields):
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self


def _by_name(terms: list[Any]) -> dict[str, Any]:
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

    ``mean`` and ``std`` are of its own training, if they are not the data set's here.
    """

    model: ModelSection
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @field_validator("model")
    @classmethod
    def _trained(cls, model: ModelSection) -> ModelSection:
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
    ``decay_norms`` of the norms' scales too. ``label_smoothing`` and ``readout`` hold for all
    terms of the objective that take them. ``select`` "best" keeps the weights of the epoch with the
    best validation accuracy, "last" those of the last epoch.
    """

    epochs: Annotated[int, Field(ge=0)]
    timesteps: Count | None = None
    batch_size: Count = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    neuron_learning_rate: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    decay_norms: bool = False
    schedule: Literal["constant", "cosine", "linear", "step"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
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

    @model_validator(mode="after")
    def _exits_can_be_chosen(self) -> Recipe:
        rules = self.evaluate.early_exit
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


def recipes() -> dict[str, str]:
    """The recipes that come with leanspike: name to description, sorted.

    >>> "digits" in recipes()
    True
    """
    files = [f for f in resources.files("leanspike.recipes").iterdir() if f.name.endswith(".yaml")]
    found = {f.name.removesuffix(".yaml"): _parse(f.read_text(), f.name) for f in files}
    return {name: str(data.get("description", "")) for name, data in sorted(found.items())}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by the name of a built-in one, or from a YAML file, with overrides.

    Args:
        source: a name that ``leanspike recipes`` lists, or the path of a file.
        overrides: each ``dotted.key=value`` with a YAML value; list items by their number.

    Raises:
        LeanspikeError: one line naming the key, the value, what was expected, the nearest name.

    >>> recipe = load_recipe("digits", ["snn.0.epochs=1", "seed=7"])
    >>> recipe.seed, recipe.snn[0].epochs
    (7, 1)
    >>> load_recipe("digits", ["snn.0.epoch=1"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: recipe digits: unknown key snn.0.epoch; did you mean 'epochs'?
    """
    name, text = _read(source)
    data = _parse(text, name)
    try:
        for override in overrides:
            _apply(data, override)
    except ValueError as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None
    return validate(data, name)


def validate(data: dict[str, Any], name: str) -> Recipe:
    """Plain data as a recipe, or one line on what is wrong with it."""
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise LeanspikeError(f"recipe {name}: {_explain(error.errors()[0])}") from None
    except (TypeError, ValueError) as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out; :func:`load_recipe` reads it back equal."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Safe YAML (no objects) that reads 1e-4 as a number, as YAML 1.2 and everybody else do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return str(path), path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise LeanspikeError(f"cannot read the recipe {path}: {error}") from None
    built_in = resources.files("leanspike.recipes") / f"{source}.yaml"
    if not built_in.is_file():
        raise LeanspikeError(
            f"no recipe {str(source)!r}; {_nearest(str(source), recipes())} "
            "(`leanspike recipes` lists them; a file of your own ends in .yaml)"
        )
    return str(source), built_in.read_text()


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise LeanspikeError(f"recipe {name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise LeanspikeError(f"recipe {name} is not a mapping of keys to values")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise LeanspikeError(f"override {override!r}; write dotted.key=value, as in seed=1")
    *parents, last = key.split(".")
    place: Any = data
    for part in parents:
        if isinstance(place, list):
            place = place[_position(place, part, key)]
        elif isinstance(place, dict):
            if place.get(part) is None:
                place[part] = {}
            elif part == "objective" and isinstance(place[part], list):
                place[part] = _by_name(place[part])
            place = place[part]
        else:
            raise LeanspikeError(f"override {key}: {part!r} is inside a plain value")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise LeanspikeError(f"override {override!r}: {text!r} is not a YAML value") from None
    if isinstance(place, list):
        place[_position(place, last, key)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise LeanspikeError(f"override {key}: {last!r} is inside a plain value")


def _position(place: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise LeanspikeError(f"override {key}: {part!r} is not one of 0..{len(place) - 1}")
    return int(part)


def _explain(error: ErrorDetails) -> str:
    """One line for the first thing that is wrong."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}; {_nearest(path[-1], _siblings(path))}"
    if error["type"] == "missing":
        return f"key {key} is missing; give it a value"
    message = error["msg"].removeprefix("Value error, ")
    if not path:  # several keys do not go together: the message names them
        return message
    return f"{key} is {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _siblings(path: list[str]) -> Iterable[str]:
    """The keys that are valid where an unknown one was found."""
    section: type[BaseModel] = Recipe
    for part in path[:-1]:
        field = section.model_fields.get(part)
        if field is not None:
            section = _section(field.annotation) or section
    return section.model_fields


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as ``TrainSection | None`` or ``tuple[...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for arg in inner if (found := _section(arg)) is not None), None)


def _nearest(wrong: str, valid: Iterable[str]) -> str:
    options = list(valid)
    close = get_close_matches(wrong, options, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(options)}"
