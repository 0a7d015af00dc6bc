"""The surgery: an ordinary network in, the same network with spiking neurons out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any, Literal, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import LeanspikeError, SurgeryError
from leanspike.neuron import LIF, Neuron
from leanspike.surgery import ops as table
from leanspike.surgery.fold_norms import fold_norms
from leanspike.surgery.network import Plan, SpikingNetwork
from leanspike.surgery.ops import Call, Kind, Signal
from leanspike.surgery.trace import FUNCTIONAL_DROPOUT, Shapes, names_of_calls, trace
from leanspike.surgery.trace import where as place_of
from leanspike.temporal import (
    TemporalDropout,
    broadcast,
    create_encoder,
    fold,
    repeat,
    unfold,
)

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

NeuronFactory = nn.Module | Callable[[str], nn.Module]


def spike(
    ann: nn.Module,
    *,
    example_input: Tensor,
    encode: str = "direct",
    timesteps: int = 5,
    neuron: NeuronFactory | None = None,
    norm: Literal["keep", "fold"] = "keep",
    activations: Collection[Any] = (),
    ops: Mapping[Any, Kind | Literal["same"]] | None = None,
) -> SpikingNetwork:
    """Make a network spike: each of its activations becomes a layer of neurons.

    The network is traced with ``torch.fx`` and copied; ``ann`` itself is left untouched. Each
    call of a ReLU gets its own neuron: at the ReLU module's path if that is called once, else at
    ``<owner>.neuron_<k>``, in the order of the calls. All other modules keep their paths, so the
    ANN's ``state_dict`` loads with :meth:`SpikingNetwork.load_ann`. Dropout draws one mask for
    all timesteps. What does not depend on time is computed once.

    Args:
        ann: any network that torch.fx can trace and whose operations are in the op table.
        example_input: as for a call, ``[N, ...]`` (``[T, N, ...]`` for frames), whose samples
            ``ann`` accepts; only its shape matters.
        encode: "direct" (analog input as a constant current) or "frames" (``[T, N, ...]``).
        timesteps: T, 1 or more: the default number of steps of a call.
        neuron: a neuron to copy for each call, or a function from the path to a new one; default
            ``LIF(learn=("leak", "threshold"))``. Any module from ``[T, N, ...]`` to the same will
            do: with ``nn.ReLU()`` the result answers as the ANN at each step.
        norm: "keep" batch norms, or "fold" them into the layers before them (eval statistics).
        activations: further activations to replace: module types, functions, method names.
        ops: further time-safe operations: module type, function or method name, to the kind of
            signal it emits ("analog", "graded", "spike", or "same" as its input). Modules named
            here are not looked into.

    Returns:
        The network, in the mode (train or eval) of ``ann``.

    Raises:
        SurgeryError: for what cannot be traced or is not time-safe, by its path, with a way out.
        LeanspikeError: for arguments out of range.

    Example:
        >>> import torch
        >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
        >>> snn(torch.randn(4, 8)).shape  # [T, N, K]
        torch.Size([5, 4, 3])
    """
    if timesteps < 1:
        raise LeanspikeError(f"timesteps is {timesteps}; give 1 or more")
    if norm not in ("keep", "fold"):
        raise LeanspikeError(f"norm is {norm!r}; choose one of keep, fold")
    if isinstance(ann, SpikingNetwork):
        raise LeanspikeError("this network spikes already; pass the ANN it was made from")
    encoder = create_encoder(encode)
    root = deepcopy(ann)
    declared = dict(ops or {})
    for kind in declared.values():
        if kind not in ("analog", "graded", "spike", "same", None):
            raise LeanspikeError(
                f"ops declares the kind {kind!r}; choose one of analog, graded, spike, same, or "
                "None for what is no tensor"
            )
    leaves = tuple(op for op in {*declared, *activations} if isinstance(op, type))
    sample = example_input[0] if encoder.timed else example_input
    if sample.dim() < 2:
        raise LeanspikeError(
            f"example_input has the shape {tuple(example_input.shape)}; give a batch, "
            f"{'[T, N, ...]' if encoder.timed else '[N, ...]'}"
        )
    graph = trace(root, sample, leaves)
    if norm == "fold":
        fold_norms(root, graph)
    factory = _factory(neuron if neuron is not None else LIF(learn=("leak", "threshold")))
    _Rewriting(root, graph, factory, frozenset(activations), declared).run(encoder.timed)
    plan = Plan(graph, encoder, norm, sample_shape=tuple(sample.shape[1:]))
    return SpikingNetwork(root, plan, timesteps).train(ann.training)


def _factory(neuron: NeuronFactory) -> Callable[[str], nn.Module]:
    if isinstance(neuron, type):
        name = neuron.__name__
        raise LeanspikeError(f"neuron is the class {name}; give one to copy, as in {name}()")
    if isinstance(neuron, nn.Module):
        template = neuron
        return lambda _path: deepcopy(template)
    return neuron


@final
class _Rewriting:
    """Walks the graph once, in order: declares each edge's facts and puts the neurons in."""

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        factory: Callable[[str], nn.Module],
        activations: frozenset[Any],
        declared: dict[Any, Any],
    ) -> None:
        self.root = root
        self.graph = graph
        self.factory = factory
        self.activations = table.RELU | activations
        self.declared = declared
        self.repeated: dict[fx.Node, fx.Node] = {}
        self.timesteps: fx.Node

    def run(self, timed_input: bool) -> None:
        """Rewrite the whole graph in place."""
        nodes = list(self.graph.nodes)
        image = nodes[0]
        with self.graph.inserting_after(image):
            self.timesteps = self.graph.placeholder("timesteps")
        self.timesteps.meta["signal"] = Signal(False, None)
        image.meta["signal"] = Signal(timed_input, "analog")

        firing = [node for node in nodes if self._op(node) in self.activations]
        dropping = [n for n in nodes if self._op(n) in (*DROPOUTS, *FUNCTIONAL_DROPOUT)]
        neurons = names_of_calls(firing, "neuron")
        dropouts = names_of_calls(dropping, "dropout")
        for node in nodes:
            if node in neurons:
                self._place_neuron(node, neurons[node])
            elif node in dropouts:
                self._place_dropout(node, dropouts[node])
            elif node.op == "output":
                self._finish(node)
            elif node.op != "placeholder":
                self._keep(node)
        if not firing:
            raise SurgeryError(
                "the network has no activation to replace; it needs nn.ReLU (or name its own "
                "with activations=...)"
            )
        self._drop_replaced(firing + dropping)
        self.graph.lint()

    def _op(self, node: fx.Node) -> Any:
        """What the op table is asked for: a module's type, a function, a method's name."""
        if node.op == "call_module":
            return type(self.root.get_submodule(str(node.target)))
        return node.target if node.op in ("call_function", "call_method") else None

    # -- neurons and dropout -------------------------------------------------------------------

    def _place_neuron(self, node: fx.Node, path: str) -> None:
        module = self.factory(path)
        kind: Kind = module.emits if isinstance(module, Neuron) else "analog"
        self._install(node, path, module)
        self._replace(node, path, Signal(True, kind), neuron=True)

    def _place_dropout(self, node: fx.Node, path: str) -> None:
        signal: Signal = node.all_input_nodes[0].meta["signal"]
        if node.op == "call_module":
            old = self.root.get_submodule(str(node.target))
            p, channels = float(old.p), not isinstance(old, nn.Dropout)  # type: ignore[arg-type]
        else:
            p = float(node.kwargs.get("p", 0.5))  # type: ignore[arg-type]
            channels = self._op(node) is not FUNCTIONAL_DROPOUT[0]
        self._install(node, path, TemporalDropout(p, channels))
        self._replace(node, path, signal, neuron=False)

    def _replace(self, node: fx.Node, path: str, signal: Signal, *, neuron: bool) -> None:
        """Call the module at ``path`` on ``[T, N, ...]`` in place of ``node``.

        A static input of a module that stays static (dropout before the first neuron) is a
        sequence of length 1.
        """
        source = node.all_input_nodes[0]
        incoming: Signal = source.meta["signal"]
        length = self.timesteps if signal.timed else 1
        with self.graph.inserting_before(node):
            opened = self.graph.call_function(
                unfold if incoming.timed else broadcast, (source, length)
            )
            called = self.graph.call_module(path, (opened,))
            folded = self.graph.call_function(fold, (called,))
        opened.meta["signal"] = Signal(signal.timed, incoming.kind)
        called.meta["signal"] = folded.meta["signal"] = signal
        called.meta["neuron"] = neuron
        Shapes.copy(node, folded)
        node.replace_all_uses_with(folded)
        self.graph.erase_node(node)

    def _install(self, node: fx.Node, path: str, module: nn.Module) -> None:
        """Put the module at the path of the one it replaces, or at one that is free."""
        parent, _, name = path.rpartition(".")
        holder = self.root.get_submodule(parent)  # the user's, whose attributes nobody declares
        if path != node.target and hasattr(holder, name):
            raise SurgeryError(
                f"{path}: the name is taken by an attribute of {type(holder).__name__}; rename it"
            )
        holder.add_module(name, module)

    def _drop_replaced(self, nodes: list[fx.Node]) -> None:
        """Forget activations that were called several times: their neurons have other paths."""
        used = {str(node.target) for node in self.graph.nodes if node.op == "call_module"}
        for path in {str(node.target) for node in nodes if node.op == "call_module"} - used:
            self.root.set_submodule(path, nn.Identity())

    # -- everything else -----------------------------------------------------------------------

    def _keep(self, node: fx.Node) -> None:
        """Declare what the operation emits; make its inputs agree in time."""
        signals = tuple(source.meta["signal"] for source in node.all_input_nodes)
        if node.op == "get_attr" or {signal.kind for signal in signals} == {"constant"}:
            node.meta["signal"] = Signal(False, "constant")
            return
        timed = any(s.timed for s in signals)
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        shapes = Shapes.of(node)
        call = Call(node, place_of(node), module, signals, shapes.inputs, shapes.output)
        if module is None:
            node.target = _OUT_OF_PLACE.get(node.target, node.target)
        kind = self._rule(call)(call)
        if call.kinds == {"constant"}:  # and sizes
            kind = "constant"
        node.meta["signal"] = Signal(timed, kind)
        if timed and kind not in (None, "constant"):
            self._align(node, call)

    def _rule(self, call: Call) -> table.Rule:
        op = self._op(call.node)
        if op in self.declared:
            declared = self.declared[op]
            return table.same if declared == "same" else (lambda _call: declared)
        rules: dict[Any, table.Rule] = {**table.MODULES, **table.FUNCTIONS, **table.METHODS}
        return rules[op] if op in rules else call.refuse(*_reason(op))

    def _align(self, node: fx.Node, call: Call) -> None:
        """Where a static edge meets a timed one it is repeated for each step."""
        for source, signal in zip(node.all_input_nodes, call.inputs, strict=True):
            if signal.kind == "constant":
                shape = Shapes.of(source).output or torch.Size()
                batched = call.out_shape and len(shape) >= len(call.out_shape) and shape[0] != 1
                if batched and self._op(node) not in self.declared:
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
        result = node.args[0]
        if not isinstance(result, fx.Node) or Shapes.of(result).output is None:
            kind = type(result).__name__.removeprefix("immutable_")  # a dict of fx
            what = "something else" if isinstance(result, fx.Node) else f"a {kind}"
            raise SurgeryError(
                f"the network returns {what} instead of one tensor; wrap it in a module that "
                "returns the logits only"
            )
        signal: Signal = result.meta["signal"]
        with self.graph.inserting_before(node):
            y_TN = self.graph.call_function(unfold, (result, self.timesteps))
        y_TN.meta["signal"] = Signal(True, signal.kind)
        node.args = (y_TN,)
        node.meta["signal"] = y_TN.meta["signal"]


# An operation that overwrites its input, and its like that does not: as nobody reads what was
# overwritten (the tracing saw to it), they are the same.
_OUT_OF_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    "add_": "add",
    "mul_": "mul",
    "sub_": "sub",
    "div_": "div",
    "squeeze_": "squeeze",
    "unsqueeze_": "unsqueeze",
}


def _reason(op: Any) -> tuple[str, str]:
    """Why an operation is refused, and the way out."""
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    code = repr(op) if isinstance(op, str) else name
    if op in table.OTHER_ACTIVATIONS:
        return (
            f"{name} is not a ReLU, and a spiking neuron computes something else",
            f"train the network with nn.ReLU, or replace it too with activations=({code},)",
        )
    if op in table.CLAMPS:
        return ("a clamp may be an activation in disguise", "write nn.ReLU for clamp(min=0)")
    if op in table.FIXES:
        return (f"{name} cannot be folded over time or counted", table.FIXES[op])
    return (
        f"{name} is not known to keep timesteps and samples apart",
        f"if it does, declare it with ops={{{code}: 'analog'}}; else take it out",
    )
