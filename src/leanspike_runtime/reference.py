"""The reference of the engines: a program computed in plain NumPy, to be read beside its meaning.

T timesteps, N samples; ``_TN`` is ``[T, N, H, W, C]``. Sums of whole-number weights are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from leanspike_runtime.errors import EngineError
from leanspike_runtime.program import (
    Array,
    Concat,
    Layer,
    Neuron,
    Node,
    Pad,
    Pair,
    Pool,
    Program,
    Synapse,
    Upsample,
)

Watch = Callable[[int, Array], None]
"""A function of each edge's number and values ``[T, N, H, W, C]``; T = 1 for a static edge."""


@dataclass(frozen=True)
class State:
    """The state between chunks: steps taken, membranes by node, and static edges."""

    steps: int = 0
    membranes: dict[int, Array] = field(default_factory=dict)
    statics: dict[int, Array] = field(default_factory=dict)

    @property
    def samples(self) -> int | None:
        """N, or None before the first step."""
        parts = (*self.membranes.values(), *(edge[0] for edge in self.statics.values()))
        return next((len(part) for part in parts), None)

    def keep(self, samples: Array) -> State:
        """Return the state of some samples only: a boolean mask ``[N]`` or indices."""
        membranes = {node: values[samples] for node, values in self.membranes.items()}
        statics = {edge: values[:, samples] for edge, values in self.statics.items()}
        return State(self.steps, membranes, statics)


