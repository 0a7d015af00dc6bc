"""From a network to its graph, with every call's owner, shapes and training switches known."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.batch_first import keep_batch_first
from leanspike.graph.opening import demoted, opened_as
from leanspike.graph.ops import UNKNOWN, Operations
from leanspike.graph.outputs import Container, each_tensor, opened, returned


class _AugmentedProxy(fx.Proxy):
    """Records ``x += y`` as what it is: x itself changes, under all of its names."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class PathTracer(fx.Tracer):
    """Symbolic tracing that remembers in which module it is, for its errors.

    Modules with a row stay whole; what else is not torch's own is looked into.
    """

    def __init__(self, operations: Operations) -> None:
        super().__init__()
        self.operations = operations
        self.path = ""
        self.opened: dict[str, type[nn.Module]] = {}
        self.container: Container | None = None

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """As usual; what the network returns is opened, and what it was is kept."""
        forward, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)

        def with_plain_outputs(*values: Any) -> Any:
            plain, self.container = returned(forward(*values))
            return plain

        return with_plain_outputs, arguments

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a value in the network's code."""
        return _AugmentedProxy(node, self)

    def create_node(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
    ) -> fx.Node:
        """As usual; a layer where its subclass calls what is inside of it."""
        inner = self.operations.row(target).inner if kind == "call_function" else None
        if inner is not None and args:
            module = self.root.get_submodule(self.path)
            base = opened_as(inner, module, self.path, args[1:], kwargs)
            if base is not None:
                self.opened[self.path] = base
                kind, target, args, kwargs = "call_module", self.path, args[:1], {}
        return super().create_node(kind, target, args, kwargs, name, type_expr)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """torch's own modules and those that have a row."""
        row = self.operations.row(type(m))
        known = row is not UNKNOWN and not row.sequence
        return known or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """As usual; where it fails, ``path`` is left at the module that failed."""
        outer, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = outer
        return result


def trace(ann: nn.Module, example_input: Tensor, operations: Operations) -> fx.Graph:
    """The graph of ``ann``, in eval mode, with shapes; refuses what depends on values or mode.

    Functional dropout comes out with ``training=False`` and is left to the caller to replace.
    """
    own = set(vars(ann))
    counted = {buffer: buffer.clone() for buffer in ann.buffers()}
    training = _symbolic(ann.train(), operations).graph
    for constant in set(vars(ann)) - own:  # left behind by the tracer, which would count on
        delattr(ann, constant)
    tracer = _symbolic(ann.eval(), operations)
    graph = tracer.graph
    for buffer, value in counted.items():  # a forward of the network's own has counted batches
        buffer.copy_(value)
    for path, base in tracer.opened.items():
        ann.set_submodule(path, demoted(ann.get_submodule(path), base))
    _check_inputs(graph)
    for traced in (training, graph):
        traced.eliminate_dead_code(is_impure_node=_writes_in_place(ann))
    _check_modes(training, graph, operations)
    _propagate_shapes(ann, graph, example_input, operations)
    keep_batch_first(graph)
    return graph


def device_of(network: nn.Module) -> torch.device | None:
    """Where the network's first tensor is; None if it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return None if first is None else first.device


def owner(node: fx.Node) -> str:
    """The path of the module in whose forward the call stands ("" for the network itself)."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    if node.op == "call_module":
        stack = stack[:-1]
    return stack[-1] if stack else ""


def where(node: fx.Node) -> str:
    """How an error names a call: the module's path, or the owner's path and the function."""
    if node.op == "call_module":
        return f"module {node.target}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "?")
    return f"{name} in {owner(node) or 'the network itself'}"


def names_of_calls(nodes: list[fx.Node], stem: str) -> dict[fx.Node, str]:
    """A path for each call: the module's own if called once, else owner, stem and call order."""
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    counts: Counter[str] = Counter()
    names = {}
    for node in nodes:
        if node.op == "call_module" and calls[node.target] == 1:
            names[node] = str(node.target)
            continue
        place = owner(node)
        names[node] = f"{place}.{stem}_{counts[place]}".lstrip(".")
        counts[place] += 1
    return names


def places_of_functions(nodes: list[fx.Node]) -> dict[fx.Node, str]:
    """A path for each call of a function or method: owner and name, numbered if there are more."""
    found: dict[str, list[fx.Node]] = {}
    for node in nodes:
        if node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else node.target.__name__
            found.setdefault(f"{owner(node)}.{name}".lstrip("."), []).append(node)
    return {
        node: place if len(group) == 1 else f"{place}_{number}"
        for place, group in found.items()
        for number, node in enumerate(group)
    }


def _symbolic(ann: nn.Module, operations: Operations) -> PathTracer:
    tracer = PathTracer(operations)
    try:
        graph = tracer.trace(ann)
    except SurgeryError:
        raise
    except Exception as error:
        place = f"module {tracer.path}" if tracer.path else "the network's own forward"
        reason = one_line(error)[:160]
        raise SurgeryError(
            f"{place}: cannot be traced ({type(error).__name__}: {reason}); a network must "
            "not branch or loop on values: move such code out, or put it into a module of its own "
            "and declare that time-safe with ops={ThatModule: 'analog'}"
        ) from error
    _output(graph).meta["container"] = tracer.container
    return tracer


def _output(graph: fx.Graph) -> fx.Node:
    node: fx.Node = next(iter(reversed(graph.nodes)))
    return node


def _check_inputs(graph: fx.Graph) -> None:
    names = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    if len(names) != 1 or names[0].startswith("*"):
        raise SurgeryError(
            f"the network takes {len(names)} inputs ({', '.join(names)}); wrap it in a module "
            "that takes one tensor"
        )


