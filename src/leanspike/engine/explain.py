"""Explaining a program by its events, work and time, layer by layer, for some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from leanspike_runtime.program import Array, Layer, Program, Synapse
from leanspike_runtime.reference import Reference, summed


@dataclass(frozen=True)
class LayerWork:
    """A layer's mean work for one image over all steps.

    Attributes:
        path: the path of its neurons in the network, or of its weights if it has no neurons.
        runs: "event-driven", if spikes or counts of spikes enter, or "dense".
        why: the reason, in words.
        events: the spikes that enter, or lie under the counts that enter; None for analog input.
        density: the share of the entries that are not 0.
        weights: "f32", "i8" or "i6"; None for a layer that only adds up.
        accumulates: the accumulates of weights that events meet, without zero padding.
        multiplies: the multiply-accumulates of analog inputs.
        share: the layer's share of all accumulates and multiplies of the network.
        seconds: the time in native code, in one thread; None if it was not run.
        once: whether the input is the same at each step.

    >>> LayerWork("fc", "dense", "what enters is analog", None, None, "f32", 0.0, 6.0).multiplies
    6.0
    """

    path: str
    runs: Literal["event-driven", "dense"]
    why: str
    events: float | None
    density: float | None
    weights: str | None
    accumulates: float
    multiplies: float
    share: float = 0.0
    seconds: float | None = None
    once: bool = False


@dataclass(frozen=True)
class Explanation:
    """The layers in order, the seconds of other nodes between them, and the number of images.

    >>> Explanation((), None, images=16, timesteps=5).layers
    ()
    """

    layers: tuple[LayerWork, ...]
    between_seconds: float | None
    images: int
    timesteps: int


def explained(program: Program, x: Array, seconds: Sequence[float] | None = None) -> Explanation:
    """Return the explanation of a program for images ``x``, as the program takes them.

    ``seconds`` are the times of the nodes for all images, if they were measured.

    >>> from leanspike_runtime.program import Input
    >>> table = np.ones((1, 2), np.float32)
    >>> read = Synapse(0, "linear", table, np.ones((1, 1, 3, 2), np.float32))
    >>> out = Layer("fc", (1, 1, 2), "analog", (read,), table, None)
    >>> program = Program("hand", 4, "sum", Input((1, 1, 3), static=True), (out,), 1)
    >>> (row,) = explained(program, np.ones((5, 1, 1, 3), np.float32)).layers
    >>> row.runs, row.multiplies, row.share
    ('dense', 6.0, 1.0)
    """
    edges: list[Array] = []
    Reference(program).run(x, watch=lambda _, values: edges.append(values))
    images = edges[0].shape[1]
    layers = [
        _layer(program, node, edges, None if seconds is None else seconds[number] / images)
        for number, node in enumerate(program.nodes)
        if isinstance(node, Layer)
    ]
    total = sum(row.accumulates + row.multiplies for row in layers)
    shared = (
        replace(row, share=(row.accumulates + row.multiplies) / total if total else 0.0)
        for row in layers
    )
    between = None
    if seconds is not None:
        nodes = zip(program.nodes, seconds, strict=True)
        between = sum(spent for node, spent in nodes if not isinstance(node, Layer)) / images
    steps = len(edges[0]) if not program.input.static else program.timesteps
    return Explanation(tuple(shared), between, images, steps)


def _layer(
    program: Program, node: Layer, edges: Sequence[Array], seconds: float | None
) -> LayerWork:
    images, forms = edges[0].shape[1], [program.forms[synapse.edge] for synapse in node.synapses]
    fired = [s for s, form in zip(node.synapses, forms, strict=True) if form != "analog"]
    work = {True: 0.0, False: 0.0}
    for synapse, form in zip(node.synapses, forms, strict=True):
        work[form == "analog"] += met(synapse, edges[synapse.edge], form == "analog") / images
    events = sum(float(edges[synapse.edge].sum(dtype=np.int64)) for synapse in fired)
    busy = sum(np.count_nonzero(edges[synapse.edge]) for synapse in fired)
    entries = sum(edges[synapse.edge].size for synapse in fired)
    kinds = [synapse.type for synapse in node.synapses if synapse.weights is not None]
    density = busy / entries if entries else None
    alike = all(program.statics[synapse.edge] for synapse in node.synapses)
    why = "what enters is analog" + (", and the same at each step: once" if alike else "")
    if density is not None:
        why = f"{100 * density:.1f} % of what enters is not 0"
        why += ", beside analog input" if "analog" in forms else ""
    return LayerWork(
        node.path,
        "dense" if density is None else "event-driven",
        why,
        events / images if fired else None,
        density,
        kinds[0] if kinds else None,
        work[False],
        work[True],
        seconds=seconds,
        once=alike,
    )


def met(synapse: Synapse, edge_TN: Array, dense: bool) -> float:
    """Count the weights that all entries of an input meet, or that its spikes meet.

    >>> weights = np.ones((3, 3, 1, 8), np.float32)
    >>> conv = Synapse(0, "conv", np.ones((1, 8), np.float32), weights, padding=(1, 1))
    >>> corner = np.zeros((1, 1, 4, 4, 1))
    >>> corner[0, 0, 0, 0, 0] = 1
    >>> met(conv, corner, dense=False), met(conv, corner, dense=True)  # 2x2 taps; 100 of 144
    (32.0, 800.0)
    """
    events = np.ones_like(edge_TN) if dense else edge_TN
    if synapse.weights is None:
        return float(events.sum(dtype=np.float64))
    per_pixel = events.sum(-1, keepdims=True, dtype=np.float32)
    kh, kw, _, outputs = synapse.weights.shape
    if synapse.kind == "linear":
        return float(per_pixel.sum()) * int(outputs)
    one = np.ones((1, 1), np.float32)
    taps = replace(
        synapse, weights=np.ones((kh, kw, 1, 1), np.float32), scale=one, groups=1, type="f32"
    )
    return float(summed(taps, per_pixel).sum(dtype=np.float64)) * int(outputs // synapse.groups)