class Reference:
    """Runs a program.

    >>> from leanspike_runtime.program import Input
    >>> table = np.full((1, 1), 0.75, np.float32)
    >>> neuron = Neuron(np.ones(1, np.float32), np.ones(1, np.float32))
    >>> zeros = np.zeros((1, 1), np.float32)
    >>> fires = Layer("fires", (1, 1, 1), "spikes", (Synapse(0, "same", table),), zeros, neuron)
    >>> out = Layer("out", (1, 1, 1), "analog", (Synapse(1, "same", table),), zeros, None)
    >>> program = Program("hand", 3, "sum", Input((1, 1, 1), static=True), (fires, out), 2)
    >>> logits_TNK, _ = Reference(program).run(np.ones((1, 1, 1, 1), np.float32))
    >>> logits_TNK.ravel().tolist()  # u = 0.75, then 1.5 and 1.25 fire
    [0.0, 0.75, 0.75]
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._statics = program.statics

    def run(
        self,
        x: Array,
        steps: int | None = None,
        state: State | None = None,
        watch: Watch | None = None,
    ) -> tuple[Array, State]:
        """Return the logits of the next steps, ``[steps, N, K]``, and the state after them.

        Args:
            x: ``[N, H, W, C]`` for a static input, else ``[steps, N, H, W, C]``. Later chunks of a
                static input read that of the first chunk.
            steps: the number of steps. Default: all remaining steps of the program, or those of an
                input with steps.
            state: the state that the chunk before returned; None to begin.
            watch: a function called for each edge.
        """
        state = state or State()
        x_TN, steps = self._entered(x, steps, state)
        edges = [state.statics.get(0, x_TN)]
        membranes = dict(state.membranes)
        for number, node in enumerate(self.program.nodes):
            kept = state.statics.get(number + 1)
            if kept is None:
                kept = self._node(node, number, edges, (state.steps, steps), membranes)
            edges.append(kept)
        for edge, values in enumerate(edges):
            if watch is not None:
                watch(edge, values)
        statics = {edge: values for edge, values in enumerate(edges) if self._statics[edge]}
        last_TN = edges[self.program.output]
        shape = steps, last_TN.shape[1], self.program.shapes[self.program.output][2]
        logits_TNK = np.broadcast_to(last_TN[:, :, 0, 0], shape).copy()
        return logits_TNK, State(state.steps + steps, membranes, statics)

    def _entered(self, x: Array, steps: int | None, state: State) -> tuple[Array, int]:
        given = self.program.input
        x = np.ascontiguousarray(x, np.float32)
        x_TN = x[None] if given.static else x
        if x_TN.ndim != 5 or x_TN.shape[2:] != tuple(given.shape):
            wanted = ", ".join(map(str, ("N",) if given.static else ("T", "N")))
            raise EngineError(
                f"input of shape {list(x.shape)}; give [{wanted}, "
                f"{', '.join(map(str, given.shape))}]"
            )
        if state.samples not in (None, x_TN.shape[1]):
            raise EngineError(
                f"input of {x_TN.shape[1]} samples, but the state holds {state.samples}; keep "
                "those of the input with state.keep(samples)"
            )
        left = self.program.most_steps - state.steps
        rest = max(1, self.program.timesteps - state.steps)
        steps = (rest if given.static else len(x_TN)) if steps is None else steps
        if not 1 <= steps <= left or (not given.static and steps != len(x_TN)):
            raise EngineError(f"{steps} steps are asked for, and {left} are left")
        return x_TN, steps

    def _node(
        self,
        node: Node,
        number: int,
        edges: Sequence[Array],
        steps: Pair,
        membranes: dict[int, Array],
    ) -> Array:
        if not isinstance(node, Layer):
            return moved(node, [edges[edge] for edge in node.edges])
        current_TN = self._current(node, edges, steps)
        if node.neuron is None:
            return current_TN
        current_TN = np.broadcast_to(current_TN, (steps[1], *current_TN.shape[1:]))
        spikes, membranes[number] = fired(node, current_TN, membranes.get(number))
        return spikes

    def _current(self, node: Layer, edges: Sequence[Array], steps: Pair) -> Array:
        """Return ``shift + Σ scale·(W ∗ edge)``, added up in this order."""
        first, count = steps

        def rows(table: Array) -> Array:
            chosen = table if len(table) == 1 else table[first : first + count]
            return chosen[:, None, None, None, :]

        current: Array = rows(node.shift)
        for synapse in node.synapses:
            current = current + rows(synapse.scale) * summed(synapse, edges[synapse.edge])
        assert current.dtype == np.float32
        return current


def summed(synapse: Synapse, edge_TN: Array) -> Array:
    """Return ``W ∗ edge`` in float32, ``[T, N, H, W, O]``, exact for whole-number weights."""
    if synapse.kind == "same":
        return edge_TN.astype(np.float32)
    assert synapse.weights is not None
    kind = np.float32 if _exact_in_float32(synapse) else np.float64
    weights, x = synapse.weights.astype(kind), edge_TN.astype(kind)
    if synapse.kind == "linear":
        sums: Array = x.reshape(*x.shape[:2], 1, 1, weights.shape[2]) @ weights[0, 0]
    else:
        sums = _convolved(synapse, weights, x)
    return sums.astype(np.float32)


def _exact_in_float32(synapse: Synapse) -> bool:
    """Whether no sum reaches 2²⁴, beyond which float32 does not hold every whole number."""
    assert synapse.weights is not None
    if synapse.type == "f32":
        return True
    reach = np.abs(synapse.weights.astype(np.int64)).sum((0, 1, 2)).max()
    return int(reach) * 255 < 2**24


def _convolved(synapse: Synapse, weights: Array, x_TN: Array) -> Array:
    """Return the sums of a convolution, tap by tap and group by group."""
    kh, kw, channels, outputs = weights.shape
    (above, left), (down, right) = synapse.padding, synapse.stride
    x_TN = np.pad(x_TN, [(0, 0), (0, 0), (above, above), (left, left), (0, 0)])
    spans = [d * (k - 1) + 1 for d, k in zip(synapse.dilation, (kh, kw), strict=True)]
    height, width = (
        (n - span) // s + 1
        for n, span, s in zip(x_TN.shape[2:4], spans, synapse.stride, strict=True)
    )
    share = outputs // synapse.groups
    sums = np.zeros((*x_TN.shape[:2], height, width, synapse.groups, share), weights.dtype)
    for row, column in product(range(kh), range(kw)):
        top, start = row * synapse.dilation[0], column * synapse.dilation[1]
        tap = x_TN[:, :, top : top + down * height : down, start : start + right * width : right]
        tap = tap[:, :, :height, :width]
        for group in range(synapse.groups):
            part = tap[..., group * channels : (group + 1) * channels]
            sums[..., group, :] += part @ weights[row, column, :, group * share :][:, :share]
    return sums.reshape(*sums.shape[:4], outputs)


def fired(node: Layer, current_TN: Array, u_N: Array | None) -> tuple[Array, Array]:
    """Return the spikes of these steps, 0 or 1 as uint8, and the membranes after them."""
    neuron = node.neuron
    assert neuron is not None
    leak, threshold = (_spread(values, node) for values in (neuron.leak, neuron.threshold))
    if u_N is None:
        u_N = np.zeros(current_TN.shape[1:], np.float32)
        u_N = u_N + np.float32(neuron.initial) * threshold
    spikes = np.empty(current_TN.shape, np.uint8)
    for step, x_N in enumerate(current_TN):
        spikes[step], u_N = _stepped(neuron, u_N, x_N, leak, threshold)
    return spikes, u_N


def _spread(values: Array, node: Layer) -> Array:
    """Return values of a layer, its channels or entries, in a shape for ``[N, H, W, C]``."""
    return values.reshape(node.shape) if values.size == np.prod(node.shape) else values


def _stepped(
    neuron: Neuron, u_N: Array, x_N: Array, leak: Array, threshold: Array
) -> tuple[Array, Array]:
    """Compute the neuron's equation, as `leanspike.backends.reference` does."""
    last_N = u_N
    u_N = leak * u_N + x_N
    if neuron.reset == "undecayed":
        u_N = u_N - threshold * (last_N / threshold - 1 > 0).astype(np.float32)
    fired_N = u_N / threshold - 1 > 0
    if neuron.reset == "soft":
        u_N = u_N - threshold * fired_N.astype(np.float32)
    elif neuron.reset == "hard":
        u_N = np.where(fired_N, np.float32(0), u_N)
    if neuron.floor is not None:
        lowest = np.float32(-neuron.floor) * threshold
        u_N = np.where(u_N < lowest, lowest, u_N)
    return fired_N, u_N


