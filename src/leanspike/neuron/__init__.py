"""Spiking neurons and the surrogate derivatives they are trained with."""

from leanspike.neuron.lif import LIF, Neuron
from leanspike.surrogate import (
    SURROGATES,
    Arctan,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

__all__ = [
    "LIF",
    "SURROGATES",
    "Arctan",
    "Neuron",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "Triangle",
]
