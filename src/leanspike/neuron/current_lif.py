"""The current-based leaky integrate-and-fire neuron: its synapse is a filter with a leak."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from leanspike.backends.reference import initial_membrane
from leanspike.neuron import kernels
from leanspike.neuron.protocol import Cost, neurons
from leanspike.neuron.record import NeuronRecord
from leanspike.neuron.threshold import (
    Per,
    ThresholdConfig,
    ThresholdNeuron,
    Value,
    checked_floor,
)
from leanspike.section import Positive, Share
from leanspike.surrogate import Surrogate, Triangle

Learnable = Literal["leak", "synapse_leak", "threshold"]
State = tuple[Tensor, Tensor]


class CurrentLIFConfig(ThresholdConfig):
    """Options of the current-based LIF neuron, whose synapse has a leak, too."""

    synapse_leak: Share = Field(
        0.5,
        description="The share of the synapse's current left after a step; 0 makes it LIF.",
    )
    learn: tuple[Learnable, ...] = Field(
        ("leak", "synapse_leak", "threshold"),
        description="Which of the three are trained; the others keep their value.",
    )
    floor: Positive | None = Field(
        None,
        description="The membrane never falls below minus this many thresholds; chips use 1.",
    )


@neurons.register("cuba_lif")
@final
class CurrentLIF(ThresholdNeuron):
    """Current-based leaky integrate-and-fire neurons: a current i and a membrane u.

    At each step t, for the input x_t::

        i ← x_t + α·(i − x_t)   current of the synapse, from 0
        u ← λ·u + i             membrane

    The rest follows from u as in :class:`leanspike.LIF`. The source is Davies et al. 2018, "Loihi",
    IEEE Micro 38(1). There the current is the input filtered by a decaying exponential of area 1.
    In discrete steps that is α·i + (1 − α)·x_t. Neftci et al. 2019, arXiv 1901.09948, leave out
    the factor 1 − α, which only scales the weights. A constant input x becomes a current of x for
    every α. So thresholds and their calibration mean the same as for LIF.

    Args: see :class:`leanspike.LIF`, and
        synapse_leak: α in [0, 1]; 0 is LIF, 1 lets nothing in.

    Example:
        >>> neuron = CurrentLIF(threshold=1.0, synapse_leak=0.5)
        >>> x = torch.tensor([[1.0], [1.0], [0.0]])  # [T, N] = [3, 1]
        >>> neuron(x).squeeze(1).tolist()  # i = 0.5, 0.75, 0.375; u = 0.5, 1.25 (spike), 0.625
        [0.0, 1.0, 0.0]
        >>> o, (i, u) = neuron.step(x[0], None)
        >>> i.item(), u.item()
        (0.5, 0.5)
    """

    Config = CurrentLIFConfig
    remembers = ("current", "membrane")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **ThresholdNeuron.ranges,
        "synapse_leak": (0.0, 1.0),
    }

    synapse_leak: Tensor

    def __init__(
        self,
        threshold: Value = 1.0,
        leak: Value = 1.0,
        synapse_leak: Value = 0.5,
        *,
        learn: Collection[Learnable] = (),
        reset: kernels.Reset = "soft",
        initial: Literal["zero", "half"] = "zero",
        height: Literal["unit", "threshold"] = "unit",
        surrogate: Surrogate = Triangle(),
        per: Per = "layer",
        floor: float | None = None,
    ) -> None:
        values = {"threshold": threshold, "leak": leak, "synapse_leak": synapse_leak}
        dynamics = kernels.Dynamics(reset, initial, height, surrogate, checked_floor(floor))
        super().__init__(values, learn, per, dynamics)

    @property
    def options(self) -> dict[str, Any]:
        """See :attr:`Neuron.options`."""
        return {**super().options, "floor": self.dynamics.floor}

    def record(self) -> NeuronRecord:
        """Return the numbers of these neurons."""
        v, leak, synapse = (self.get_parameter(name).detach() for name in self.ranges)
        d = self.dynamics
        return NeuronRecord(v, leak, synapse, d.reset, d.initial, d.height, d.floor)

    def initial(self, x_N: Tensor) -> State:
        """Return current and membrane before the first step, ``[N, ...]`` each."""
        u_N = initial_membrane(x_N, self.threshold, self.dynamics)
        return torch.zeros_like(u_N), u_N

    def forward(self, x_TN: Tensor) -> Tensor:
        """Return the spikes of all timesteps, ``[T, N, ...]``, in the dtype of the input."""
        self.check_sized()
        i_N = torch.zeros_like(x_TN[0], dtype=torch.promote_types(x_TN.dtype, torch.float32))
        currents = []
        for x_N in x_TN:
            i_N = self._current(x_N, i_N)
            currents.append(i_N)
        i_TN = torch.cat(currents).view(x_TN.shape)
        return kernels.lif(i_TN, self.leak, self.threshold, self.dynamics).to(x_TN.dtype)

    def step(self, x_N: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Compute one timestep: spikes ``[N, ...]``, and the next current and membrane."""
        self.check_sized()
        i_N, u_N = self.initial(x_N) if state is None else state
        i_N = self._current(x_N, i_N)
        o_N, u_N = kernels.lif_step(u_N, i_N, self.leak, self.threshold, self.dynamics)
        return o_N.to(x_N.dtype), (i_N, u_N)

    def memory(self, timesteps: int) -> Tensor:
        """Return what the synapse has let in so far, without what has leaked away."""
        kept_T, synapse = super().memory(timesteps), self.synapse_leak.detach().cpu().mean()
        enters_T = (1 - synapse) * synapse ** torch.arange(timesteps)
        return torch.stack([kept_T[: j + 1].flip(0) @ enters_T[: j + 1] for j in range(timesteps)])

    def update_cost(self) -> Cost:
        """Return LIF's cost plus an addition and a multiply-accumulate for the current."""
        membrane = super().update_cost()
        filtered = (self.synapse_leak.detach() != 0).double().mean().item()
        return Cost(macs=membrane.macs + filtered, acs=membrane.acs + filtered)

    def _current(self, x_N: Tensor, i_N: Tensor) -> Tensor:
        return x_N + self.synapse_leak * (i_N - x_N)
