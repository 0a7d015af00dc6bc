"""The contents of ``spec.json``, from which a network is built again, as typed data."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from leanspike.files import checked_json

MOST_TIMESTEPS = 2**14
"""The most timesteps of temporal norms. A damaged file could ask for any amount of memory."""
MOST_VALUES = 2**28
"""The most values of one sample at one step, for the same reason."""

Options = dict[str, float | int | bool]
Positive = Annotated[int, Field(ge=1)]
Meaning = Literal["analog", "graded", "spike", "same", "row"] | None
FloatingPoint = Literal["float16", "bfloat16", "float32", "float64"]


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSpec(_Part):
    """The arguments of ``models.create_model``, by which a network is built again.

    A ``name`` of the form ``package.module:Class`` is a user's own network. Its class is called
    with the options alone, and :func:`load` never imports it.

    >>> ModelSpec(name="vgg6", num_classes=10, options={"width": 0.125}).image_size
    32
    """

    name: str
    num_classes: int
    in_channels: int = 3
    image_size: int = 32
    options: dict[str, Any] = {}


class NeuronSpec(BaseModel):
    """A neuron without its trained parameters: the name of its class, and its options.

    A spec without a name comes from an early version. Its neurons are LIF.

    >>> NeuronSpec(name="lif", reset="hard").options
    {'reset': 'hard'}
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    name: str

    @model_validator(mode="before")
    @classmethod
    def _with_a_name(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "name" in value:
            return value
        options = {key: option for key, option in value.items() if key != "constants"}
        if "surrogate" in options:
            constants = value.get("constants", {})
            options["surrogate"] = {"name": options["surrogate"], "options": constants}
        return {"name": "lif", **options}

    @property
    def options(self) -> dict[str, Any]:
        """The options from which the registry builds the neuron."""
        return dict(self.model_extra or {})


class TemporalNormSpec(_Part):
    """The norm in the place of each batch norm: see ``leanspike.temporal.temporal_norm``."""

    name: str
    timesteps: Annotated[int, Field(ge=1, le=MOST_TIMESTEPS)]
    options: Options


def _check_values(shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    return shape


def _check_range(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"{ends[0]:g} to {ends[1]:g} is not a range from low to high")
    return ends


class SpikeSpec(_Part):
    """The arguments of ``leanspike.spike``, by which a network spikes again.

    The first versions did not write fields with the default None. Operations are named as in
    ``leanspike.graph.named``, passes as in ``leanspike.lower``.
    """

    encode: str
    encode_options: Options = {}
    timesteps: Positive
    sample_shape: Annotated[tuple[Positive, ...], AfterValidator(_check_values)]
    norm: Literal["keep", "fold"]
    temporal_norm: TemporalNormSpec | None = None
    neurons: dict[str, NeuronSpec]
    input_range: Annotated[tuple[float, float], AfterValidator(_check_range)] | None = None
    activations: tuple[str, ...] | None = None
    ops: dict[str, Meaning] | None = None
    lower: tuple[str, ...] | None = None
    sample_dtype: FloatingPoint | None = None


class Spec(_Part):
    """The contents of ``spec.json``. ``model`` is None for a user's own architecture."""

    format: Literal[1] = 1
    model: ModelSpec | None
    spike: SpikeSpec | None
    weights_sha256: str | None = None


def parse(text: str) -> Spec:
    """Return a spec from text. Raise ValueError, of which ValidationError is one, if it is none.

    >>> parse('{"model": null, "spike": null, "spike": null}')
    Traceback (most recent call last):
    ValueError: 'spike' stands there twice
    """
    spec = Spec.model_validate_json(text, strict=True)
    checked_json(text)
    return spec
