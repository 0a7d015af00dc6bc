"""Quantising weights to whole numbers of 8 or 6 bits, with a scale for each output channel.

No labels are needed. For each output the scale s with the smallest error of the current is sought::

    q = round(w/s), |q| ≤ 127 (8 bits) or 31 (6 bits)       Σ_i E[x_i²]·(w_i − s·q_i)²  →  least

x_i is what enters: how often its channel spikes, or the mean square of its counts. What the error
adds to the current on the mean, Σ_i E[x_i]·(w_i − s·q_i), goes into the layer's shift.

Weights that are whole multiples of one number already stay as they are: those of
:mod:`leanspike.engine.whole`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from leanspike_runtime.program import LARGEST, Array, Layer, Program, Synapse
from leanspike_runtime.reference import Reference

WEIGHTS = {"f32": "f32", "int8": "i8", "int6": "i6"}
"""The kinds of weights in a program, and their names in its file."""

SAME = 1e-4
"""How far a weight may be from a whole multiple, in steps: that much rounding in float32 leaves."""
FIRST = 64
"""The number of weights of each output that are tested first for whole multiples."""
SHARES = np.linspace(0.4, 1.0, 31)
"""The tried shares of the scale that clips nothing. With smaller ones large weights are clipped."""


@dataclass(frozen=True)
class Moments:
    """E[x] and E[x²] of an edge's channels, ``[C]``, over pixels, steps and images."""

    mean: Array
    square: Array


def moments(program: Program, images: Array | None) -> list[Moments]:
    """Return the moments of each edge. Without images all channels count the same.

    ``images`` are as the program takes them. Some dozens are enough.
    """
    if images is None:
        blind = [np.ones(shape[2]) for shape in program.shapes]
        return [Moments(np.zeros_like(ones), ones) for ones in blind]
    found: dict[int, Moments] = {}

    def see(edge: int, values: Array) -> None:
        entries = values.reshape(-1, values.shape[-1])
        mean = entries.mean(0, dtype=np.float64)
        found[edge] = Moments(mean, np.square(entries, dtype=np.float64).mean(0))

    Reference(program).run(images, watch=see)
    return [found[edge] for edge in range(len(program.shapes))]


def quantised(program: Program, weights: str, entering: Sequence[Moments]) -> Program:
    """Return the program with whole-number weights in layers that spikes or counts enter.

    ``weights`` is "int8" or "int6". Layers with analog input keep weights in float32.

    >>> from leanspike_runtime.program import Input, Neuron
    >>> table, one = np.full((1, 1), 2.0, np.float32), np.ones(1, np.float32)
    >>> fires = Layer("0", (1, 1, 1), "spikes", (Synapse(0, "same", table),), 0 * table,
    ...               Neuron(one, one))
    >>> read = Synapse(1, "linear", table, np.full((1, 1, 1, 1), 0.25, np.float32))
    >>> out = Layer("1", (1, 1, 1), "analog", (read,), 0 * table, None)
    >>> program = Program("hand", 1, "sum", Input((1, 1, 1), static=True), (fires, out), 2)
    >>> made = quantised(program, "int8", moments(program, None)).nodes[1].synapses[0]
    >>> made.weights.item(), round(float(made.scale.item() * made.weights.item()), 6)
    (127, 0.5)
    """
    nodes = tuple(
        _layer(program, node, WEIGHTS[weights], entering) if isinstance(node, Layer) else node
        for node in program.nodes
    )
    return replace(program, nodes=nodes)


def _layer(program: Program, node: Layer, kind: str, entering: Sequence[Moments]) -> Layer:
    shift, synapses = node.shift.astype(np.float64), []
    for synapse in node.synapses:
        analog = program.forms[synapse.edge] == "analog"
        if analog or synapse.weights is None:
            synapses.append(synapse)
            continue
        made, left = rounded(synapse, kind, _spread(synapse, entering))
        synapses.append(made)
        shift = shift + synapse.scale * left
    return replace(node, synapses=tuple(synapses), shift=shift.astype(np.float32))


def _spread(synapse: Synapse, entering: Sequence[Moments]) -> Moments:
    """Return the moments in the shape of the weights: ``[I, O]``, or ``[I, 1]`` without groups."""
    seen, weights = entering[synapse.edge], synapse.weights
    assert weights is not None
    if synapse.kind == "linear":  # which reads all pixels of a channel
        pixels = weights.shape[2] // len(seen.mean)
        return Moments(np.tile(seen.mean, pixels)[:, None], np.tile(seen.square, pixels)[:, None])
    groups, outputs = synapse.groups, weights.shape[3]

    def each(values: Array) -> Array:
        by_group: Array = values.reshape(groups, -1).repeat(outputs // groups, 0).T
        return by_group

    return Moments(each(seen.mean), each(seen.square))


def rounded(synapse: Synapse, kind: str, seen: Moments) -> tuple[Synapse, Array]:
    """Return whole numbers for weights, and the mean error of the current, ``[O]``."""
    assert synapse.weights is not None
    weights, most = synapse.weights.astype(np.float64), LARGEST[kind]
    steps = steps_of(weights, most)
    scale = np.where(steps > 0, steps, _searched(weights, most, seen)).astype(np.float32)
    whole = np.clip(np.round(weights / scale), -most, most)
    left = ((weights - scale * whole) * seen.mean).sum((0, 1, 2))
    made = replace(
        synapse,
        weights=whole.astype(np.int8),
        type=kind,  # type: ignore[arg-type]
        scale=synapse.scale * scale,
    )
    return made, left


def _searched(weights: Array, most: int, seen: Moments) -> Array:
    """Return the scale of each output, ``[O]``, with the smallest error of its current."""
    peak: Array = np.abs(weights).max((0, 1, 2))
    peak[peak == 0] = most  # all weights 0: any scale does
    least, scale = np.full(peak.shape, np.inf), peak / most
    for share in SHARES:
        tried = share * peak / most
        off = weights - tried * np.clip(np.round(weights / tried), -most, most)
        error = (off**2 * seen.square).sum((0, 1, 2))
        better = error < least
        least, scale = np.where(better, error, least), np.where(better, tried, scale)
    return scale


def steps_of(weights: Array, most: int) -> Array:
    """Return what each output's weights are multiples of, by whole numbers up to ``most``: ``[O]``.

    ``weights``: ``[..., O]``. 0 for an output whose weights are no such multiples, or are all 0.

    >>> steps_of(np.array([[0.5, 0.5], [-1.5, 0.3]]), 3).tolist()
    [0.5, 0.0]
    """
    rows = np.abs(weights).reshape(-1, weights.shape[-1])
    peak, found = rows.max(0), np.zeros(rows.shape[1])
    for largest in range(most, 0, -1):
        (left,) = np.nonzero((found == 0) & (peak > 0))
        steps = peak[left] / largest
        for some in (rows[:FIRST], rows):
            multiples = some[:, left] / steps
            whole = (np.abs(multiples - np.round(multiples)) < SAME).all(0)
            left, steps = left[whole], steps[whole]
        found[left] = steps
    return found
