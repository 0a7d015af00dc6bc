"""Models on disk: safetensors beside a JSON spec. Loading runs no code from the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from leanspike.errors import LeanspikeError, one_line
from leanspike.files import atomic, write_text
from leanspike.graph.ops import is_batch_norm
from leanspike.models import create_model
from leanspike.models.own import is_own
from leanspike.neuron import Neuron, create_neuron, name_of, neurons
from leanspike.surgery import SpikingNetwork, spike
from leanspike.temporal import (
    Affine,
    TemporalNorm,
    create_encoder,
    encoders,
    norms,
    temporal_norm,
)

WEIGHTS = "model.safetensors"
SPEC = "spec.json"
MOST_TIMESTEPS = 2**14
"""Of temporal norms: with those of a damaged file they would ask for any memory."""
MOST_VALUES = 2**28
"""Of one sample at one step, for the same reason."""

Options = dict[str, float | int | bool]
Positive = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")


class ModelSpec(_Part):
    """How to build a network again: the arguments of ``models.create_model``.

    A ``name`` of the form ``package.module:Class`` is a network of the user's own; it is called
    with the options alone, and :func:`load` imports none.

    >>> ModelSpec(name="vgg6", num_classes=10, options={"width": 0.125}).image_size
    32
    """

    name: str
    num_classes: int
    in_channels: int = 3
    image_size: int = 32
    options: dict[str, Any] = {}


class NeuronSpec(BaseModel):
    """What a neuron is apart from its trained parameters: the name of its class, and its options.

    A spec without a name is of before there were several: its neurons are LIF.

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
        """What the registry builds it of."""
        return dict(self.model_extra or {})


class TemporalNormSpec(_Part):
    """What stands in the place of each batch norm: see ``leanspike.temporal.temporal_norm``."""

    name: str
    timesteps: Annotated[int, Field(ge=1, le=MOST_TIMESTEPS)]
    options: Options


def _check_values(shape: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    return shape


class SpikeSpec(_Part):
    """How to make the network spike again: the arguments of ``leanspike.spike``."""

    encode: str
    encode_options: Options = {}
    timesteps: Positive
    sample_shape: Annotated[tuple[Positive, ...], AfterValidator(_check_values)]
    norm: Literal["keep", "fold"]
    temporal_norm: TemporalNormSpec | None = None
    neurons: dict[str, NeuronSpec]
    input_range: tuple[float, float] | None = None


class Spec(_Part):
    """The contents of ``spec.json``. ``model`` is None for a user's own architecture."""

    format: Literal[1] = 1
    model: ModelSpec | None
    spike: SpikeSpec | None


def save(network: nn.Module, folder: str | Path, model: ModelSpec | None = None) -> Path:
    """Save an ANN or a spiking network as ``model.safetensors`` and ``spec.json``.

    Args:
        network: its neurons, if any, must be of classes that a name is registered for.
        folder: is made; the two files in it are replaced.
        model: for a network of the zoo, what :func:`load` needs to build it; for one of the user's
            own, if given, what it is called.

    Raises:
        LeanspikeError: for a neuron without such a name, settings that :func:`load` would refuse,
            or a file in the place of the folder.

    >>> import tempfile
    >>> from leanspike.models import create_model
    >>> spec = ModelSpec(name="vgg6", num_classes=10, image_size=8, options={"width": 0.125})
    >>> ann = create_model("vgg6", 10, image_size=8, width=0.125)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save(ann, folder, spec)
    ...     same = load(folder)
    >>> type(same).__name__
    'VGG'
    """
    folder = Path(folder)
    if folder.is_file():
        raise LeanspikeError(f"{folder} is a file; give the name of a folder")
    try:
        spec = Spec(model=model, spike=_spike_spec(network))
    except ValidationError as error:
        raise LeanspikeError(f"the network cannot be saved ({one_line(error)})") from None
    # safetensors refuses tensors that share memory, as tied weights do: each is written out.
    weights = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in network.state_dict().items()
    }
    with atomic(folder / WEIGHTS) as part:
        save_file(weights, part)
    write_text(folder / SPEC, spec.model_dump_json(indent=1))
    return folder


def load(folder: str | Path, ann: nn.Module | None = None) -> nn.Module:
    """Load what :func:`save` wrote: an ANN, or a :class:`SpikingNetwork`. No code is run.

    Args:
        folder: with ``model.safetensors`` and ``spec.json``.
        ann: the user's own architecture, untrained or not (left untouched), if it is not one of
            the zoo. A :class:`SpikingNetwork` made by ``leanspike.spike`` is loaded into.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        LeanspikeError: for missing, damaged or foreign files, or another architecture.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     same = load(save(net, folder), ann=nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    >>> torch.equal(same[0].weight, net[0].weight)
    True
    """
    folder = Path(folder)
    spec, weights = _read_spec(folder), _read_weights(folder)
    if ann is None and (spec.model is None or is_own(spec.model.name)):
        which = "" if spec.model is None else f", {spec.model.name}, and loading imports nothing"
        raise LeanspikeError(
            f"{folder} holds a network of the user's own{which}; build it and pass "
            "load(path, ann=...)"
        )
    try:
        network = _build(spec, _zoo_network(spec.model, weights) if ann is None else ann)
    except LeanspikeError as error:
        raise type(error)(f"{folder / SPEC}: {error}") from error
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise LeanspikeError(
            f"{folder / SPEC} describes no network that can be built ({one_line(error)}); restore "
            "it from a copy, or pass the architecture it was saved from"
        ) from error
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise LeanspikeError(
            f"{folder} does not fit the network ({one_line(error)}); pass the architecture it was "
            "saved from"
        ) from None
    if isinstance(network, SpikingNetwork) and spec.spike is not None:
        network.input_range = spec.spike.input_range
    return network.eval()


