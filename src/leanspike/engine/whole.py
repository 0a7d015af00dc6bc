"""Weights that stay whole numbers while a network is trained: quantisation-aware training.

The engine takes the weights that spikes meet as whole numbers, with a step for each output. Trained
so, the network's own weights are these already, in float32. The optimizer changes unrounded ones v
by the gradient at the rounded ones w (straight through)::

    w = s·round(v/s),  s = max|v| over an output's weights / 127 (int8) or / 31 (int6)

What a norm behind the layer scales, it scales for a whole output. So the engine rounds the same
numbers, whether the norm is folded or not.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018; straight through: Bengio et al., arXiv 1308.3432.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leanspike.engine.lowering import Lowering
from leanspike.engine.quantise import WEIGHTS, steps_of
from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork
from leanspike.neuron import Neuron
from leanspike_runtime.program import LARGEST

KEY = "unrounded"
"""The key of the unrounded weights in an optimizer's ``state_dict``."""
WholeWeights = Literal["int8", "int6"]


def train_whole(
    network: nn.Module, optimizer: Optimizer, weights: WholeWeights = "int6"
) -> tuple[str, ...]:
    """Keep a network's weights whole numbers in all steps that an optimizer takes from now on.

    Weights of layers that spikes or sums of spikes enter are rounded now, and after each step. The
    optimizer changes the unrounded ones; its ``state_dict`` holds them. A network that is saved,
    evaluated or compiled at any time has rounded weights.

    Args:
        network: spiking, as `compile_engine` takes it; on any device.
        optimizer: of its parameters, before its first step or before its state is loaded.
        weights: "int8" or "int6", as `compile_engine` will be given.

    Returns:
        The names of the parameters that are whole numbers.

    Raises:
        LeanspikeError: for what cannot be compiled, or cannot be whole numbers, by its path; where
            the optimizer rounds already.

    >>> from leanspike import compile_engine, spike
    >>> from leanspike.train import create_optimizer
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), timesteps=3)
    >>> optimizer = create_optimizer(snn, learning_rate=0.1)
    >>> train_whole(snn, optimizer, "int6")
    ('2.weight',)
    >>> snn(torch.ones(5, 2)).sum().backward()
    >>> optimizer.step(); snn.keep_in_range()
    >>> whole, own = (compile_engine(snn, weights=w)(torch.ones(5, 2)) for w in ("int6", "f32"))
    >>> torch.allclose(whole, own, atol=1e-5)
    True
    """
    names = whole_layers(network, weights)
    if any(isinstance(hook, _Kept) for hook in _hooks(optimizer)):
        raise LeanspikeError(
            "the optimizer rounds weights already, and twice would lose the unrounded ones; call "
            "train_whole once for each optimizer"
        )
    kept = _Kept({name: network.get_parameter(name) for name in names}, LARGEST[WEIGHTS[weights]])
    optimizer.register_step_pre_hook(kept.unround)
    optimizer.register_step_post_hook(kept)
    optimizer.register_state_dict_post_hook(kept.save)
    optimizer.register_load_state_dict_pre_hook(kept.load)
    return names


def _hooks(optimizer: Optimizer) -> list[Any]:
    return list(optimizer._optimizer_step_post_hooks.values())


