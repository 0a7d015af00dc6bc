"""Building a network from a spec, before its weights, or comparing a network with a spec."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError, SurgeryError, check_memory, one_line
from leanspike.graph.named import ROW, find_operation, last_name, name_of_operation
from leanspike.graph.ops import is_batch_norm
from leanspike.lower import DEFAULT, PASSES
from leanspike.modes import eval_mode
from leanspike.neuron import Neuron, create_neuron, neurons
from leanspike.saved.description import describe
from leanspike.saved.spec import SpikeSpec
from leanspike.surgery import SpikingNetwork, spike
from leanspike.temporal import create_encoder, temporal_norm

Weights = Mapping[str, Tensor]
OTHER = "pass the architecture it was saved from"


@dataclass(frozen=True)
class Given:
    """The arguments of ``spike`` that the user passes to ``load`` again."""

    activations: Collection[Any] = ()
    ops: Mapping[Any, Any] = field(default_factory=dict)


def respike(ann: nn.Module, spec: SpikeSpec, weights: Weights, given: Given) -> SpikingNetwork:
    """Return a spiking network of the ANN as the spec describes it. The ANN does not change."""
    ann = _prepared(ann, spec, weights)
    encoder = create_encoder(spec.encode, spec.encode_options)
    norm = spec.temporal_norm
    lead = [1] * (encoder.batch_axis + 1)
    sample = torch.zeros(*lead, *spec.sample_shape, dtype=_dtype(spec, ann))
    try:
        snn = spike(
            ann,
            example_input=sample,
            encode=encoder,
            timesteps=spec.timesteps if norm is None else norm.timesteps,
            neuron=_neuron_of(spec),
            norm=spec.norm if norm is None else temporal_norm(norm.name, norm.options),
            activations=_activations(spec, ann, given),
            ops=_ops(spec, ann, given),
            lower=_passes(spec),
        )
    except SurgeryError as error:
        why = _refuses(ann, sample.flatten(0, encoder.batch_axis))
        if why is None:
            raise
        raise LeanspikeError(
            f"the network takes no inputs {list(spec.sample_shape)} of {sample.dtype} ({why}), "
            f"with which it was saved; {OTHER}"
        ) from error
    snn.timesteps = spec.timesteps
    gone = set(spec.neurons).difference(path for path, _ in snn.neurons())
    if gone:
        raise LeanspikeError(
            f"the saved network has a neuron {min(gone)!r}, but this network has not; {OTHER}"
        )
    return snn


def check_fit(network: nn.Module, weights: Weights) -> None:
    """Raise LeanspikeError for weights that the network could hold only in part.

    Such weights are numbers of another kind, or two values where the network has one tied value.
    """
    names: dict[int, str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        saved, tied = weights.get(name), names.setdefault(id(tensor), name)
        if saved is None or tied not in weights:
            continue  # loading will say so
        if _kind(saved) != _kind(tensor):
            raise LeanspikeError(f"{name} is {saved.dtype}, and {tensor.dtype} here; {OTHER}")
        if not _same_bits(saved, weights[tied]):
            raise LeanspikeError(
                f"{tied} and {name} differ, but are one parameter of this network; {OTHER}"
            )


def check_same(network: SpikingNetwork, spec: SpikeSpec) -> None:
    """Raise LeanspikeError unless a spiking network fits the spec, apart from its numbers."""
    ours, theirs = _settings(describe(network)), _settings(spec)
    for name, value in theirs.items():
        if value is not None and ours.get(name) != value:
            raise LeanspikeError(
                f"{name} is {value} there, but {ours.get(name)} in the network that was passed; "
                "pass the ANN instead, as load(path, ann=Net())"
            )
    network.timesteps = spec.timesteps


def cast(network: nn.Module, weights: Weights) -> None:
    """Give parameters and buffers the types of the weights."""
    for name, tensor in network.state_dict(keep_vars=True).items():
        saved = weights.get(name)
        if saved is not None and _floats(saved) and _floats(tensor):
            tensor.data = tensor.data.to(saved.dtype)


def _floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _kind(tensor: Tensor) -> tuple[bool, ...]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one is other or one.dtype != other.dtype:
        return one is other
    return torch.equal(*(tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _refuses(ann: nn.Module, sample: Tensor) -> str | None:
    """Return why the network does not take such inputs, or None if it does."""
    try:
        with eval_mode(ann), torch.no_grad():
            ann(sample)
    except Exception as error:  # a user's network may raise anything
        check_memory(error, sample.shape)
        return one_line(error)
    return None


def _prepared(ann: nn.Module, spec: SpikeSpec, weights: Weights) -> nn.Module:
    """Return the network in the types of the weights, as a copy if anything changes.

    With temporal norms the learned values of the ANN's norms are reset, since those of the temporal
    norms will be loaded.
    """
    renewed = {
        path: module
        for path, module in ann.named_modules()
        if spec.temporal_norm is not None and is_batch_norm(module)
    }
    state = ann.state_dict()
    kept = {name for name in state if name.rpartition(".")[0] not in renewed}
    own = {name: value for name, value in weights.items() if name in kept and _floats(value)}
    alike = all(state[name].dtype == value.dtype for name, value in own.items())
    if alike and not renewed:
        return ann
    ann = deepcopy(ann)
    types = {value.dtype for value in own.values()}
    if not alike and len(types) == 1:
        ann.to(types.pop())  # buffers that no file holds, too
    cast(ann, own)
    for path in renewed:
        norm = ann.get_submodule(path)
        assert is_batch_norm(norm)
        norm.reset_parameters()
    return ann


def _dtype(spec: SpikeSpec, ann: nn.Module) -> torch.dtype:
    """Return the dtype of the input, or that of the first parameter if it was not saved."""
    if spec.sample_dtype is not None:
        dtype: torch.dtype = getattr(torch, spec.sample_dtype)
        return dtype
    found = (value.dtype for value in ann.parameters() if value.is_floating_point())
    return next(found, torch.float32)


def _neuron_of(spec: SpikeSpec) -> Callable[[str], Neuron]:
    def neuron(path: str) -> Neuron:
        if path not in spec.neurons:
            raise LeanspikeError(f"the saved network has no neuron {path!r}; {OTHER}")
        return create_neuron(spec.neurons[path].name, spec.neurons[path].options)

    return neuron


def _activations(spec: SpikeSpec, ann: nn.Module, given: Given) -> list[Any]:
    if spec.activations is None:
        return list(given.activations)
    _check_given("activations", given.activations, spec.activations)
    return [find_operation(name, ann, given.activations) for name in spec.activations]


def _ops(spec: SpikeSpec, ann: nn.Module, given: Given) -> dict[Any, Any]:
    if spec.ops is None:
        return dict(given.ops)
    _check_given("ops", given.ops, spec.ops)
    found = {}
    for name, meaning in spec.ops.items():
        op = find_operation(name, ann, given.ops)
        if meaning == ROW and op not in given.ops:
            raise LeanspikeError(
                f"{name} had a row of its own in ops, which no file can hold; pass it to load, as "
                f"ops={{{last_name(name)}: Operation(...)}}"
            )
        found[op] = given.ops[op] if meaning == ROW else meaning
        if op in given.ops and given.ops[op] != found[op]:
            raise LeanspikeError(
                f"{name} is {meaning!r} there, but {given.ops[op]!r} in ops; leave it out of ops"
            )
    return found


def _check_given(argument: str, given: Collection[Any], names: Collection[str]) -> None:
    known = {last_name(name) for name in names}
    for op in given:
        if last_name(name_of_operation(op)) not in known:
            raise LeanspikeError(
                f"{argument} of load has {name_of_operation(op)}, but the network was made without "
                "it; leave it out"
            )


def _passes(spec: SpikeSpec) -> tuple[str, ...]:
    if spec.lower is None:
        return DEFAULT
    for name in spec.lower:
        if name not in PASSES:
            raise LeanspikeError(
                f"a pass {name!r} of your own was applied to it; pass a network after it, as "
                "load(path, ann=leanspike.spike(ann, ..., lower=[...]))"
            )
    return spec.lower


def _settings(spec: SpikeSpec) -> dict[str, Any]:
    """Return, by name, all settings that two networks must have in common."""
    taken_over = {"timesteps", "input_range", "sample_dtype"}
    found = spec.model_dump(exclude={*taken_over, "neurons", "encode_options", "temporal_norm"})
    norm = spec.temporal_norm
    found["neurons"] = sorted(spec.neurons)
    found["temporal_norm"] = "none" if norm is None else norm.model_dump()
    encoder = vars(create_encoder(spec.encode, spec.encode_options))
    found |= {f"{option} of {spec.encode}": value for option, value in encoder.items()}
    for path, neuron in spec.neurons.items():
        options = neurons.options(neuron.name, neuron.options)
        found[f"neuron {path}"] = neuron.name
        found |= {f"{option} of neuron {path}": value for option, value in options.items()}
    return found
