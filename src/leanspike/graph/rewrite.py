"""The rewriting of a graph: it declares the facts of every edge, and puts in the neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import fx, nn

from leanspike.errors import SurgeryError
from leanspike.graph import batch_size, rules
from leanspike.graph.advice import NO_ACTIVATION, Advice
from leanspike.graph.ops import OPERATIONS, UNKNOWN, Call, Kind, Operation, Signal, op_of
from leanspike.graph.own_sizes import take_own_sizes
from leanspike.graph.places import names_of_calls, places_of_functions
from leanspike.graph.places import where as place_of
from leanspike.graph.replacement import Parts, Replacement
from leanspike.graph.samples import counts_samples
from leanspike.graph.trace import Shapes, call_of
from leanspike.graph.wholes import note_wholes
from leanspike.temporal import broadcast, repeat, unstack


@final
class Rewriting:
    """Walks the graph once, in order, declares each edge's facts, and puts in neurons and norms.

    Attributes:
        replacement: the object that puts neurons, dropouts and norms in, and keeps the originals.
        replaced: the names in the network's ``state_dict`` of the entries of replaced modules.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, parts: Parts) -> None:
        self.root = root
        self.graph = graph
        self.parts = parts
        self.repeated: dict[fx.Node, fx.Node] = {}
        self.advice = Advice()
        self.replacement: Replacement
        self.timesteps: fx.Node
        self.batch: torch.Size
        self.replaced: tuple[str, ...] = ()

    def run(self, entering: Signal) -> None:
        """Rewrite the whole graph in place. ``entering`` holds the facts of its input."""
        nodes = list(self.graph.nodes)
        image = nodes[0]
        with self.graph.inserting_after(image):
            self.timesteps = self.graph.placeholder("timesteps")
        self.timesteps.meta["signal"] = Signal(False, None)
        image.meta["signal"] = entering
        self.batch = (Shapes.of(image).output or torch.Size())[:1]

        rows = {node: self.parts.operations.row_of(node, self.root) for node in nodes}
        firing = [node for node, row in rows.items() if row.activation]
        dropping = [node for node, row in rows.items() if row.dropout]
        normal = [node for node, row in rows.items() if row.norm and row.norm.batch]
        for node, place in places_of_functions(nodes).items():
            node.meta["place"] = place
        note_wholes(nodes, self.parts.operations, self.root)
        self.replaced = self._entries([n for n in firing if n.op == "call_module"])
        neurons = names_of_calls(firing, "neuron")
        dropouts = names_of_calls(dropping, "dropout")
        norms = names_of_calls(normal, "norm")
        put_in = Replacement(self.root, self.graph, self.parts, self.timesteps)
        put_in.begin(firing + dropping + normal)
        self.replacement = put_in
        for node in nodes:
            if node in neurons and not _of_weights(node):
                put_in.neuron(node, neurons[node])
            elif node in dropouts:
                put_in.dropout(node, dropouts[node], rows[node])
            elif node in norms and put_in.renews(node):
                put_in.norm(node, norms[node], rows[node])
            elif node.op == "output":
                self._finish(node)
            elif node.op != "placeholder":
                self._keep_or_note(node, rows[node])
        self.advice.give(fires=bool(firing))
        if not firing:
            raise SurgeryError(NO_ACTIVATION)
        put_in.finish()
        self.graph.lint()

    def _entries(self, nodes: list[fx.Node]) -> tuple[str, ...]:
        """Return the names in the ``state_dict`` of the entries of the modules that these call."""
        called = {self.root.get_submodule(str(node.target)) for node in nodes}
        return tuple(
            f"{path}.{name}"
            for path, module in self.root.named_modules(remove_duplicate=False)
            if module in called
            for name in module.state_dict()
        )

    def _keep_or_note(self, node: fx.Node, row: Operation) -> None:
        """Keep a call. If a declaration would lift its refusal, note that and go on."""
        try:
            self._keep(node, row)
        except SurgeryError as error:
            strange = row is UNKNOWN and (Shapes.of(node).output or ())[:1] != self.batch
            if strange or not self.advice.note(node, error):
                raise
            timed = any(source.meta["signal"].timed for source in node.all_input_nodes)
            node.meta["signal"] = Signal(timed, "analog")

    def _keep(self, node: fx.Node, row: Operation) -> None:
        """Declare the facts of a call's output, and repeat static inputs beside timed ones."""
        take_own_sizes(self.graph, node)
        signals = tuple(source.meta["signal"] for source in node.all_input_nodes)
        timed = any(s.timed for s in signals)
        counted = any(map(counts_samples, node.all_input_nodes))
        if not counted and _is_constant(node, signals):
            size = row.kind is rules.nothing and Shapes.of(node).output is None  # of a weight
            node.meta["signal"] = Signal(timed, None if size else "constant")
            return
        call = call_of(self.root, node, signals)
        reinterpreted = any(isinstance(value, torch.dtype) for value in node.args)  # by a view
        if row.twin is not None and not reinterpreted:
            node.target = row.twin
            row = self.parts.operations.row(row.twin)
        op = op_of(node, self.root)
        if row is not OPERATIONS.row(op):  # only the node can hold it for later
            node.meta["row"] = row
        kind = _kind(call, row)
        if node.meta.get("discrete") and kind in ("spike", "graded"):  # indices, or a comparison
            kind = "analog"
        node.meta["signal"] = Signal(timed, kind)
        if kind not in (None, "constant"):
            if timed:
                self._align(node, call, row)
            batch_size.apart(call)

    def _align(self, node: fx.Node, call: Call, row: Operation) -> None:
        """Repeat a static edge for each step where it meets a timed one."""
        for source, signal in zip(node.all_input_nodes, call.inputs, strict=True):
            if signal.kind == "constant":
                shape = Shapes.of(source).output or torch.Size()
                batched = call.out_shape and len(shape) >= len(call.out_shape) and shape[0] != 1
                if batched and row.synapses is None and "row" not in node.meta:
                    call.refuse(
                        f"combines the batch with a constant of shape {tuple(shape)}",
                        "give the constant no batch axis",
                    )
            elif signal.kind is not None and not signal.timed:
                node.replace_input_with(source, self._repeat(source, node))

    def _repeat(self, source: fx.Node, before: fx.Node) -> fx.Node:
        if source not in self.repeated:
            with self.graph.inserting_before(before):
                copy = self.graph.call_function(repeat, (source, self.timesteps))
            copy.meta["signal"] = Signal(True, source.meta["signal"].kind)
            Shapes.copy(source, copy)
            self.repeated[source] = copy
        return self.repeated[source]

    def _finish(self, node: fx.Node) -> None:
        """Give each tensor that the network returns a time axis."""
        leaves = list(dict.fromkeys(node.all_input_nodes))
        if not leaves:
            raise SurgeryError("the network returns no tensor; let its forward return one")
        with self.graph.inserting_before(node):
            sequences = {leaf: self._sequence(leaf) for leaf in leaves}
        node.args = fx.node.map_arg(node.args, sequences.__getitem__)
        kinds = {leaf.meta["signal"].kind for leaf in leaves}
        node.meta["signal"] = Signal(True, kinds.pop() if len(kinds) == 1 else "analog")

    def _sequence(self, leaf: fx.Node) -> fx.Node:
        """Return the node of ``[T, N, ...]`` for a tensor that the network returns."""
        signal: Signal = leaf.meta["signal"]
        shape = Shapes.of(leaf).output
        if shape is None:
            raise SurgeryError(
                f"{place_of(leaf)}: the network returns this, but it is no tensor; leave it out of "
                "the outputs"
            )
        if signal.kind != "constant" and shape[:1] != self.batch:
            raise SurgeryError(
                f"{place_of(leaf)}: the network returns this with the shape {tuple(shape)} for "
                f"{self.batch[0]} samples; return tensors whose axis 0 holds the samples"
            )
        opening = unstack if signal.timed else broadcast
        y_TN = self.graph.call_function(opening, (leaf, self.timesteps))
        y_TN.meta["signal"] = Signal(True, signal.kind)
        return y_TN


