"""Putting the neurons, dropouts and norms of an SNN into the places of the calls they replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import LeanspikeError, SurgeryError
from leanspike.graph.disguise import varying
from leanspike.graph.modules import called, own_state, put
from leanspike.graph.ops import Kind, Operation, Operations, Signal
from leanspike.graph.trace import Shapes, call_of, device_of
from leanspike.neuron import Neuron
from leanspike.temporal import TemporalDropout, TemporalNorm, broadcast, stack, unstack

Original = Callable[[Tensor, Callable[[fx.Node], Any]], Tensor]
"""A replaced call: a function of its input and of the values of other nodes."""


@dataclass(frozen=True)
class Parts:
    """The parts that the surgery puts in, and the rows of this call, with those of the user.

    ``neuron`` makes a neuron for a path. ``norm`` makes a norm for a number of channels, or is None
    to keep batch norms.
    """

    neuron: Callable[[str], nn.Module]
    norm: Callable[[int], TemporalNorm] | None
    operations: Operations


@final
class Replacement:
    """Puts neurons, dropouts and norms into the places of calls of a graph.

    Attributes:
        originals: the replaced call of each node that was put in, on a stacked input.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, parts: Parts, timesteps: fx.Node) -> None:
        self.root = root
        self.graph = graph
        self.parts = parts
        self.timesteps = timesteps
        self.device = device_of(root)
        self.originals: dict[fx.Node, Original] = {}
        self._functions: dict[fx.Node, Callable[..., Any]] = {}

    def begin(self, nodes: list[fx.Node]) -> None:
        """Keep the functions of the calls to be replaced, before any of them is replaced."""
        self._functions = {node: called(node, self.root) for node in nodes}

    def neuron(self, node: fx.Node, path: str) -> None:
        """Put a neuron at the path, in the place of an activation."""
        entering, leaving = Shapes.of(_source(node)).output, Shapes.of(node).output
        if entering is not None and entering != leaving:
            call = call_of(self.root, node, (_source(node).meta["signal"],))
            name, code = call.name_of_op
            made = None if leaving is None else list(leaving)
            call.refuse(
                f"{name} makes {made} of {list(entering)}, but a neuron keeps shapes",
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
            call = call_of(self.root, node, tuple(s.meta["signal"] for s in signals))
            call.refuse(
                f"{call.name_of_op[0]} takes {len(signals)} signals, but a neuron takes one",
                "write the part for one signal as a module of your own, as class Act, and "
                "name that: activations=(Act,)",
            )

    def dropout(self, node: fx.Node, path: str, row: Operation) -> None:
        """Put a dropout at the path that drops the same entries at each step."""
        signal: Signal = _source(node).meta["signal"]
        if node.op == "call_module":
            p = float(getattr(self.root.get_submodule(str(node.target)), row.rate))
        else:
            p = float(node.kwargs.get("p", 0.5))  # type: ignore[arg-type]
        if row.check is not None:
            row.check(call_of(self.root, node, (signal,)))
        self._install(node, path, TemporalDropout(p, row.dropout or "elements"))
        self._replace(node, path, signal, neuron=False)

    def renews(self, node: fx.Node) -> bool:
        """Return whether a batch norm is to be replaced, which is so where time reaches it."""
        signal: Signal = node.all_input_nodes[0].meta["signal"]
        return self.parts.norm is not None and signal.timed

    def norm(self, node: fx.Node, path: str, row: Operation) -> None:
        """Put a temporal norm at the path, in the place of a batch norm, with its parameters."""
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

        If input and output are static, as for a dropout before the first neuron, the sequence has
        length 1.
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
        """Return the function that a node applies to the signal that enters it."""
        function, given = self._functions[node], (node.args, node.kwargs)

        def run(x: Tensor, value: Callable[[fx.Node], Any]) -> Any:
            args, kwargs = fx.map_arg(given, lambda n: x if n is source else value(n))
            return function(*args, **kwargs)

        return run

    def _install(self, node: fx.Node, path: str, module: nn.Module) -> None:
        """Put the module at the path of the module it replaces, or at a free path."""
        parent, _, name = path.rpartition(".")
        holder = self.root.get_submodule(parent)  # the user's module, with undeclared attributes
        if path != node.target and hasattr(holder, name):
            raise SurgeryError(
                f"{path}: {type(holder).__name__} has an attribute of that name; rename it"
            )
        holder.add_module(name, module.to(self.device))

    def finish(self) -> None:
        """Remove activations that were called several times: their neurons have other paths."""
        used = {str(node.target) for node in self.graph.nodes if node.op == "call_module"}
        for path in {
            str(node.target) for node in self._functions if node.op == "call_module"
        } - used:
            put(self.root, path, nn.Identity())


def _source(node: fx.Node) -> fx.Node:
    """Return the signal that enters a replaced call. A constant may stand before it."""
    return next(iter(varying(node)), node.all_input_nodes[0])
