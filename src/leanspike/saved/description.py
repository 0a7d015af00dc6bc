"""Describing a spiking network as a spec. Parts that no spec could restore are refused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.neuron import Neuron, name_of, neurons
from leanspike.saved.spec import NeuronSpec, SpikeSpec, TemporalNormSpec
from leanspike.surgery import SpikingNetwork
from leanspike.temporal import Affine, Encoder, TemporalNorm, encoders, norms

ALONE = (
    "save its numbers alone by torch.save(snn.state_dict(), 'snn.pt'), and load them by "
    "snn.load_state_dict(torch.load('snn.pt')) into a network made in the same way"
)


def describe(network: SpikingNetwork) -> SpikeSpec:
    """Return the spec from which the network can be made again.

    Raises LeanspikeError for a part that could not be made again from a spec.
    """
    plan = network.plan
    encode, options = _encoder(plan.encoder)
    return SpikeSpec(
        encode=encode,
        encode_options=options,
        timesteps=network.timesteps,
        sample_shape=plan.sample_shape,
        norm=plan.norm,
        temporal_norm=_temporal_norm(network),
        neurons={path: _neuron(path, module) for path, module in network.neurons()},
        input_range=network.input_range,
        activations=plan.declared.activations,
        ops=plan.declared.ops,
        lower=plan.passes,
        sample_dtype=str(_dtype(network)).removeprefix("torch."),
    )


def _dtype(network: SpikingNetwork) -> torch.dtype:
    """Return the dtype of the input: that of the layers with weights, if they share one."""
    layers = [network.get_submodule(str(node.target)) for node in network.synaptic_nodes()]
    types = {parameter.dtype for layer in layers for parameter in layer.parameters()}
    return types.pop() if len(types) == 1 else network.plan.sample_dtype


def _encoder(encoder: Encoder) -> tuple[str, dict[str, Any]]:
    kind, options = type(encoder).__name__, vars(encoder)
    name = encoders.name_of(type(encoder))
    if name is None:
        raise LeanspikeError(
            f"encoder {kind} has no name in the registry; register its class, as "
            '@leanspike.temporal.encoders.register("its_name")'
        )
    known = encoders.config(name).model_fields
    for option, value in options.items():
        if option not in known or not isinstance(value, bool | int | float):
            raise LeanspikeError(
                f"encoder {kind} holds {option} = {value!r}, but only numbers that its constructor "
                f"takes by that name can be saved; {ALONE}"
            )
    if vars(encoders.create(name, options)) != options:
        raise LeanspikeError(f"encoder {kind} cannot be made again from {options}; {ALONE}")
    return name, options


def _temporal_norm(network: SpikingNetwork) -> TemporalNormSpec | None:
    specs = []
    for path, module in network.named_modules():
        if isinstance(module, Affine):
            raise LeanspikeError(f"norm {path} is folded; save the network it was folded from")
        if isinstance(module, TemporalNorm):
            name = norms.name_of(type(module))
            if name is None:
                raise LeanspikeError(
                    f"norm {path} is a {type(module).__name__}, which has no name in the registry; "
                    'register its class, as @leanspike.temporal.norms.register("its_name")'
                )
            specs.append(
                TemporalNormSpec(name=name, timesteps=module.timesteps, options=module.options)
            )
    if any(spec != specs[0] for spec in specs):
        raise LeanspikeError(
            f"the norms differ in their settings, but only one kind can be saved; {ALONE}"
        )
    return specs[0] if specs else None


def _neuron(path: str, neuron: nn.Module) -> NeuronSpec:
    kind = type(neuron).__name__
    if not isinstance(neuron, Neuron):
        raise LeanspikeError(
            f"neuron {path} is a {kind}, which has no name: it is no leanspike.Neuron; {ALONE}"
        )
    name = name_of(neuron)
    if name is None:
        raise LeanspikeError(
            f"neuron {path} is a {kind}, which has no name in the registry; "
            'register its class, as @leanspike.neuron.neurons.register("its_name")'
        )
    options = neuron.options
    if neurons.create(name, options).options != options:  # as loading does
        raise LeanspikeError(f"neuron {path} cannot be made again from {options}; {ALONE}")
    return NeuronSpec(name=name, **options)