def _is_constant(node: fx.Node, signals: Sequence[Signal]) -> bool:
    """Whether a call computes from constants only, or from sizes but the number of samples."""
    kinds = {signal.kind for signal in signals}
    if node.op == "get_attr" or "constant" in kinds:
        return kinds <= {"constant", None}
    return not kinds - {None} and Shapes.of(node).output is not None


def _of_weights(node: fx.Node) -> bool:
    """Whether a call reads weights only, as the network of a position bias does."""
    sources = node.all_input_nodes
    return bool(sources) and all(s.meta["signal"].kind == "constant" for s in sources)


def _kind(call: Call, row: Operation) -> Kind | None:
    """Return the kind of a call's output. Refuse the call if it may not run on stacked time."""
    name, code = call.name_of_op
    if row.refused is not None:
        call.refuse(*(text.format(name=name, code=code) for text in row.refused))
    if row.check is not None:
        row.check(call)
    if row.kind is None and not call.kinds and call.inputs:
        if call.out_shape is None:
            return None  # sizes, from which it computes another
        call.refuse(
            "makes a tensor of the number of samples",
            "make it for one sample, with an axis 0 of length 1",
        )
    if row.kind is None:
        call.refuse(
            f"{name} is not known to keep timesteps and samples apart",
            f"if it does, declare it with ops={{{code}: 'analog'}}; else take it out",
        )
    return row.kind(call)
