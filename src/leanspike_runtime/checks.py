"""Checking every size and number of a program before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NoReturn

import numpy as np

from leanspike_runtime.errors import EngineError
from leanspike_runtime.library import MOST_STEPS
from leanspike_runtime.program import (
    LARGEST,
    MOST_CHANNELS,
    MOST_ENTRIES,
    Array,
    Concat,
    Form,
    Layer,
    Neuron,
    Node,
    Pad,
    Pool,
    Program,
    Relabel,
    Shape,
    Synapse,
    Upsample,
)


def check(program: Program) -> None:
    """Raise EngineError, with the node, if a program does not fit together."""
    _require(1 <= program.timesteps <= MOST_STEPS, f"timesteps is {program.timesteps}")
    _require(program.readout in ("sum", "mean"), f"readout is {program.readout!r}")
    _check_input(program)
    most = [1] * (len(program.nodes) + 1)  # how many spikes may lie under an entry
    for number, node in enumerate(program.nodes):
        place = f"node {number} ({node.path}): "
        _check_shape(place, node.shape)
        _require(len(node.edges) > 0, f"{place}reads nothing")
        for edge in node.edges:
            _require(0 <= edge <= number, f"{place}reads edge {edge}, which comes later")
        most[number + 1] = _Check(program, place, most).node(node)
    _require(0 <= program.output <= len(program.nodes), f"output is edge {program.output}")
    _require(
        program.shapes[program.output][:2] == (1, 1) and program.forms[program.output] == "analog",
        f"the output, edge {program.output}, is no analog vector",
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise EngineError(f"{otherwise}")


def _check_shape(place: str, shape: Shape) -> None:
    sizes = len(shape) == 3 and all(size >= 1 for size in shape) and prod(shape) <= MOST_ENTRIES
    _require(sizes and shape[2] <= MOST_CHANNELS, f"{place}has the shape {list(shape)}")


def _check_input(program: Program) -> None:
    given = program.input
    _check_shape("the input ", given.shape)
    _require((given.mean is None) == (given.std is None), "mean and std belong together")
    for name, values in (("mean", given.mean), ("std", given.std)):
        if values is not None:
            right = len(values) == given.shape[2] and all(np.isfinite(value) for value in values)
            _require(right, f"{name} is {list(values)}; the input has {given.shape[2]} channels")
    _require(given.std is None or all(value > 0 for value in given.std), "std has entries of 0")


def _table(place: str, name: str, table: Array, rows: Sequence[int], columns: int) -> None:
    right = table.ndim == 2 and table.shape[0] in rows and table.shape[1] == columns
    _require(right, f"{place}{name} has the shape {list(table.shape)}, not [S, {columns}]")
    _require(
        table.dtype == np.float32 and bool(np.isfinite(table).all()),
        f"{place}{name} has entries that are no finite float32",
    )


class _Check:
    """The rules of a node. Each returns how many spikes may lie under an entry of its edge."""

    def __init__(self, program: Program, place: str, most: list[int]) -> None:
        self.program, self.place, self.most = program, place, most

    def node(self, node: Node) -> int:
        if isinstance(node, Layer):
            return self._layer(node)
        if isinstance(node, Pool):
            return self._pool(node)
        self._form(node, self.program.forms[node.edges[0]])
        self._shape(node, self._moved(node))
        return max(self.most[edge] for edge in node.edges)

    def _refuse(self, why: str) -> NoReturn:
        raise EngineError(self.place + why)

    def _require(self, holds: bool, otherwise: str) -> None:
        _require(holds, self.place + otherwise)

    def _form(self, node: Node, form: Form) -> None:
        self._require(node.form == form, f"makes {node.form}, not {form}")

    def _shape(self, node: Node, shape: Sequence[int]) -> None:
        self._require(
            tuple(node.shape) == tuple(shape), f"makes {list(node.shape)}, not {list(shape)}"
        )

    def _moved(self, node: Node) -> Sequence[int]:
        shapes = [self.program.shapes[edge] for edge in node.edges]
        height, width, channels = shapes[0]
        if isinstance(node, Concat):
            forms = {self.program.forms[edge] for edge in node.edges}
            self._require(len(forms) == 1, "joins edges of several forms")
            self._require(len({shape[:2] for shape in shapes}) == 1, "joins images of other sizes")
            return height, width, sum(shape[2] for shape in shapes)
        if isinstance(node, Pad):
            self._require(all(size >= 0 for size in node.padding), f"pads by {node.padding}")
            above, below, left, right = node.padding
            return height + above + below, width + left + right, channels
        if isinstance(node, Upsample):
            self._require(min(node.factors) >= 1, f"has factors {node.factors}")
            return height * node.factors[0], width * node.factors[1], channels
        assert isinstance(node, Relabel)
        self._require(prod(shapes[0]) == prod(node.shape), "has another number of entries")
        return node.shape

    def _pool(self, node: Pool) -> int:
        height, width, channels = self.program.shapes[node.edges[0]]
        entering = self.program.forms[node.edges[0]]
        fits = all(
            kernel >= 1 and stride >= 1 and 0 <= 2 * padding <= kernel
            for kernel, stride, padding in zip(node.kernel, node.stride, node.padding, strict=True)
        )
        self._require(
            fits, f"has kernel {node.kernel}, stride {node.stride}, padding {node.padding}"
        )
        pairs = zip((height, width), node.kernel, node.stride, node.padding, strict=True)
        self._shape(node, [*((n + 2 * p - k) // s + 1 for n, k, s, p in pairs), channels])
        if node.node == "max_pool":
            self._require(entering != "counts", "takes the maximum of counts")
            self._form(node, entering)
            return 1
        self._form(node, "analog" if entering == "analog" else "counts")
        under = self.most[node.edges[0]] * prod(node.kernel)
        self._require(entering == "analog" or under <= 255, f"counts up to {under}, above 255")
        return under

    def _layer(self, node: Layer) -> int:
        rows, outputs = (1, self.program.timesteps), node.shape[2]
        _table(self.place, "shift", node.shift, rows, outputs)
        for synapse in node.synapses:
            _table(self.place, "scale", synapse.scale, rows, outputs)
            self._synapse(node, synapse)
        self._form(node, "analog" if node.neuron is None else "spikes")
        if node.neuron is not None:
            self._neuron(node.neuron, node.shape)
        return 1

    def _synapse(self, node: Layer, synapse: Synapse) -> None:
        entering = self.program.shapes[synapse.edge]
        if synapse.kind == "same":
            self._require(synapse.weights is None, '"same" has weights')
            self._require(
                tuple(entering) == tuple(node.shape),
                f'"same" reads {entering} and makes {node.shape}',
            )
            return
        weights = synapse.weights
        if weights is None or weights.ndim != 4:
            self._refuse(f"{synapse.kind} has no weights of four axes")
        self._weights(synapse, weights)
        if synapse.kind == "linear":
            self._require(
                weights.shape[:3] == (1, 1, prod(entering)),
                "linear has weights of the "
                f"shape {list(weights.shape)} for {prod(entering)} entries",
            )
            self._shape(node, (1, 1, weights.shape[3]))
            return
        self._convolution(node, synapse, entering, weights.shape)

    def _convolution(
        self, node: Layer, synapse: Synapse, entering: Shape, weights: Sequence[int]
    ) -> None:
        groups = synapse.groups
        whole = groups >= 1 and entering[2] % groups == 0 and weights[3] % groups == 0
        self._require(whole, f"has {groups} groups of {entering[2]} channels")
        self._require(weights[2] == entering[2] // groups, f"has weights of {weights[2]} channels")
        shape = []
        for axis in (0, 1):
            stride, padding = synapse.stride[axis], synapse.padding[axis]
            dilation, size = synapse.dilation[axis], weights[axis]
            self._require(
                stride >= 1 and padding >= 0 and dilation >= 1,
                "has a stride, padding or dilation out of range",
            )
            reach = dilation * (size - 1) + 1
            room = entering[axis] + 2 * padding
            self._require(size >= 1 and reach <= room, f"has a kernel of {reach} for {room} pixels")
            shape.append((room - reach) // stride + 1)
        self._shape(node, (*shape, weights[3]))

    def _weights(self, synapse: Synapse, weights: Array) -> None:
        if synapse.type == "f32":
            right = weights.dtype == np.float32 and bool(np.isfinite(weights).all())
            self._require(right, "has weights that are no finite float32")
            return
        self._require(synapse.type in LARGEST, f"has weights of the type {synapse.type!r}")
        analog = self.program.forms[synapse.edge] == "analog"
        self._require(not analog, f"reads an analog edge with weights of {synapse.type}")
        largest = int(np.abs(weights.astype(np.int16)).max(initial=0))
        right = weights.dtype == np.int8 and largest <= LARGEST[synapse.type]
        self._require(right, f"has a weight of {largest}, above that of {synapse.type}")
        reach = int(np.abs(weights.astype(np.int64)).sum((0, 1, 2)).max())
        self._require(
            reach * self.most[synapse.edge] < 2**31, "has sums that 32 bits might not hold"
        )

    def _neuron(self, neuron: Neuron, shape: Shape) -> None:
        for name, values in (("leak", neuron.leak), ("threshold", neuron.threshold)):
            right = values.ndim == 1 and values.size in (1, shape[2], prod(shape))
            self._require(right, f"{name} has the shape {list(values.shape)}")
            right = values.dtype == np.float32 and bool(np.isfinite(values).all())
            self._require(right, f"{name} has entries that are no finite float32")
        self._require(bool((neuron.threshold > 0).all()), "has a threshold that is not above 0")
        self._require(
            bool(((neuron.leak >= 0) & (neuron.leak <= 1)).all()), "has a leak outside [0, 1]"
        )
        self._require(
            neuron.reset in ("soft", "hard", "undecayed"), f"has the reset {neuron.reset!r}"
        )
        self._require(neuron.initial in (0.0, 0.5), f"begins at {neuron.initial} thresholds")
        least, most = np.finfo(np.float32).tiny, np.finfo(np.float32).max
        right = neuron.floor is None or bool(least <= neuron.floor <= most)
        self._require(
            right, f"has its floor at {neuron.floor} thresholds below 0; it must be above 0"
        )
