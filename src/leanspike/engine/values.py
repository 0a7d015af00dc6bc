"""What a network computes between two layers of a program: sums of edges, not yet added up.

Whatever is linear between neurons is moved into scales, shifts and weights, in float64. C channels,
S rows of a table: 1, or one for each timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from leanspike_runtime.program import (
    Array,
    Form,
    Layer,
    Neuron,
    Node,
    Pair,
    Pool,
    Shape,
    Synapse,
)

MOST_COUNTED = 255


@dataclass(frozen=True)
class Term:
    """An edge that is read as it is: channel c of the value is scale·edge[pick[c]].

    ``pick``: ``[C]``, -1 where there is nothing. ``scale``: ``[S, C]``.
    """

    edge: int
    pick: Array
    scale: Array

    def scaled(self, scale: Array) -> Term:
        """Times a table."""
        return replace(self, scale=self.scale * scale)


@dataclass(frozen=True)
class Value:
    """A sum: of ``terms``, of edges seen through weights (``weighted``), and of a ``shift``.

    ``shape``: that of a sample in the network, ``(C, ...)``; vectors have one axis.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    weighted: tuple[Synapse, ...]
    shift: Array

    @staticmethod
    def of(edge: int, shape: Sequence[int], scale: Array | float = 1.0) -> Value:
        """Return an edge times a scale."""
        channels = shape[0]
        scales = np.broadcast_to(np.asarray(scale, np.float64), (1, channels))
        term = Term(edge, np.arange(channels), scales)
        return Value(tuple(shape), (term,), (), np.zeros((1, channels)))

    @property
    def image(self) -> Shape:
        """``(H, W, C)``."""
        channels, *pixels = self.shape
        height, width = (1, 1, *pixels)[-2:]
        return height, width, channels

    def scaled(self, scale: Array) -> Value:
        """Times a table ``[S, C]``."""
        return replace(
            self,
            terms=tuple(term.scaled(scale) for term in self.terms),
            weighted=tuple(replace(part, scale=part.scale * scale) for part in self.weighted),
            shift=self.shift * scale,
        )

    def plus(self, other: Value | Array) -> Value:
        """And another of the same shape, or a table."""
        if not isinstance(other, Value):
            return replace(self, shift=self.shift + other)
        return Value(
            self.shape,
            (*self.terms, *other.terms),
            (*self.weighted, *other.weighted),
            self.shift + other.shift,
        )