def _check_modes(training: fx.Graph, evaluation: fx.Graph, operations: Operations) -> None:
    """Apart from functional dropout's switch, training and eval must be the same graph."""
    pairs = list(zip(training.nodes, evaluation.nodes, strict=False))
    for before, after in pairs:
        drops = after.op == "call_function" and operations.row(after.target).dropout is not None
        if drops and after.target == before.target:
            if after.kwargs.get("training", True):
                raise SurgeryError(
                    f"{where(after)}: drops in eval mode too; use nn.Dropout, or pass "
                    "training=self.training"
                )
            if not before.kwargs["training"]:  # it never drops
                after.update_kwarg("p", 0.0)
            continue
        if _signature(before) != _signature(after):
            _refuse_mode(after)
    if len(training.nodes) != len(evaluation.nodes):
        _refuse_mode(pairs[-1][1])


def _signature(node: fx.Node) -> tuple[Any, ...]:
    return node.op, node.target, str(node.args), str(node.kwargs)


def _refuse_mode(node: fx.Node) -> None:
    raise SurgeryError(
        f"{where(node)}: the network computes something else in training than in eval mode from "
        "here on (self.training is used); take that part out before the surgery"
    )


def _writes_in_place(ann: nn.Module) -> Any:
    """Calls that change their input stay in the graph even if nobody uses their result."""

    def impure(node: fx.Node) -> bool:
        return node.op in ("placeholder", "output") or in_place(node, ann)

    return impure


def in_place(node: fx.Node, ann: nn.Module) -> bool:
    """Whether the call writes its result over its first input."""
    if node.op == "call_module":
        return bool(getattr(ann.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.startswith("_")
    name = getattr(node.target, "__name__", "")
    augmented = name.startswith("i") and getattr(node.target, "__module__", "") == "_operator"
    return bool(
        node.kwargs.get("inplace")
        or (name.endswith("_") and not name.endswith("__"))
        or (augmented and name not in ("index", "inv", "invert", "is_", "is_not", "itemgetter"))
    )


def _propagate_shapes(
    ann: nn.Module, graph: fx.Graph, example_input: Tensor, operations: Operations
) -> None:
    try:
        with torch.no_grad():
            x = example_input.to(device_of(ann), copy=True)  # which may be overwritten
            value = _Propagation(ann, graph, operations).run(x)
    except SurgeryError:
        raise
    except Exception as error:
        raise SurgeryError(
            f"the network does not accept the example input of shape {tuple(example_input.shape)} "
            f"({one_line(error)[:160]}); pass an example_input that it accepts"
        ) from error
    _open_outputs(_output(graph), value)


def _open_outputs(output: fx.Node, plain: Any) -> None:
    """Let the output node read tensors alone, where it reads nodes that give several."""
    container: Container | None = output.meta["container"]
    whole = plain if container is None else container.restored(plain)
    output.args = (each_tensor(output.args[0], plain),)
    output.meta["container"] = opened(whole)[1]


class _Propagation(fx.Interpreter):
    """Runs the graph once, leaves the shape of each tensor at its node, and watches its memory.

    Neurons overwrite nothing. So a call that overwrites its input is taken for the same call that
    does not, and nobody may read what was overwritten, under its own or another name (a view).
    """

    def __init__(self, ann: nn.Module, graph: fx.Graph, operations: Operations) -> None:
        super().__init__(ann, graph=graph)
        self.extra_traceback = False
        self.ann = ann
        self.operations = operations
        self.overwritten: dict[int, tuple[fx.Node, Any]] = {}  # by address, which they occupy

    def run_node(self, n: fx.Node) -> Any:
        for source in n.all_input_nodes:
            writer, _ = self.overwritten.get(_address(self.env[source]), (source, None))
            if source < writer:
                self._refuse(writer, f"{where(n)} reads it")
        self._check_axes(n)
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op.startswith("call") and in_place(n, self.ann):
            if not n.users:
                self._refuse(n, "its result is not used")
            self.overwritten[_address(value)] = n, value
        n.meta["shape"] = value.shape if isinstance(value, Tensor) else None
        return value

    def _check_axes(self, n: fx.Node) -> None:
        """A convolution of torch takes a single sample, too, which would pass for a batch."""
        takes = self.operations.row_of(n, self.ann).takes
        if takes is not None and self.env[n.all_input_nodes[0]].dim() < len(takes.split(",")):
            shape = list(self.env[n.all_input_nodes[0]].shape)
            raise ValueError(
                f"{n.target} takes {takes}, not {shape}: one sample is example_input.unsqueeze(0)"
            )

    def _refuse(self, writer: fx.Node, why: str) -> NoReturn:
        raise SurgeryError(
            f"{where(writer)}: overwrites its input in place and {why}; write a call that does "
            "not, as in x = F.relu(x) or x = x + y"
        )


def _address(value: Any) -> int:
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else 0


@dataclass(frozen=True)
class Shapes:
    """The shapes of a node's tensor inputs and of its output, for the example input."""

    inputs: tuple[torch.Size, ...]
    output: torch.Size | None

    @staticmethod
    def of(node: fx.Node) -> Shapes:
        """Read what the shape propagation left at the node and its inputs."""
        inputs = [Shapes._shape(source) for source in node.all_input_nodes]
        return Shapes(tuple(s for s in inputs if s is not None), Shapes._shape(node))

    @staticmethod
    def copy(node: fx.Node, to: fx.Node) -> None:
        """Say of ``to`` what was found of ``node``."""
        to.meta["shape"] = node.meta.get("shape")

    @staticmethod
    def _shape(node: fx.Node) -> torch.Size | None:
        shape: torch.Size | None = node.meta.get("shape")
        return shape