def moved(node: Node, edges: Sequence[Array]) -> Array:
    """Return the output of a node without weights."""
    (x_TN, *_) = edges
    if isinstance(node, Pool):
        return _pooled(node, x_TN)
    if isinstance(node, Concat):
        longest = max(map(len, edges))
        return np.concatenate(
            [np.broadcast_to(edge, (longest, *edge.shape[1:])) for edge in edges], -1
        )
    if isinstance(node, Pad):
        above, below, left, right = node.padding
        return np.pad(x_TN, [(0, 0), (0, 0), (above, below), (left, right), (0, 0)])
    if isinstance(node, Upsample):
        return x_TN.repeat(node.factors[0], 2).repeat(node.factors[1], 3)
    return x_TN.reshape(*x_TN.shape[:2], *node.shape)


def _pooled(node: Pool, x_TN: Array) -> Array:
    maximum = node.node == "max_pool"
    outside = -np.inf if maximum and node.form == "analog" else 0
    (above, left), (down, right) = node.padding, node.stride
    spread = [(0, 0), (0, 0), (above, above), (left, left), (0, 0)]
    x_TN = np.pad(x_TN, spread, constant_values=outside)
    height, width, _ = node.shape
    join = np.maximum if maximum else np.add
    found: Array | None = None
    for row, column in product(range(node.kernel[0]), range(node.kernel[1])):
        tap = x_TN[:, :, row : row + down * height : down, column : column + right * width : right]
        tap = tap[:, :, :height, :width]
        found = tap.copy() if found is None else join(found, tap)
    assert found is not None
    return found
