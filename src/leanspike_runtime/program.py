"""The program that an engine runs: layers, pools and moves of entries, on numbered edges.

An edge is an image ``[H, W, C]``. A vector of C numbers is an image of one pixel. Edge 0 is the
input, edge k is the output of node k - 1. Its form is "analog" (float32), "spikes" (bits) or
"counts" (whole numbers up to 255: how many spikes lie under an entry).

A layer computes, at each step t::

    current[t] = shift[t] + Σ_s scale_s[t] · (W_s ∗ edge_s[t])        in float32, in this order
    u ← λ·u + current[t];  o = 1[u/v − 1 > 0]                         and a reset, if it has neurons

T timesteps, N samples; H rows, W columns, C channels, O output channels, S rows of a table: 1 (the
same at each step) or T.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from numpy import ndarray

from leanspike_runtime.library import MOST_STEPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:  # numpy.typing takes longer to import than all of this
    Array = ndarray
Form = Literal["analog", "spikes", "counts"]
Shape = tuple[int, int, int]
Pair = tuple[int, int]

MOST_ENTRIES = 2**28
MOST_CHANNELS = 2**16
LARGEST = {"i8": 127, "i6": 31}
"""The largest absolute value of a weight of each whole-number type."""


@dataclass(frozen=True)
class Input:
    """The input: its shape, whether it is the same at each step, and its constants for pixels.

    With ``mean`` and ``std``, one number for each channel, pixels from 0 to 1 become
    (x - mean)/std. ``classes`` are the names of the outputs. Fields that are not known are None.
    """

    shape: Shape
    static: bool
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Synapse:
    """The weights by which a layer reads an edge.

    ``kind``: "conv"; "linear", which reads all entries in the order ``[H, W, C]``; "same", which
    adds the edge itself. ``weights``: ``[kh, kw, I/groups, O]``, for "linear" ``[1, 1, I, O]``, of
    the ``type`` "f32" (float32), "i8" or "i6" (int8); None for "same". ``scale``: ``[S, O]``.
    """

    edge: int
    kind: Literal["conv", "linear", "same"]
    scale: Array
    weights: Array | None = None
    type: Literal["f32", "i8", "i6"] = "f32"
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Neuron:
    """Leaks λ and thresholds v in float32: one for the layer, each channel or each entry.

    ``initial`` is the membrane before the first step, in thresholds. Membranes after a step are
    −``floor`` thresholds or more; None sets no lower bound.
    """

    leak: Array
    threshold: Array
    reset: Literal["soft", "hard", "undecayed"] = "soft"
    initial: float = 0.0
    floor: float | None = None


@dataclass(frozen=True)
class Layer:
    """A sum of synapses, with neurons (the output is spikes) or without (it is the current)."""

    path: str
    shape: Shape
    form: Form
    synapses: tuple[Synapse, ...]
    shift: Array
    neuron: Neuron | None

    @property
    def edges(self) -> tuple[int, ...]:
        """The edges that it reads."""
        return tuple(synapse.edge for synapse in self.synapses)


@dataclass(frozen=True)
class Pool:
    """A pool. ``max_pool`` is the maximum of a window (of spikes: whether any), -∞ outside the
    image. ``sum_pool`` is the sum; of spikes and counts it is counts."""

    node: Literal["max_pool", "sum_pool"]
    path: str
    shape: Shape
    form: Form
    edges: tuple[int]
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class Concat:
    """Edges of one form, joined along the channels."""

    path: str
    shape: Shape
    form: Form
    edges: tuple[int, ...]


@dataclass(frozen=True)
class Pad:
    """Zeros around an edge: above, below, left, right."""

    path: str
    shape: Shape
    form: Form
    edges: tuple[int]
    padding: tuple[int, int, int, int]


@dataclass(frozen=True)
class Upsample:
    """Each pixel repeated, by whole factors of rows and columns."""

    path: str
    shape: Shape
    form: Form
    edges: tuple[int]
    factors: Pair


@dataclass(frozen=True)
class Relabel:
    """The same entries in the order ``[H, W, C]``, in another shape."""

    path: str
    shape: Shape
    form: Form
    edges: tuple[int]


Node = Layer | Pool | Concat | Pad | Upsample | Relabel


@dataclass(frozen=True)
class Program:
    """Nodes in order. ``output`` is the edge of the logits, analog, ``[1, 1, K]``.

    ``readout`` is the readout of the training: "sum" or "mean" of the logits of the steps so far.

    Raises:
        EngineError: for a program that does not fit together, with the path of the node.

    >>> import numpy as np
    >>> zeros, ones = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    >>> same = Layer("out", (1, 1, 1), "analog", (Synapse(0, "same", ones),), zeros, None)
    >>> Program("hand", 2, "sum", Input((1, 1, 1), static=True), (same,), 1).statics
    (True, True)
    >>> Program("hand", 2, "sum", Input((1, 1, 2), static=True), (same,), 1)
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: node 0 (out): "same" reads (1, 1, 2) and makes (1, 1, 1)
    """

    made_by: str
    timesteps: int
    readout: Literal["sum", "mean"]
    input: Input
    nodes: tuple[Node, ...]
    output: int

    def __post_init__(self) -> None:
        from leanspike_runtime.checks import check

        check(self)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each edge."""
        return (self.input.shape, *(node.shape for node in self.nodes))

    @property
    def forms(self) -> tuple[Form, ...]:
        """The form of each edge."""
        return ("analog", *(node.form for node in self.nodes))

    @property
    def most_steps(self) -> int:
        """The largest number of steps: `timesteps` if a table has a row for each, else any."""
        rows = [
            len(table)
            for node in self.nodes
            if isinstance(node, Layer)
            for table in (node.shift, *(synapse.scale for synapse in node.synapses))
        ]
        return self.timesteps if max(rows, default=1) > 1 else MOST_STEPS

    @property
    def statics(self) -> tuple[bool, ...]:
        """Whether each edge is the same at each step, since it depends on static edges only."""
        found = [self.input.static]
        for node in self.nodes:
            same = all(found[edge] for edge in node.edges)
            if isinstance(node, Layer):
                tables = [node.shift, *(synapse.scale for synapse in node.synapses)]
                same = same and node.neuron is None and all(len(table) == 1 for table in tables)
            found.append(same)
        return tuple(found)
