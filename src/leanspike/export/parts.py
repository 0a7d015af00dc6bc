"""The network of one step in the few parts that other libraries have, too.

Shapes are those of one sample, without N. A part reads the sum of its sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from leanspike.neuron import NeuronRecord

Shape = tuple[int, ...]
INPUT = "input"
"""The name of the network's input among the sources of parts."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution over images or sequences, padded with zeros.

    ``weight`` is ``[K, C / groups, ...]``, ``bias`` is ``[K]`` or None. ``blocks`` is the number
    of its groups, if it is written without groups. The other fields have a number for each axis.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    blocks: int = 1


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer: ``weight`` ``[K, C]``, ``bias`` ``[K]`` or None."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class SumPool:
    """Sums over windows of an image: kernel, stride and padding of its two axes."""

    kernel: Shape
    stride: Shape
    padding: Shape = (0, 0)


@dataclass(frozen=True)
class Flatten:
    """A flatten of all axes of a sample into one."""


@dataclass(frozen=True, eq=False)
class Spiking:
    """A layer of neurons, whose spikes are 1."""

    record: NeuronRecord


Operation = Convolution | Dense | SumPool | Flatten | Spiking


@dataclass(frozen=True, eq=False)
class Part:
    """An operation with its path, the sources whose sum it reads, and the shapes in and out."""

    path: str
    operation: Operation
    sources: tuple[str, ...]
    inputs: Shape
    outputs: Shape


@dataclass(frozen=True, eq=False)
class Portable:
    """A whole network in parts, by name and in order. ``output`` names the parts to sum.

    ``input_shape`` is the shape of a sample at one step.
    """

    parts: Mapping[str, Part]
    input_shape: Shape
    output: tuple[str, ...]
    output_shape: Shape
    timesteps: int
