"""The rewriting: neurons in the place of activations, every edge with its declared facts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import LeanspikeError, SurgeryError
from leanspike.graph import batch_size, rules
from leanspike.graph.advice import NO_ACTIVATION, Advice
from leanspike.graph.costs import signal_nodes
from leanspike.graph.disguise import varying
from leanspike.graph.modules import called, own_state, put, submodule
from leanspike.graph.ops import (
    OPERATIONS,
    UNKNOWN,
    Call,
    Kind,
    Operation,
    Operations,
    Signal,
    op_of,
)
from leanspike.graph.places import names_of_calls, places_of_functions
from leanspike.graph.places import where as place_of
from leanspike.graph.samples import counts_samples, pieces
from leanspike.graph.trace import Shapes, device_of
from leanspike.graph.wholes import note_wholes
from leanspike.neuron import Neuron
from leanspike.temporal import (
    TemporalDropout,
    TemporalNorm,
    broadcast,
    repeat,
    stack,
    unstack,
)

Original = Callable[[Tensor, Callable[[fx.Node], Any]], Tensor]
"""What stood in a place: from its input, and the values of other nodes, to its output."""


@dataclass(frozen=True)
class Parts:
    """What the surgery puts in, and the rows of this call, the user's among them.

    ``neuron`` makes one for a path, ``norm`` one for a number of channels (None keeps batch norms).
    """

    neuron: Callable[[str], nn.Module]
    norm: Callable[[int], TemporalNorm] | None
    operations: Operations


@final
class Rewriting:
    """Walks the graph once, in order: declares each edge's facts, puts neurons and norms in.

    ``originals`` has what stood where each neuron, dropout and norm was put, on a stacked input.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, parts: Parts) -> None:
        self.root = root
        self.graph = graph
        self.parts = parts
        self.device = device_of(root)
        self.repeated: dict[fx.Node, fx.Node] = {}
        self.advice = Advice()
        self.originals: dict[fx.Node, Original] = {}
        self.timesteps: fx.Node
        self.batch: torch.Size
        self.replaced: tuple[str, ...] = ()

    def run(self, entering: Signal) -> None:
        """Rewrite the whole graph in place, whose input is such a signal."""
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
        self._functions = {n: called(n, self.root) for n in firing + dropping + normal}
        for node in nodes:
            if node in neurons and not _of_weights(node):
                self._place_neuron(node, neurons[node])
            elif node in dropouts:
                self._place_dropout(node, dropouts[node], rows[node])
            elif node in norms and self._renews(node):
                self._place_norm(node, norms[node], rows[node])
            elif node.op == "output":
                self._finish(node)
            elif node.op != "placeholder":
                self._keep_or_note(node, rows[node])
        self.advice.give(fires=bool(firing))
        if not firing:
            raise SurgeryError(NO_ACTIVATION)
        self._drop_replaced(firing + dropping + normal)
        self.graph.lint()

    def _entries(self, nodes: list[fx.Node]) -> tuple[str, ...]:
        """What the network's ``state_dict`` calls the entries of the modules that these call."""
        called = {self.root.get_submodule(str(node.target)) for node in nodes}
        return tuple(
            f"{path}.{name}"
            for path, module in self.root.named_modules(remove_duplicate=False)
            if module in called
            for name in module.state_dict()
        )

    # -- neurons, dropout, norms ---------------------------------------------------------------

    def _place_neuron(self, node: fx.Node, path: str) -> None:
        entering, leaving = Shapes.of(_source(node)).output, Shapes.of(node).output
        if entering is not None and entering != leaving:
            call = self._call(node, (_source(node).meta["signal"],))
            name, code = call.name_of_op
            made = None if leaving is None else list(leaving)
            call.refuse(
                f"{name} makes {made} of {list(entering)}; a neuron keeps shapes",
                f"keep it with ops={{{code}: 'analog'}}, and not among the activations",
            )
        self._check_one(node)
        module = self.parts.neuron(path)
        kind: Kind = "analog"
        if isinstance(module, Neuron):
            module.sized((Shapes.of(node).output or torch.Size())[1:])
            kind = module.emits
        self._install(node, path, module)
        self._replace(node, path, Signal(True, kind), neuron=True)

    def _check_one(self, node: fx.Node) -> None:
        signals = list(dict.fromkeys(varying(node)))
        if len(signals) > 1:
            call = self._call(node, tuple(s.meta["signal"] for s in signals))
            call.refuse(
                f"{call.name_of_op[0]} takes {len(signals)} signals, and a neuron one",
                "write what is computed of one signal as a module of your own, as class Act, and "
                "name that: activations=(Act,)",
            )

    def _place_dropout(self, node: fx.Node, path: str, row: Operation) -> None:
        signal: Signal = _source(node).meta["signal"]
        if node.op == "call_module":
            p = float(getattr(self.root.get_submodule(str(node.target)), row.rate))
        else:
            p = float(node.kwargs.get("p", 0.5))  # type: ignore[arg-type]
        if row.check is not None:
            row.check(self._call(node, (signal,)))
        self._install(node, path, TemporalDropout(p, row.dropout or "elements"))
        self._replace(node, path, signal, neuron=False)

    def _renews(self, node: fx.Node) -> bool:
        """Whether a batch norm is to be replaced: where time reaches it."""
        signal: Signal = node.all_input_nodes[0].meta["signal"]
        return self.parts.norm is not None and signal.timed

    def _place_norm(self, node: fx.Node, path: str, row: Operation) -> None:
        old = self.root.get_submodule(str(node.target))
        assert self.parts.norm is not None
        module = self.parts.norm(int(old.num_features))  # type: ignore[arg-type]
        for name, child in old.named_children():  # its activation, as in timm's BatchNormAct2d
            module.add_module(name, child)
        if row.norm is not None and row.norm.synchronised:
            module.synchronise = True
        self._install(node, path, module)
        try:
            module.load_batch_norm(own_state(old.state_dict()))
        except LeanspikeError as error:
            raise SurgeryError(f"module {node.target}: {error}") from None
        for name, parameter in module.named_parameters(recurse=False):
            theirs = getattr(old, name, None)
            parameter.requires_grad_(theirs is None or theirs.requires_grad)
        self._replace(node, path, Signal(True, "analog"), neuron=False)

    def _replace(self, node: fx.Node, path: str, signal: Signal, *, neuron: bool) -> None:
        """Call the module at ``path`` on ``[T, N, ...]`` in place of ``node``.

        A static input of a module that stays static (dropout before the first neuron) is a
        sequence of length 1.
        """
        source = _source(node)
        incoming: Signal = source.meta["signal"]
        length = self.timesteps if signal.timed else 1
        with self.graph.inserting_before(node):
            opened = self.graph.call_function(
                unstack if incoming.timed else broadcast, (source, length)
            )
            called = self.graph.call_module(path, (opened,))
            folded = self.graph.call_function(stack, (called,))
        opened.meta["signal"] = Signal(signal.timed, incoming.kind)
        called.meta["signal"] = folded.meta["signal"] = signal
        called.meta["neuron"] = neuron
        self.originals[called] = self._original(node, source)
        Shapes.copy(node, folded)
        node.replace_all_uses_with(folded)
        self.graph.erase_node(node)

    def _original(self, node: fx.Node, source: fx.Node) -> Original:
        """What a node computes from the signal that enters it."""
        function, given = self._functions[node], (node.args, node.kwargs)

        def run(x: Tensor, value: Callable[[fx.Node], Any]) -> Any:
            args, kwargs = fx.map_arg(given, lambda n: x if n is source else value(n))
            return function(*args, **kwargs)

        return run

    def _install(self, node: fx.Node, path: str, module: nn.Module) -> None:
        """Put the module at the path of the one it replaces, or at one that is free."""
        parent, _, name = path.rpartition(".")
        holder = self.root.get_submodule(parent)  # the user's, whose attributes nobody declares
        if path != node.target and hasattr(holder, name):
            raise SurgeryError(
                f"{path}: the name is taken by an attribute of {type(holder).__name__}; rename it"
            )
        holder.add_module(name, module.to(self.device))

    def _drop_replaced(self, nodes: list[fx.Node]) -> None:
        """Forget activations that were called several times: their neurons have other paths."""
        used = {str(node.target) for node in self.graph.nodes if node.op == "call_module"}
        for path in {str(node.target) for node in nodes if node.op == "call_module"} - used:
            put(self.root, path, nn.Identity())

    # -- everything else -----------------------------------------------------------------------

    def _keep_or_note(self, node: fx.Node, row: Operation) -> None:
        """Keep a call; one that is refused until it is declared, as if it were declared."""
        try:
            self._keep(node, row)
        except SurgeryError as error:
            strange = row is UNKNOWN and (Shapes.of(node).output or ())[:1] != self.batch
            if strange or not self.advice.note(node, error):
                raise
            timed = any(source.meta["signal"].timed for source in node.all_input_nodes)
            node.meta["signal"] = Signal(timed, "analog")

    def _keep(self, node: fx.Node, row: Operation) -> None:
        """Declare what the operation emits; make its inputs agree in time."""
        self._take_own_sizes(node)
        signals = tuple(source.meta["signal"] for source in node.all_input_nodes)
        timed = any(s.timed for s in signals)
        counted = any(map(counts_samples, node.all_input_nodes))
        if not counted and _is_constant(node, signals):
            size = row.kind is rules.nothing and Shapes.of(node).output is None  # of a weight
            node.meta["signal"] = Signal(timed, None if size else "constant")
            return
        call = self._call(node, signals)
        reinterpreted = any(isinstance(value, torch.dtype) for value in node.args)  # by a view
        if row.twin is not None and not reinterpreted:
            node.target = row.twin
            row = self.parts.operations.row(row.twin)
        op = op_of(node, self.root)
        if row is not OPERATIONS.row(op):  # which nobody else would find
            node.meta["row"] = row
        kind = _kind(call, row)
        if node.meta.get("discrete") and kind in ("spike", "graded"):  # places, or a comparison
            kind = "analog"
        node.meta["signal"] = Signal(timed, kind)
        if kind not in (None, "constant"):
            if timed:
                self._align(node, call, row)
            batch_size.apart(call)

    def _call(self, node: fx.Node, signals: tuple[Signal, ...]) -> Call:
        shapes = Shapes.of(node)
        module = submodule(self.root, node)
        return Call(node, place_of(node), module, signals, shapes.inputs, shapes.output)

    def _take_own_sizes(self, node: fx.Node) -> None:
        """Read the number of samples off the signal that a call is about, or the other numbers.

        In ``y.view(x.size(0), -1)`` the image x may have fewer rows than y, which time reaches.
        """
        sizes = list(filter(counts_samples, node.all_input_nodes))
        signals = signal_nodes(node)
        about = [*(s for s in signals if s.meta["signal"].timed), *signals]
        about += filter(_counts_steps, sizes)
        for size in sizes:
            if about and _counts_steps(size) != _counts_steps(about[0]):
                with self.graph.inserting_before(node):
                    node.replace_input_with(size, self._own_size(size, about[0]))
        if counts_samples(node):
            counted = [source for source in node.all_input_nodes if counts_samples(source)]
            node.meta["steps"] = any(map(_counts_steps, counted or node.all_input_nodes))

    def _own_size(self, size: fx.Node, about: fx.Node) -> fx.Node:
        """The number that ``size`` is, for as many samples as ``about`` has, or counts."""
        own, times, has = about, size.meta["grows"], about.meta.get("grows")
        steps = _counts_steps(about)
        meta = {"signal": Signal(steps, None), "steps": steps, "shape": None}
        if counts_samples(about) and about.meta["several"]:
            own = self.graph.call_function(operator.getitem, (about, 0))
            own.meta.update(meta, grows=has)
        elif not counts_samples(about):
            own, has = self.graph.call_method("size", (about, 0)), pieces(about)
            own.meta.update(meta, grows=has)
        if times is None or has is None:
            raise SurgeryError(
                f"{place_of(size)}: computes with the number of samples, which is another where "
                "timesteps are stacked; write the number itself, or leave it out"
            )
        ratio = Fraction(times, has)
        if ratio.denominator != 1:
            own = self.graph.call_function(operator.floordiv, (own, ratio.denominator))
            own.meta.update(meta, grows=times)
        if ratio.numerator != 1:
            own = self.graph.call_function(operator.mul, (own, ratio.numerator))
            own.meta.update(meta, grows=times)
        if size.meta["several"]:
            own = self.graph.call_function(_beginning, (size, own))
            own.meta.update(meta, grows=times, several=True)
        return own

    def _align(self, node: fx.Node, call: Call, row: Operation) -> None:
        """Where a static edge meets a timed one it is repeated for each step."""
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
        """Put time before each tensor that the network returns."""
        leaves = list(dict.fromkeys(node.all_input_nodes))
        if not leaves:
            raise SurgeryError("the network returns no tensor; return what it computes")
        with self.graph.inserting_before(node):
            sequences = {leaf: self._sequence(leaf) for leaf in leaves}
        node.args = fx.node.map_arg(node.args, sequences.__getitem__)
        kinds = {leaf.meta["signal"].kind for leaf in leaves}
        node.meta["signal"] = Signal(True, kinds.pop() if len(kinds) == 1 else "analog")

    def _sequence(self, leaf: fx.Node) -> fx.Node:
        """``[T, N, ...]`` of a tensor that the network returns."""
        signal: Signal = leaf.meta["signal"]
        shape = Shapes.of(leaf).output
        if shape is None:
            raise SurgeryError(
                f"{place_of(leaf)}: the network returns it, and it is no tensor; leave it out of "
                "what the network returns"
            )
        if signal.kind != "constant" and shape[:1] != self.batch:
            raise SurgeryError(
                f"{place_of(leaf)}: the network returns it, of shape {tuple(shape)} for "
                f"{self.batch[0]} samples; return tensors whose axis 0 holds the samples"
            )
        opening = unstack if signal.timed else broadcast
        y_TN = self.graph.call_function(opening, (leaf, self.timesteps))
        y_TN.meta["signal"] = Signal(True, signal.kind)
        return y_TN