class Builder:
    """Collects the nodes of a program, each with what is known of its edge."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes: list[Shape] = [shape]
        self.forms: list[Form] = ["analog"]
        self.under: list[int] = [1]

    def add(self, node: Node, under: int = 1) -> int:
        """The number of the edge that a node makes; so many spikes lie under an entry at most."""
        self.nodes.append(node)
        self.shapes.append(node.shape)
        self.forms.append(node.form)
        self.under.append(under)
        return len(self.nodes)

    def layer(
        self, path: str, value: Value, neuron: Neuron | None = None, in_order: bool = False
    ) -> Value:
        """Return a layer that adds up a value, and its neurons; what it emits, unscaled.

        ``in_order``: its edge has the channels as the value has them, whatever that costs.
        """
        order = None if in_order else self._order(value)
        if order is not None:  # of the edge, so that nothing is moved
            inverse = np.argsort(order)
            terms = [
                replace(term, pick=inverse, scale=term.scale[:, inverse]) for term in value.terms
            ]
            value = replace(value, terms=tuple(terms), shift=value.shift[:, inverse])
            neuron = neuron and permuted(neuron, inverse)
        form: Form = "analog" if neuron is None else "spikes"
        straight = order is not None
        synapses = *value.weighted, *(self._read(term, straight) for term in value.terms)
        made = tuple(replace(part, scale=_float32(part.scale)) for part in synapses)
        node = Layer(path, value.image, form, made, _float32(value.shift), neuron)
        emitted = Value.of(self.add(node), value.shape)
        if order is None:
            return emitted
        (term,) = emitted.terms
        return replace(emitted, terms=(replace(term, pick=order),))

    def _order(self, value: Value) -> Array | None:
        """Of a vector whose terms all lie in the same order of their edges, which is another."""
        picks = {tuple(term.pick.tolist()) for term in value.terms}
        if value.weighted or len(picks) != 1 or prod(value.image[:2]) != 1:
            return None
        (pick,) = picks
        ordered, whole = list(range(len(pick))), sorted(pick)
        sizes = {self.shapes[term.edge][2] for term in value.terms}
        return np.array(pick) if whole == ordered != list(pick) and sizes == {len(pick)} else None

    def _read(self, term: Term, straight: bool) -> Synapse:
        """A synapse that adds an edge itself; where channels move, through weights of 0 and 1."""
        channels = self.shapes[term.edge][2]
        if straight or self.is_plain(term):
            return Synapse(term.edge, "same", term.scale)
        weights = np.zeros((1, 1, channels, len(term.pick)), np.float32)
        (there,) = np.nonzero(term.pick >= 0)
        weights[0, 0, term.pick[there], there] = 1
        return Synapse(term.edge, "conv", term.scale, weights)

    def is_plain(self, term: Term) -> bool:
        """Return whether a term has its edge's channels as they are."""
        return np.array_equal(term.pick, np.arange(self.shapes[term.edge][2]))

    def summed(self, path: str, value: Value) -> Value:
        """Return the value as an edge of its own, which is analog."""
        return self.layer(path, value)

    def alone(self, path: str, value: Value) -> Value:
        """Return the same without weights in between: added up where there are any."""
        return self.summed(path, value) if value.weighted else value

    def unshifted(self, path: str, value: Value) -> Value:
        """Return the same without weights, and with no shift, which a border would not have."""
        return self.summed(path, value) if value.shift.any() else self.alone(path, value)

    def each(self, value: Value, node: Callable[[int], int]) -> Value:
        """Each edge of a value put through a node."""
        found: dict[int, int] = {}
        for term in value.terms:
            if term.edge not in found:
                found[term.edge] = node(term.edge)
        terms = (replace(term, edge=found[term.edge]) for term in value.terms)
        return replace(value, terms=tuple(terms))

    def is_sum(self, value: Value) -> bool:
        """Return whether a value is an analog edge, and nothing besides."""
        if len(value.terms) != 1 or value.weighted or value.shift.any():
            return False
        (term,) = value.terms
        plain = self.is_plain(term) and bool((term.scale == 1).all())
        return plain and self.forms[term.edge] == "analog"

    def sum_pool(self, edge: int, path: str, size: Pair, window: dict[str, Any]) -> int:
        """Sums over windows; more spikes than a count holds are summed as numbers."""
        under, channels = self.under[edge] * prod(window["kernel"]), self.shapes[edge][2]
        if self.forms[edge] != "analog" and under > MOST_COUNTED:
            zeros, ones = (_float32(np.full((1, channels), each)) for each in (0, 1))
            same = Synapse(edge, "same", ones)
            edge = self.add(Layer(path, self.shapes[edge], "analog", (same,), zeros, None))
        form: Form = "analog" if self.forms[edge] == "analog" else "counts"
        pool = Pool("sum_pool", path, (*size, channels), form, (edge,), **window)
        return self.add(pool, under)


def permuted(neuron: Neuron, order: Array) -> Neuron:
    """Return its values for each channel in another order."""
    pair = (
        values if values.size == 1 else values[order] for values in (neuron.leak, neuron.threshold)
    )
    leak, threshold = pair
    return replace(neuron, leak=leak, threshold=threshold)


def _float32(table: Array) -> Array:
    """A table in float32, of one row where all rows are the same."""
    same = len(table) > 1 and bool((table == table[0]).all())
    return np.ascontiguousarray(table[:1] if same else table, np.float32)
