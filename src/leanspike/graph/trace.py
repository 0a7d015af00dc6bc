"""Tracing a network into its graph, with the owner and the shapes of every call."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from inspect import Parameter
from itertools import chain
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError, check_memory, one_line
from leanspike.graph.assignment import assigned
from leanspike.graph.batch_first import keep_batch_first
from leanspike.graph.both_modes import check_modes
from leanspike.graph.growth import grow
from leanspike.graph.modules import submodule
from leanspike.graph.opening import demoted
from leanspike.graph.ops import Operations
from leanspike.graph.outputs import Container, each_tensor, opened
from leanspike.graph.places import where
from leanspike.graph.signal import Call, Signal
from leanspike.graph.sizes import Sizes
from leanspike.graph.tracer import symbolic
from leanspike.graph.value import writes
from leanspike.modes import buffers_kept


@dataclass(frozen=True)
class Traced:
    """The result of tracing: the graph in eval mode, with the shapes at its nodes.

    ``fixed_shape`` tells whether the example's shape decided a branch or a loop, so that samples of
    another shape might take another path. ``by_type`` are the paths of modules in which the
    example's type or device decided, and another might decide otherwise. ``output`` is the output
    for the example.
    """

    graph: fx.Graph
    fixed_shape: bool
    by_type: tuple[str, ...]
    output: Any


def trace(ann: nn.Module, example_input: Tensor, operations: Operations) -> Traced:
    """Return the graph of ``ann`` in eval mode, with shapes.

    Code that depends on values or on the mode is refused. Functional dropout comes out with
    ``training=False``; the caller replaces it.
    """
    sizes = Sizes(ann, example_input)
    ann.train(True)  # its result is not used: the user's train() may return nothing
    with _left_as_it_is(ann):
        training, _ = symbolic(ann, operations, sizes)
        sizes.runs.forget()
    ann.eval()
    with _left_as_it_is(ann):
        graph, layers = symbolic(ann, operations, sizes)
        sizes.runs.forget()
        constants = {
            name: vars(ann)[name]
            for name in (str(node.target) for node in graph.nodes if node.op == "get_attr")
            if name in vars(ann)
        }
    vars(ann).update(constants)
    for path, layer in layers.items():
        ann.set_submodule(path, demoted(ann.get_submodule(path), layer))
    for traced in (training, graph):
        traced.eliminate_dead_code(is_impure_node=_writes_in_place(ann))
    check_modes(training, graph, ann, operations)
    keep_batch_first(graph)
    output = _propagate_shapes(ann, graph, example_input, operations)
    grow(ann, graph, example_input, sizes)
    return Traced(graph, sizes.fixed, tuple(sizes.by_type), output)


@contextmanager
def _left_as_it_is(ann: nn.Module) -> Iterator[None]:
    """Undo what forwards write to their modules and buffers."""
    modules = list(ann.modules())
    held = [
        {k: copy(v) if type(v) in (dict, list, OrderedDict) else v for k, v in vars(m).items()}
        for m in modules
    ]
    try:
        with buffers_kept(ann):
            yield
    finally:
        for module, attributes in zip(modules, held, strict=True):
            mode = module.training
            vars(module).clear()
            vars(module).update(attributes)
            module.training = mode


def device_of(network: nn.Module) -> torch.device | None:
    """Return the device of the network's first tensor, or None if it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return None if first is None else first.device


def check_inputs(ann: nn.Module) -> None:
    """Raise SurgeryError unless the network can be called with one tensor."""
    parameters = list(inspect.signature(ann.forward).parameters.values())
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p for p in parameters if p.kind not in several and p.default is Parameter.empty]
    takes = [p for p in parameters if p.kind is not Parameter.VAR_KEYWORD]
    if len(needed) > 1 or not takes or takes[0].kind is Parameter.KEYWORD_ONLY:
        names = ", ".join(p.name for p in needed)
        raise SurgeryError(
            f"the network takes {len(needed)} inputs ({names}); wrap it in a module that takes one "
            "tensor"
        )


def _writes_in_place(ann: nn.Module) -> Any:
    """Return a predicate that keeps calls which change their input, even if unused."""

    def impure(node: fx.Node) -> bool:
        return node.op in ("placeholder", "output") or in_place(node, ann)

    return impure


