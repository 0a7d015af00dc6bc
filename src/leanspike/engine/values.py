"""Values between two layers of a program: sums of edges that are not added up yet.

All that is linear between neurons is moved into scales, shifts and weights, in float64. C channels;
S rows of a table, 1 or one for each timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

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
    """An edge that is read directly: channel c of the value is scale·edge[pick[c]].

    ``pick`` is ``[C]``, with -1 for no channel. ``scale`` is ``[S, C]``.
    """

    edge: int
    pick: Array
    scale: Array

    def scaled(self, scale: Array) -> Term:
        """Return the term times a table."""
        return replace(self, scale=self.scale * scale)


@dataclass(frozen=True)
class Value:
    """A sum of ``terms``, of edges with weights (``weighted``), and of a ``shift``.

    ``shape`` is the shape of a sample in the network, ``(C, ...)``. Vectors have one axis.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    weighted: tuple[Synapse, ...]
    shift: Array

    @staticmethod
    def of(edge: int, shape: Sequence[int], scale: Array | float = 1.0) -> Value:
        """Return the value of an edge times a scale."""
        channels = shape[0]
        scales = np.broadcast_to(np.asarray(scale, np.float64), (1, channels))
        term = Term(edge, np.arange(channels), scales)
        return Value(tuple(shape), (term,), (), np.zeros((1, channels)))

    @property
    def image(self) -> Shape:
        """The shape ``(H, W, C)``."""
        channels, *pixels = self.shape
        height, width = (1, 1, *pixels)[-2:]
        return height, width, channels

    def scaled(self, scale: Array) -> Value:
        """Return the value times a table ``[S, C]``."""
        return replace(
            self,
            terms=tuple(term.scaled(scale) for term in self.terms),
            weighted=tuple(replace(part, scale=part.scale * scale) for part in self.weighted),
            shift=self.shift * scale,
        )

    def plus(self, other: Value | Array) -> Value:
        """Return the sum with another value of the same shape, or with a table."""
        if not isinstance(other, Value):
            return replace(self, shift=self.shift + other)
        return Value(
            self.shape,
            (*self.terms, *other.terms),
            (*self.weighted, *other.weighted),
            self.shift + other.shift,
        )


@dataclass(frozen=True)
class Weighted:
    """A call of a layer with weights: its path, its own weights, and the synapses they became."""

    path: str
    weights: Tensor
    synapses: tuple[Synapse, ...]


class Builder:
    """Collects the nodes of a program, each with the facts of its edge."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes: list[Shape] = [shape]
        self.forms: list[Form] = ["analog"]
        self.under: list[int] = [1]
        self.weighted: list[Weighted] = []

    def add(self, node: Node, under: int = 1) -> int:
        """Add a node, with at most ``under`` spikes under an entry; return its edge's number."""
        self.nodes.append(node)
        self.shapes.append(node.shape)
        self.forms.append(node.form)
        self.under.append(under)
        return len(self.nodes)

    def layer(
        self, path: str, value: Value, neuron: Neuron | None = None, in_order: bool = False
    ) -> Value:
        """Add a layer that adds up a value, with its neurons; return its output, unscaled.

        With ``in_order`` its edge has the channels in the value's order, whatever that costs.
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
        """Return the order of a vector's channels in its edges, if all terms share a new order."""
        picks = {tuple(term.pick.tolist()) for term in value.terms}
        if value.weighted or len(picks) != 1 or prod(value.image[:2]) != 1:
            return None
        (pick,) = picks
        ordered, whole = list(range(len(pick))), sorted(pick)
        sizes = {self.shapes[term.edge][2] for term in value.terms}
        return np.array(pick) if whole == ordered != list(pick) and sizes == {len(pick)} else None

    def _read(self, term: Term, straight: bool) -> Synapse:
        """Return a synapse that adds an edge, by weights of 0 and 1 if channels move."""
        channels = self.shapes[term.edge][2]
        if straight or self.is_plain(term):
            return Synapse(term.edge, "same", term.scale)
        weights = np.zeros((1, 1, channels, len(term.pick)), np.float32)
        (there,) = np.nonzero(term.pick >= 0)
        weights[0, 0, term.pick[there], there] = 1
        return Synapse(term.edge, "conv", term.scale, weights)

    def is_plain(self, term: Term) -> bool:
        """Return whether a term has its edge's channels in their order."""
        return np.array_equal(term.pick, np.arange(self.shapes[term.edge][2]))

    def summed(self, path: str, value: Value) -> Value:
        """Return the value as an analog edge of its own."""
        return self.layer(path, value)

    def alone(self, path: str, value: Value) -> Value:
        """Return the value without weights; it is added up if there are any."""
        return self.summed(path, value) if value.weighted else value

    def unshifted(self, path: str, value: Value) -> Value:
        """Return the value without weights and without a shift, which zero padding would lack."""
        return self.summed(path, value) if value.shift.any() else self.alone(path, value)

    def each(self, value: Value, node: Callable[[int], int]) -> Value:
        """Return the value with each edge passed through a node."""
        found: dict[int, int] = {}
        for term in value.terms:
            if term.edge not in found:
                found[term.edge] = node(term.edge)
        terms = (replace(term, edge=found[term.edge]) for term in value.terms)
        return replace(value, terms=tuple(terms))

    def is_sum(self, value: Value) -> bool:
        """Return whether a value is a single analog edge."""
        if len(value.terms) != 1 or value.weighted or value.shift.any():
            return False
        (term,) = value.terms
        plain = self.is_plain(term) and bool((term.scale == 1).all())
        return plain and self.forms[term.edge] == "analog"

    def sum_pool(self, edge: int, path: str, size: Pair, window: dict[str, Any]) -> int:
        """Add sums over windows. More spikes than a count can hold become numbers."""
        under, channels = self.under[edge] * prod(window["kernel"]), self.shapes[edge][2]
        if self.forms[edge] != "analog" and under > MOST_COUNTED:
            zeros, ones = (_float32(np.full((1, channels), each)) for each in (0, 1))
            same = Synapse(edge, "same", ones)
            edge = self.add(Layer(path, self.shapes[edge], "analog", (same,), zeros, None))
        form: Form = "analog" if self.forms[edge] == "analog" else "counts"
        pool = Pool("sum_pool", path, (*size, channels), form, (edge,), **window)
        return self.add(pool, under)


def permuted(neuron: Neuron, order: Array) -> Neuron:
    """Return the neuron with its values in another order of channels."""
    pair = (
        values if values.size == 1 else values[order] for values in (neuron.leak, neuron.threshold)
    )
    leak, threshold = pair
    return replace(neuron, leak=leak, threshold=threshold)


def _float32(table: Array) -> Array:
    """Return a table in float32, with one row if all rows are the same."""
    same = len(table) > 1 and bool((table == table[0]).all())
    return np.ascontiguousarray(table[:1] if same else table, np.float32)
