"""The leaky integrate-and-fire neuron (LIF)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from leanspike.backends import Call, NormLIFCall, NormLIFRateCall, NormScale, Rates
from leanspike.backends.reference import initial_membrane
from leanspike.neuron import kernels
from leanspike.neuron.protocol import neurons
from leanspike.neuron.record import NeuronRecord
from leanspike.neuron.threshold import (
    Per,
    ThresholdConfig,
    ThresholdNeuron,
    Value,
    checked_floor,
)
from leanspike.section import Positive
from leanspike.surrogate import Surrogate, Triangle

Learnable = Literal["leak", "threshold"]


class LIFConfig(ThresholdConfig):
    """Options of the leaky integrate-and-fire (LIF) neuron; see ``leanspike.LIF``."""

    learn: tuple[Learnable, ...] = Field(
        ("leak", "threshold"),
        description="Which of the two are trained; the others keep their value.",
    )
    floor: Positive | None = Field(
        None,
        description="The membrane never falls below minus this many thresholds; chips use 1.",
    )


@neurons.register("lif")
@final
class LIF(ThresholdNeuron):
    """Leaky integrate-and-fire neurons with a leak λ and a threshold v.

    At each step t, for the input x_t::

        u ← λ·u + x_t           membrane
        z = u/v − 1             distance to the threshold
        o_t = 1[z > 0]          spike
        u ← u − v·o_t           soft reset   (hard: u ← 0 where o_t = 1)

    This is DIET-SNN's official code. With λ = 1 it is the integrate-and-fire neuron. In the paper
    (arXiv 2008.03658, eqs. 1-3) the amount that the reset subtracts does not leak::

        u_t = λ·u_{t-1} + x_t − v·o_{t-1}       undecayed reset; u is the membrane before it

    Args:
        threshold: v, above 0, in units of the input: a number, or a tensor with one for each
            channel (``[C, 1, 1]`` for images) or neuron.
        leak: λ in [0, 1]; 1 means no leak. A number, or a tensor as for the threshold.
        learn: which of "leak" and "threshold" are trained; the others keep their value.
        reset: "soft" (the papers' code), "hard" or "undecayed" (DIET-SNN's eq. 1); see above.
        initial: the membrane before the first step, "zero" (the papers') or "half" a threshold.
        height: the height of a spike, "unit" (1, the papers') or "threshold" (v·o_t, which keeps
            the scale of the activations that the neuron replaces).
        surrogate: the derivative of the spike; default the papers' triangle.
        per: "layer", "channel" or "neuron": each has a threshold and a leak of its own. A number
            is repeated for each when ``leanspike.spike`` puts the neuron in its place. Channels
            lie on the axis behind N. The native code computes "layer" only.
        floor: after each step u ← max(u, −floor·v); None sets no lower bound. Chips and sinabs
            use a floor of 1.

    Membranes are float32 (float64 for float64 input) whatever the autocast dtype. Gradients flow
    in ``eval()`` too. Calls leave no state behind: the same input gives the same spikes.

    Raises:
        LeanspikeError: for a value outside its range.

    Example:
        >>> import torch
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

    Config = LIFConfig
    remembers = ("membrane",)

    def __init__(
        self,
        threshold: Value = 1.0,
        leak: Value = 1.0,
        *,
        learn: Collection[Learnable] = (),
        reset: kernels.Reset = "soft",
        initial: Literal["zero", "half"] = "zero",
        height: Literal["unit", "threshold"] = "unit",
        surrogate: Surrogate = Triangle(),
        per: Per = "layer",
        floor: float | None = None,
    ) -> None:
        dynamics = kernels.Dynamics(reset, initial, height, surrogate, checked_floor(floor))
        super().__init__({"threshold": threshold, "leak": leak}, learn, per, dynamics)

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Neuron.options`."""
        return {**super().options, "floor": self.dynamics.floor}

    def record(self) -> NeuronRecord:
        """Return the numbers of these neurons, which filter no current."""
        v, leak, d = self.threshold.detach(), self.leak.detach(), self.dynamics
        return NeuronRecord(v, leak, torch.zeros_like(leak), d.reset, d.initial, d.height, d.floor)

    def initial(self, x_N: Tensor) -> Tensor:
        """Return the membrane before the first step, ``[N, ...]``."""
        return initial_membrane(x_N, self.threshold, self.dynamics)

    def forward(self, x_TN: Tensor) -> Tensor:
        """Return the spikes of all timesteps, ``[T, N, ...]``, in the dtype of the input."""
        self.check_sized()
        return kernels.lif(x_TN, self.leak, self.threshold, self.dynamics)

    def rates(self, x_TN: Tensor, learned: Sequence[str], arrival_T: Tensor | None = None) -> Rates:
        """See :meth:`Neuron.rates`."""
        self.check_sized()
        pair = self.leak, self.threshold
        return kernels.lif_rates(x_TN, *pair, self.dynamics, tuple(learned), arrival_T)

    def behind_norm(
        self,
        x_TN: Tensor,
        norm: NormScale,
        learned: tuple[str, ...] | None,
        arrival_T: Tensor | None = None,
    ) -> Call:
        """See :meth:`Neuron.behind_norm`."""
        self.check_sized()
        how = x_TN, norm, self.leak, self.threshold, self.dynamics
        return NormLIFCall(*how) if learned is None else NormLIFRateCall(*how, learned, arrival_T)

    def step(self, x_N: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute one timestep: spikes ``[N, ...]`` and the next membrane ``[N, ...]``."""
        self.check_sized()
        return kernels.lif_step(state, x_N, self.leak, self.threshold, self.dynamics)