def _counts_steps(node: fx.Node) -> bool:
    """Whether a number of samples counts timesteps among them; of a signal whether it has them."""
    return bool(node.meta.get("steps", node.meta["signal"].timed))


def _beginning(sizes: Sequence[int], first: int) -> tuple[int, ...]:
    """Sizes with another number of samples."""
    return first, *sizes[1:]


def _is_constant(node: fx.Node, signals: Sequence[Signal]) -> bool:
    """Whether a call makes tensors of constants, or of sizes that are not the number of samples."""
    kinds = {signal.kind for signal in signals}
    if node.op == "get_attr" or "constant" in kinds:
        return kinds <= {"constant", None}
    return not kinds - {None} and Shapes.of(node).output is not None


def _source(node: fx.Node) -> fx.Node:
    """The signal that enters a call that is replaced; a constant may stand before it."""
    return next(iter(varying(node)), node.all_input_nodes[0])


def _of_weights(node: fx.Node) -> bool:
    """Whether a call reads weights alone, as the network of a position bias does."""
    sources = node.all_input_nodes
    return bool(sources) and all(s.meta["signal"].kind == "constant" for s in sources)


def _kind(call: Call, row: Operation) -> Kind | None:
    """What a call emits, if it may run on stacked time; else why not, and the way out."""
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
