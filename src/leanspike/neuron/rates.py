"""The derivative of any neuron's mean output by its mean input, by forward differentiation.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from leanspike.backends import Rates
from leanspike.errors import LeanspikeError, one_line

if TYPE_CHECKING:
    from leanspike.neuron.protocol import Neuron


@torch.no_grad()
def rates_by_steps(
    neuron: Neuron, x_TN: Tensor, learned: Sequence[str], arrival_T: Tensor | None = None
) -> Rates:
    """Return outputs, and their mean's derivatives by the mean input and ``learned`` parameters.

    The steps run once more for each derivative. The derivative of the state goes from step to step,
    so the memory is that of one step. In the mean that is differentiated each step has its weight
    in ``arrival_T``; None: 1 each.

    Raises:
        LeanspikeError: for a step without forward derivative, and for a parameter that is neither
            one number nor one for each channel or neuron.

    >>> from leanspike.neuron import create_neuron
    >>> neuron, x_TN = create_neuron("cuba_lif", {"synapse_leak": 0.0}), torch.full((2, 1), 0.75)
    >>> rates_by_steps(neuron, x_TN, ()).by_input  # it is LIF: (0.3·0.75·1 + 0.3·0.5·2)/2
    tensor([0.2625])
    """
    weights = [1.0] * len(x_TN) if arrival_T is None else arrival_T.tolist()
    x_TN, loop = x_TN.detach(), _MeanOutput(neuron, weights)
    still_N = torch.zeros_like(x_TN[0], dtype=torch.promote_types(x_TN.dtype, torch.float32))

    def by_parameter(name: str) -> Tensor:
        def mean(value: Tensor) -> Tensor:
            found: Tensor = functional_call(loop, {f"neuron.{name}": value}, (x_TN, still_N))
            return found

        return _slope(neuron, mean, neuron.get_parameter(name).detach())

    for name in learned:
        _check_shape(neuron, name, x_TN.shape[2:])
    by_input = _slope(neuron, lambda shift_N: loop(x_TN, shift_N), still_N)
    by = {name: by_parameter(name) for name in learned}
    return Rates(neuron.forward(x_TN), by_input, {n: d.expand_as(by_input) for n, d in by.items()})


class _MeanOutput(nn.Module):
    """The weighted mean output of a neuron whose input is shifted alike at every step."""

    def __init__(self, neuron: Neuron, weights: Sequence[float]) -> None:
        super().__init__()
        self.neuron, self.weights = neuron, weights

    def forward(self, x_TN: Tensor, shift_N: Tensor) -> Tensor:
        state = self.neuron.initial(x_TN[0] + shift_N)
        total = torch.zeros_like(shift_N)
        for weight, x_N in zip(self.weights, x_TN, strict=True):
            o_N, state = self.neuron.step(x_N + shift_N, state)
            total = total + weight * o_N
        return total / len(x_TN)


def _slope(neuron: Neuron, mean: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """Return the derivative of each neuron's mean output by its entry of ``value``."""
    _say_nothing_at_first()
    try:
        slope: Tensor = jvp(mean, (value,), (torch.ones_like(value),))[1]
    except (RuntimeError, NotImplementedError) as error:
        name = type(neuron).__name__
        raise LeanspikeError(
            f"rate gradients need forward derivatives of {name}'s step, which fail: "
            f"{one_line(error)}; write the step in PyTorch's functions with Surrogate.spike, or "
            f"give {name} a method rates of its own"
        ) from error
    return slope


@cache
def _say_nothing_at_first() -> None:
    """Hide the warning of the first jvp, whose imports in PyTorch call a deprecated function."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        jvp(lambda x: -x, (torch.zeros(()),), (torch.zeros(()),))


def _check_shape(neuron: Neuron, name: str, sample: torch.Size) -> None:
    """Raise LeanspikeError for a parameter whose entries are not each for neurons of their own."""
    shape = neuron.get_parameter(name).shape
    lined_up = zip(reversed(shape), reversed(sample), strict=False)
    if len(shape) > len(sample) or any(own not in (1, size) for own, size in lined_up):
        raise LeanspikeError(
            f"{name} of {type(neuron).__name__} has the shape {tuple(shape)}, but for rate "
            f"gradients it must broadcast with one sample {tuple(sample)}; give it one number, or "
            "one for each channel or neuron"
        )
