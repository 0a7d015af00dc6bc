"""A neuron as numbers, by which other libraries have it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from leanspike.backends import Reset


@dataclass(frozen=True, eq=False)
class NeuronRecord:
    """What a leaky neuron computes, without its surrogate derivative and what is trained.

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
        floor: after each step u is raised to −floor·v where it is lower; None: it is not.

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
    """A neuron that is no more than such a record, so that it can leave for other libraries."""

    def record(self) -> NeuronRecord:
        """Return its numbers as they are now, detached."""