def in_place(node: fx.Node, ann: nn.Module) -> bool:
    """Return whether a call writes its result over its first input."""
    if node.op == "call_module":
        return bool(getattr(ann.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return writes(str(node.target))
    if node.target is assigned:  # no other name may refer to what it overwrites
        return True
    name = getattr(node.target, "__name__", "")
    augmented = name.startswith("i") and getattr(node.target, "__module__", "") == "_operator"
    return bool(
        node.kwargs.get("inplace")
        or (name.endswith("_") and not name.endswith("__"))
        or (augmented and name not in ("index", "inv", "invert", "is_", "is_not", "itemgetter"))
    )


def _propagate_shapes(
    ann: nn.Module, graph: fx.Graph, example_input: Tensor, operations: Operations
) -> Any:
    try:
        with torch.no_grad():
            value = _Propagation(ann, graph, operations).run(example_input.clone())
    except SurgeryError:
        raise
    except Exception as error:
        check_memory(error, example_input.shape)
        raise SurgeryError(
            f"the network does not accept the example input of shape {tuple(example_input.shape)} "
            f"({one_line(error)[:160]}); pass an example_input that it accepts"
        ) from error
    _open_outputs(graph.output_node(), value)
    return value


def _open_outputs(output: fx.Node, plain: Any) -> None:
    """Let the output node read single tensors instead of nodes that return several."""
    container: Container | None = output.meta["container"]
    whole = plain if container is None else container.restored(plain)
    output.args = (each_tensor(output.args[0], plain),)
    output.meta["container"] = opened(whole)[1]


class _Propagation(fx.Interpreter):
    """Runs the graph once, notes the shape of each tensor at its node, and watches overwriting.

    Neurons overwrite nothing. A call that overwrites its input is replaced by the same call that
    does not. So no later call may read an overwritten tensor, under its own or another name (a
    view).
    """

    def __init__(self, ann: nn.Module, graph: fx.Graph, operations: Operations) -> None:
        super().__init__(ann, graph=graph)
        self.extra_traceback = False
        self.ann = ann
        self.operations = operations
        self.overwritten: dict[int, tuple[fx.Node, Any]] = {}  # by address; held, so it stays taken
        self.held = {_address(tensor) for tensor in chain(ann.parameters(), ann.buffers())}

    def run_node(self, n: fx.Node) -> Any:
        for source in n.all_input_nodes:
            writer, _ = self.overwritten.get(_address(self.env[source]), (source, None))
            if source < writer:
                self._refuse(writer, f"{where(n)} reads it")
        self._check_axes(n)
        written = in_place(n, self.ann) and n.op.startswith("call")
        over = self.env[n.all_input_nodes[0]] if written else None
        value = super().run_node(n)
        if isinstance(over, Tensor):
            if _address(over) in self.held:
                raise SurgeryError(
                    f"{where(n)}: writes to a parameter or buffer, but a spiking network keeps "
                    "nothing between calls; take it out"
                )
            if not n.users:
                self._refuse(n, "its result is not used")
            self.overwritten[_address(over)] = n, over
        n.meta["shape"] = value.shape if isinstance(value, Tensor) else None
        n.meta["discrete"] = isinstance(value, Tensor) and not value.is_floating_point()
        return value

    def _check_axes(self, n: fx.Node) -> None:
        """Refuse a single sample, which PyTorch's convolutions would take for a batch."""
        takes = self.operations.row_of(n, self.ann).takes
        if takes is not None and self.env[n.all_input_nodes[0]].dim() < len(takes.split(",")):
            shape = list(self.env[n.all_input_nodes[0]].shape)
            raise ValueError(
                f"{n.target} takes {takes}, not {shape}: one sample is example_input.unsqueeze(0)"
            )

    def _refuse(self, writer: fx.Node, why: str) -> NoReturn:
        fix = "write a call that overwrites nothing, as in x = F.relu(x) or x = x + y"
        if writer.target is assigned:
            fix = "assign to the tensor before any other call reads it"
        raise SurgeryError(f"{where(writer)}: overwrites its input in place and {why}; {fix}")


def _address(value: Any) -> int:
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else 0


@dataclass(frozen=True)
class Shapes:
    """The shapes of a node's tensor inputs and of its output, for the example input."""

    inputs: tuple[torch.Size, ...]
    output: torch.Size | None

    @staticmethod
    def of(node: fx.Node) -> Shapes:
        """Return the shapes that the shape propagation noted at the node and its inputs."""
        inputs = [Shapes._shape(source) for source in node.all_input_nodes]
        return Shapes(tuple(s for s in inputs if s is not None), Shapes._shape(node))

    @staticmethod
    def copy(node: fx.Node, to: fx.Node) -> None:
        """Copy the shape noted at ``node`` to the node ``to``."""
        to.meta["shape"] = node.meta.get("shape")

    @staticmethod
    def _shape(node: fx.Node) -> torch.Size | None:
        shape: torch.Size | None = node.meta.get("shape")
        return shape


def call_of(root: nn.Module, node: fx.Node, signals: tuple[Signal, ...]) -> Call:
    """Return the call at a node as the rules see it. ``signals`` are the facts of its inputs."""
    shapes = Shapes.of(node)
    return Call(node, where(node), submodule(root, node), signals, shapes.inputs, shapes.output)