def whole_layers(network: nn.Module, weights: WholeWeights) -> tuple[str, ...]:
    """Return the parameters that the engine turns into whole numbers, by name.

    These are the weights of layers that events enter. Whether rounded ones stay as they are is
    tried, on a copy whose other parameters are random.

    Raises:
        LeanspikeError: see `train_whole`.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> whole_layers(spike(ann, example_input=torch.zeros(1, 2)), "int6")
    ('2.weight',)
    """
    if weights not in ("int8", "int6"):
        raise LeanspikeError(f"weights is {weights!r}; choose one of int8, int6")
    if not isinstance(network, SpikingNetwork):
        raise LeanspikeError(
            f"{type(network).__name__} is no spiking network; make one with leanspike.spike"
        )
    tried, largest = deepcopy(network).cpu(), LARGEST[WEIGHTS[weights]]
    names = {id(parameter): name for name, parameter in tried.named_parameters()}
    found: dict[str, Tensor] = {}
    for path, own, _ in _whole(tried):
        if id(own) not in names:
            raise LeanspikeError(
                f"{path} computes its weights, and whole numbers are trained of parameters alone; "
                "put plain weights there, or train with weights in float32"
            )
        found[names[id(own)]] = own
    _shake(tried, found, largest)
    for path, _, synapse in _whole(tried):
        steps = steps_of(synapse, largest)
        if not steps[synapse.any((0, 1, 2))].all():
            raise LeanspikeError(
                f"{path} reads spikes that another scale multiplies in each channel, so that its "
                "weights are no whole numbers; make the neurons before it with per='layer' or "
                "height='unit' and put no norm between, or train with weights in float32"
            )
    return tuple(found)


def _whole(network: SpikingNetwork) -> list[tuple[str, Tensor, Any]]:
    """Layers that events enter: path, weights, and what the engine rounds, ``[kh, kw, I, O]``."""
    builder = Lowering.of(network, network.timesteps).builder
    return [
        (layer.path, layer.weights, synapse.weights)
        for layer in builder.weighted
        for synapse in layer.synapses
        if builder.forms[synapse.edge] != "analog"
    ]


@torch.no_grad()
def _shake(network: SpikingNetwork, whole: Mapping[str, Tensor], largest: int) -> None:
    """Round these weights, and multiply all else that training changes by random numbers."""
    generator = torch.Generator().manual_seed(0)
    rounded_ones = {id(parameter) for parameter in whole.values()}
    for module in network.modules():
        statistics = () if isinstance(module, Neuron) else module.buffers(recurse=False)
        for tensor in (*module.parameters(recurse=False), *statistics):
            if id(tensor) not in rounded_ones and tensor.is_floating_point():
                tensor.mul_(torch.rand(tensor.shape, generator=generator) / 4 + 0.75)
    network.keep_in_range()
    for parameter in whole.values():
        parameter.copy_(nearest(parameter, largest))


def nearest(weights: Tensor, largest: int) -> Tensor:
    """Return ``s·round(v/s)`` with ``s = max|v| / largest`` over an output's weights ``[O, ...]``.

    >>> nearest(torch.tensor([[1.0, 0.26], [0.0, 0.0]]), 2).tolist()
    [[1.0, 0.5], [0.0, 0.0]]
    """
    peak = weights.abs().amax(tuple(range(1, weights.dim())), keepdim=True)
    step = torch.where(peak > 0, peak / largest, 1)
    return step * torch.round(weights / step)


@final
class _Kept:
    """The unrounded weights; an optimizer's hooks."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], largest: int) -> None:
        self.parameters, self.largest = dict(parameters), largest
        self.unrounded = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(nearest(self.unrounded[name], self.largest))

    @torch.no_grad()
    def unround(self, *_of_the_step: Any) -> None:
        """Put the unrounded weights in place, before a step."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.unrounded[name])

    @torch.no_grad()
    def __call__(self, *_of_the_step: Any) -> None:
        """Keep the unrounded weights and round the network's, after a step."""
        for name, parameter in self.parameters.items():
            self.unrounded[name].copy_(parameter)
        self._round()

    def save(self, _optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Into a ``state_dict``."""
        state[KEY] = dict(self.unrounded)

    @torch.no_grad()
    def load(self, _optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Take up the weights of a checkpoint; the network's become theirs, rounded."""
        given = state.get(KEY, {})
        shapes = {name: values.shape for name, values in given.items()}
        if shapes != {name: values.shape for name, values in self.unrounded.items()}:
            raise LeanspikeError(
                f"the optimizer's state has unrounded weights of {', '.join(shapes) or 'nothing'}, "
                f"and this one needs those of {', '.join(self.unrounded)}; load a state of the "
                "same training, or begin anew"
            )
        for name, values in self.unrounded.items():
            values.copy_(given[name])
        self._round()