def read_model(folder: str | Path) -> ModelSpec | None:
    """What a saved network is made of; None for a user's own architecture without a name.

    Raises:
        LeanspikeError: for missing, damaged or foreign files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(read_model(save(nn.Linear(2, 3), folder)))
    None
    """
    return _read_spec(Path(folder)).model


def _zoo_network(spec: ModelSpec | None, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network of the zoo that a spec describes, if it is about as large as its weights."""
    assert spec is not None

    def build() -> nn.Module:
        return create_model(
            spec.name,
            spec.num_classes,
            in_channels=spec.in_channels,
            image_size=spec.image_size,
            **spec.options,
        )

    try:
        with torch.device("meta"):  # where a network of any size takes no memory
            described = sum(value.numel() for value in build().state_dict().values())
    except NotImplementedError:  # a constructor that reads its tensors, as torchvision's RegNet
        return build()
    held = sum(value.numel() for value in weights.values())
    if described > 2 * held:  # one of folded norms holds less than its network
        raise LeanspikeError(
            f"a {spec.name} of {described:,} values is described, {WEIGHTS} holds {held:,}; "
            "restore them from a copy"
        )
    return build()


def _build(spec: Spec, ann: nn.Module) -> nn.Module:
    """The network that a spec describes, before its weights."""
    if spec.spike is None or isinstance(ann, SpikingNetwork):
        return ann
    return _respike(ann, spec.spike)


def _respike(ann: nn.Module, spec: SpikeSpec) -> SpikingNetwork:
    def neuron(path: str) -> Neuron:
        if path not in spec.neurons:
            raise LeanspikeError(
                f"the saved network has no neuron {path!r}; pass the architecture it was saved from"
            )
        return create_neuron(spec.neurons[path].name, spec.neurons[path].options)

    encoder = create_encoder(spec.encode, spec.encode_options)
    norm = spec.temporal_norm
    if norm is not None:  # whose parameters are loaded: what the ANN's have learnt is in the way
        ann = deepcopy(ann)
        for module in ann.modules():
            if is_batch_norm(module):
                module.reset_parameters()
    snn = spike(
        ann,
        example_input=torch.zeros(*[1] * (encoder.batch_axis + 1), *spec.sample_shape),
        encode=encoder,
        timesteps=spec.timesteps if norm is None else norm.timesteps,
        neuron=neuron,
        norm=spec.norm if norm is None else temporal_norm(norm.name, norm.options),
    )
    snn.timesteps = spec.timesteps
    return snn


def _spike_spec(network: nn.Module) -> SpikeSpec | None:
    if not isinstance(network, SpikingNetwork):
        return None
    encoder = network.plan.encoder
    encode = encoders.name_of(type(encoder))
    if encode is None:
        kind = type(encoder).__name__
        raise LeanspikeError(f"encoder {kind} is not one of leanspike's; cannot save it")
    return SpikeSpec(
        encode=encode,
        encode_options=vars(encoder),
        timesteps=network.timesteps,
        sample_shape=network.plan.sample_shape,
        norm=network.plan.norm,
        temporal_norm=_temporal_norm_spec(network),
        neurons={path: _neuron_spec(path, module) for path, module in network.neurons()},
        input_range=network.input_range,
    )


def _temporal_norm_spec(network: SpikingNetwork) -> TemporalNormSpec | None:
    specs = []
    for path, module in network.named_modules():
        if isinstance(module, Affine):
            raise LeanspikeError(f"norm {path} is folded; save the network it was folded from")
        if isinstance(module, TemporalNorm):
            name = norms.name_of(type(module))
            if name is None:
                kind = type(module).__name__
                raise LeanspikeError(
                    f"norm {path} is a {kind}, not one of leanspike's; cannot save it"
                )
            specs.append(
                TemporalNormSpec(name=name, timesteps=module.timesteps, options=module.options)
            )
    if any(spec != specs[0] for spec in specs):
        raise LeanspikeError("the norms differ in their settings; only one kind can be saved")
    return specs[0] if specs else None


def _neuron_spec(path: str, neuron: nn.Module) -> NeuronSpec:
    name = name_of(neuron) if isinstance(neuron, Neuron) else None
    if not isinstance(neuron, Neuron) or name is None:
        raise LeanspikeError(
            f"neuron {path} is a {type(neuron).__name__}, which has no name in the registry; "
            'register its class, as @leanspike.neuron.neurons.register("its_name")'
        )
    neurons.options(name, neuron.options)  # which is what loading will ask for
    return NeuronSpec(name=name, **neuron.options)


def _read_spec(folder: Path) -> Spec:
    path = folder / SPEC
    if not path.is_file():
        raise LeanspikeError(f"no model in {folder}: {SPEC} and {WEIGHTS} are expected there")
    try:
        return Spec.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise LeanspikeError(f"{path} is damaged or not of leanspike ({one_line(error)})") from None


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise LeanspikeError(f"no weights at {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise LeanspikeError(f"{path} is damaged ({error}); restore it from a copy") from None
