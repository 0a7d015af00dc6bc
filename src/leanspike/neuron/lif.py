"""Neurons: modules that take the input of all timesteps and give the spikes of all timesteps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.neuron import kernels
from leanspike.surrogate import Surrogate, Triangle

SMALLEST_THRESHOLD = 1e-4
Learnable = Literal["leak", "threshold"]


class Neuron(nn.Module, ABC):
    """What stands where an activation stood: ``[T, N, ...]`` in, ``[T, N, ...]`` out, no state.

    ``emits`` declares the signal: "spike" if every output is 0 or one known height.
    """

    emits: ClassVar[Literal["spike", "analog"]] = "spike"

    @abstractmethod
    def forward(self, x_TN: Tensor) -> Tensor:
        """The outputs of all timesteps, from the same start at every call."""

    @abstractmethod
    def step(self, x_N: Tensor, membrane_N: Tensor | None) -> tuple[Tensor, Tensor]:
        """One timestep: input and membrane (None at the first) to output and next membrane."""

    def keep_in_range(self) -> None:
        """Put trained parameters back into their range; called after each optimiser step."""


@final
class LIF(Neuron):
    """Leaky integrate-and-fire neurons that share one leak λ and one threshold v per layer.

    At each step t, for the input x_t::

        u ← λ·u + x_t           membrane
        z = u/v − 1             distance to the threshold
        o_t = 1[z > 0]          spike
        u ← u − v·o_t           soft reset   (hard: u ← 0 where o_t = 1)

    (DIET-SNN's official code; with λ = 1 this is the integrate-and-fire neuron). In its paper
    (arXiv 2008.03658, eqs. 1-3) what the reset subtracts does not leak::

        u_t = λ·u_{t-1} + x_t − v·o_{t-1}       undecayed reset; u is the membrane before it

    Args:
        threshold: v, above 0, in units of the input.
        leak: λ in [0, 1]; exactly 1 means no leak.
        learn: which of "leak" and "threshold" are trained; the others keep their value.
        reset: "soft" (the papers' code), "hard" or "undecayed" (DIET-SNN's eq. 1); see above.
        initial: the membrane before the first step, "zero" (the papers') or "half" a threshold.
        height: of a spike, "unit" (1, the papers') or "threshold" (v·o_t, which keeps the scale
            of the activations that the neuron replaces).
        surrogate: the derivative of the spike; default the papers' triangle.

    Membranes are float32 (float64 for float64 input) whatever the autocast dtype. Gradients flow
    in ``eval()`` too. Calls leave nothing behind: the same input gives the same spikes.

    Raises:
        LeanspikeError: for a value outside its range.

    Example:
        >>> neuron = LIF(threshold=1.0, leak=0.5)
        >>> x = torch.tensor([[0.8], [0.8], [0.8]])  # [T, N] = [3, 1]
        >>> neuron(x).squeeze(1).tolist()  # u = 0.8, then 1.2 (spike, reset to 0.2), then 0.9
        [0.0, 1.0, 0.0]
        >>> x = torch.tensor([[1.5], [0.8]])
        >>> neuron(x).squeeze(1).tolist()  # u = 1.5 (spike), then 0.5·(1.5 − 1) + 0.8 = 1.05
        [1.0, 1.0]
        >>> undecayed = LIF(threshold=1.0, leak=0.5, reset="undecayed")
        >>> undecayed(x).squeeze(1).tolist()  # u = 1.5 (spike), then 0.5·1.5 + 0.8 − 1 = 0.55
        [1.0, 0.0]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        leak: float = 1.0,
        *,
        learn: Collection[Learnable] = (),
        reset: kernels.Reset = "soft",
        initial: Literal["zero", "half"] = "zero",
        height: Literal["unit", "threshold"] = "unit",
        surrogate: Surrogate = Triangle(),
    ) -> None:
        super().__init__()
        _check_range(threshold, leak)
        _check_choices(learn, reset, initial, height)
        self.learn = tuple(sorted(learn))
        self.dynamics = kernels.Dynamics(reset, initial, height, surrogate)
        self.threshold = nn.Parameter(
            torch.tensor(float(threshold)), requires_grad="threshold" in learn
        )
        self.leak = nn.Parameter(torch.tensor(float(leak)), requires_grad="leak" in learn)

    def forward(self, x_TN: Tensor) -> Tensor:
        """Spikes of all timesteps, ``[T, N, ...]`` in the dtype of the input of that shape."""
        return kernels.lif(x_TN, self.leak, self.threshold, self.dynamics)

    def step(self, x_N: Tensor, membrane_N: Tensor | None) -> tuple[Tensor, Tensor]:
        """One timestep for streaming: spikes ``[N, ...]`` and the next membrane ``[N, ...]``."""
        return kernels.lif_step(membrane_N, x_N, self.leak, self.threshold, self.dynamics)

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """λ into [0, 1], v to at least 1e-4."""
        self.leak.clamp_(0.0, 1.0)
        self.threshold.clamp_(min=SMALLEST_THRESHOLD)

    def extra_repr(self) -> str:
        """The neuron's settings, for ``print(network)``."""
        d = self.dynamics
        return (
            f"threshold={self.threshold.item():.4g}, leak={self.leak.item():.4g}, "
            f"learn={self.learn}, reset={d.reset!r}, initial={d.initial!r}, height={d.height!r}, "
            f"surrogate={d.surrogate}"
        )


def _check_range(threshold: float, leak: float) -> None:
    if not (math.isfinite(threshold) and threshold >= SMALLEST_THRESHOLD):
        raise LeanspikeError(f"threshold is {threshold}; give {SMALLEST_THRESHOLD} or more")
    if not 0.0 <= leak <= 1.0:
        raise LeanspikeError(f"leak is {leak}; give a number from 0 to 1 (1: no leak)")


def _check_choices(learn: Collection[str], reset: str, initial: str, height: str) -> None:
    if isinstance(learn, str) or not set(learn) <= set(get_args(Learnable)):
        raise LeanspikeError(f'learn is {learn!r}; give a tuple of "leak" and "threshold"')
    for name, value, choices in (
        ("reset", reset, get_args(kernels.Reset)),
        ("initial", initial, ("zero", "half")),
        ("height", height, ("unit", "threshold")),
    ):
        if value not in choices:
            raise LeanspikeError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
