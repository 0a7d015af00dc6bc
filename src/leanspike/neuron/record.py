"""A layer of neurons as numbers, from which other libraries can build it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from leanspike.backends import Reset


@dataclass(frozen=True, eq=False)
class NeuronRecord:
    """The numbers that determine what leaky neurons compute, without what serves training only.

    At each step, for the input x_t::

        i ← x_t + α·(i − x_t)   current of the synapse, from 0
        u ← λ·u + i             membrane
        o_t = h·1[u > v]        spike, of height h
        u ← u − v where it fired ("soft"), or 0 ("hard")

    Attributes:
        threshold, leak, synapse_leak: v, λ, α; each one number, or of the shape of the channels or
            of the neurons.
        reset: "soft", "hard" or "undecayed".
        initial: the first membrane, 0 ("zero") or half a threshold ("half").
        height: h is 1 ("unit") or v ("threshold").
        floor: after each step u is raised to −floor·v where it is lower; None sets no lower bound.

    >>> from leanspike.neuron import create_neuron
    >>> create_neuron("lif", {"leak": 0.5}).record().leak.item()
    0.5
    """

    threshold: Tensor
    leak: Tensor
    synapse_leak: Tensor
    reset: Reset = "soft"
    initial: Literal["zero", "half"] = "zero"
    height: Literal["unit", "threshold"] = "unit"
    floor: float | None = None


@runtime_checkable
class Recorded(Protocol):
    """A neuron that such a record describes completely, so it can be exported."""

    def record(self) -> NeuronRecord:
        """Return the present numbers of the neurons, detached."""
