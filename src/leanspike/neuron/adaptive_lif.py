"""The adaptive leaky integrate-and-fire neuron: its threshold rises with its spikes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, final, get_args

import torch
from pydantic import Field
from torch import Tensor

from leanspike.backends.reference import initial_membrane
from leanspike.neuron.kernels import Dynamics
from leanspike.neuron.protocol import Cost, neurons
from leanspike.neuron.threshold import Per, ThresholdConfig, ThresholdNeuron, Value
from leanspike.section import NonNegative, Share
from leanspike.surrogate import Surrogate, Triangle

Learnable = Literal["adaptation", "adaptation_leak", "leak", "threshold"]
Reset = Literal["soft", "hard"]
State = tuple[Tensor, Tensor]


class AdaptiveLIFConfig(ThresholdConfig):
    """Options of the LIF neuron whose threshold rises with each spike, and falls back."""

    adaptation: NonNegative = Field(
        0.5,
        description="The share by which spikes raise the threshold; 0 makes it the LIF neuron.",
    )
    adaptation_leak: Share = Field(
        0.9, description="The share of that rise which is left after a step."
    )
    learn: tuple[Learnable, ...] = Field(
        ("adaptation", "adaptation_leak", "leak", "threshold"),
        description="Which of the four are trained; the others keep their value.",
    )
    reset: Reset = Field(
        "soft", description="After a spike: subtract the threshold of the step, or go to 0."
    )


@neurons.register("adaptive_lif")
@final
class AdaptiveLIF(ThresholdNeuron):
    """Adaptive leaky integrate-and-fire neurons: a membrane u and a trace b of their spikes.

    At each step t, for the input x_t::

        v_t = v·(1 + β·b)       threshold of the step, b from 0
        u ← λ·u + x_t           membrane
        o_t = 1[u/v_t − 1 > 0]  spike
        u ← u − v_t·o_t         soft reset   (hard: u ← 0 where o_t = 1)
        b ← ρ·b + (1 − ρ)·o_t   trace

    The source is Bellec et al. 2018, arXiv 1803.09574, section 2. There the input is scaled by
    1 − λ, and β is in units of the input instead of v. The trace carries gradients. The comparison
    inside the reset does not. A spike of height "threshold" has the height v, not v_t.

    Args: see :class:`leanspike.LIF`; the reset "undecayed" does not exist here. In addition
        adaptation: β, 0 or more; 0 is LIF.
        adaptation_leak: ρ in [0, 1].

    Example:
        >>> neuron = AdaptiveLIF(threshold=1.0, adaptation=1.0, adaptation_leak=0.5)
        >>> x = torch.tensor([[1.25], [1.25], [1.25]])  # [T, N] = [3, 1]
        >>> neuron(x).squeeze(1).tolist()  # u/v_t = 1.25/1 (spike), 1.5/1.5, 2.75/1.25 (spike)
        [1.0, 0.0, 1.0]
    """

    Config = AdaptiveLIFConfig
    remembers = ("membrane", "trace")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **ThresholdNeuron.ranges,
        "adaptation": (0.0, math.inf),
        "adaptation_leak": (0.0, 1.0),
    }

    adaptation: Tensor
    adaptation_leak: Tensor

    def __init__(
        self,
        threshold: Value = 1.0,
        leak: Value = 1.0,
        adaptation: Value = 0.5,
        adaptation_leak: Value = 0.9,
        *,
        learn: Collection[Learnable] = (),
        reset: Reset = "soft",
        initial: Literal["zero", "half"] = "zero",
        height: Literal["unit", "threshold"] = "unit",
        surrogate: Surrogate = Triangle(),
        per: Per = "layer",
    ) -> None:
        values = {
            "threshold": threshold,
            "leak": leak,
            "adaptation": adaptation,
            "adaptation_leak": adaptation_leak,
        }
        super().__init__(values, learn, per, Dynamics(reset, initial, height, surrogate))

    def initial(self, x_N: Tensor) -> State:
        """Return membrane and trace before the first step, ``[N, ...]`` each."""
        u_N = initial_membrane(x_N, self.threshold, self.dynamics)
        return u_N, torch.zeros_like(u_N)

    def step(self, x_N: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Compute one timestep: spikes ``[N, ...]``, and the next membrane and trace."""
        self.check_sized()
        u_N, b_N = self.initial(x_N) if state is None else state
        v_N = self.threshold + (self.threshold * self.adaptation) * b_N
        u_N = self.leak * u_N + x_N
        o_N = self.dynamics.surrogate.spike(u_N / v_N - 1)
        fired_N = o_N.detach()
        if self.dynamics.reset == "soft":
            u_N = u_N - v_N * fired_N
        else:
            u_N = torch.where(fired_N > 0, 0.0, u_N)
        b_N = self.adaptation_leak * b_N + (1 - self.adaptation_leak) * o_N
        if self.keeps_scale():
            o_N = self.threshold * o_N
        return o_N.to(x_N.dtype), (u_N, b_N)

    def update_cost(self) -> Cost:
        """Return the cost of LIF's membrane plus multiply-accumulates for threshold and trace."""
        membrane = super().update_cost()
        adapting = (self.adaptation.detach() != 0).double().mean().item()
        return Cost(macs=membrane.macs + 2 * adapting, acs=membrane.acs)

    def _resets(self) -> tuple[str, ...]:
        return get_args(Reset)
