"""Symbolic tracing of a network: what its code does with one tensor, or why that cannot be told."""

from __future__ import annotations

import inspect
import linecache
import math
import operator
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.assigned import setitem_
from leanspike.graph.opening import opened_as
from leanspike.graph.ops import UNKNOWN, Operations
from leanspike.graph.outputs import Container, returned
from leanspike.graph.sizes import Sizes, UndecidedError
from leanspike.graph.table import ROWS

OWN_MODULE = (
    "move such code out, or put it into a module of its own and declare that time-safe with "
    "ops={ThatModule: 'analog'}"
)
DRAWS = re.compile(r"\b(rand|randn)\(")
FILLED = (torch.zeros, torch.ones, torch.full)
MADE = (*FILLED, torch.empty, torch.eye, torch.arange, torch.linspace)
"""What makes a tensor, and may be given sizes that are traced; ``FILLED`` also for each sample."""

FOREIGN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
"""Where code lies that is not the user's."""


class _UntraceableError(Exception):
    """Why code cannot be traced, and the way out; ``{line}`` stands for where."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


class _Value(fx.Proxy):
    """What stands for a value in the network's code.

    ``x += y`` is recorded as what it is: x itself changes, under all of its names. What asks for a
    number gets it where the sizes of the example tell it.
    """

    tracer: PathTracer

    def __getattr__(self, name: str) -> Any:
        if name == "is_nested":  # an SNN takes no tensors of several lengths
            return False
        if name == "data":
            return self.tracer.create_proxy("call_method", "detach", (self,), {})
        rank = self.tracer.sizes.rank(self.node) if name == "ndim" else None
        if rank is None and (name in ("values", "indices") or not hasattr(Tensor, name)):
            place = self.tracer.sizes.place(self.node, name)  # of a named tuple, as x.max(1) gives
            return _Attribute(self, name) if place is None else self[place]  # type: ignore[index]
        return _Attribute(self, name) if rank is None else rank

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("tracer", "node", "root", "attr", "_node"):  # its own
            return super().__setattr__(name, value)
        raise _UntraceableError(
            f"assigns to the .{name} of a tensor{{line}}",
            "take that out of the forward, and do it after each step of the optimizer",
        )

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if orig_method is Tensor.__setitem__:
            raise _UntraceableError(
                "assigns what it computes to a constant{line}",
                "make that with as many rows, as torch.zeros(x.shape[0], 8)",
            )
        return super().__torch_function__(orig_method, types, args, kwargs)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.node = self.tracer.create_proxy("call_function", setitem_, (self, key, value), {}).node

    def __len__(self) -> int:
        return self.tracer.length(self)

    def __int__(self) -> int:
        return int(self.tracer.decide(self))

    def __index__(self) -> int:
        return operator.index(self.tracer.decide(self))

    def __float__(self) -> float:
        return float(self.tracer.decide(self))


class _Attribute(fx.proxy.Attribute, _Value):
    """An attribute of such a value, such as its shape. The number of axes is known at once."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rank = self.root.ndim if self.attr in ("dim", "ndimension") else None
        if isinstance(rank, int):
            return rank
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


@contextmanager
def _python_of(ann: nn.Module, tracer: PathTracer) -> Iterator[None]:
    """Let the user's code take ``len`` of what is traced, and make tensors of such sizes."""

    def length(x: Any) -> Any:
        return tracer.samples(x) if isinstance(x, _Value) else len(x)

    instead: dict[Any, Any] = {make: _making(make, tracer) for make in MADE}
    spaces = {id(space): space for module in ann.modules() for space in _globals_of(type(module))}
    patched: list[tuple[dict[str, Any], str, Any]] = []
    for space in [vars(torch), *spaces.values()]:
        if space is not vars(torch) and "len" not in space:
            patched.append((space, "len", None))
            space["len"] = length
        for name in [n for n, value in space.items() if isinstance(value, BuiltinFunctionType)]:
            if space[name] in instead:
                patched.append((space, name, space[name]))
                space[name] = instead[space[name]]
    try:
        yield
    finally:
        for space, name, before in patched:
            space.update({name: before})
            if before is None:
                del space[name]


def _making(make: Any, tracer: PathTracer) -> Any:
    """A function that makes a tensor, of sizes that may be traced."""

    def made(*args: Any, **kwargs: Any) -> Any:
        sizes = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, _Value)]
        try:
            known = {id(size): tracer.sizes.decide(size.node) for size in sizes}
        except UndecidedError:
            if make in FILLED:
                return tracer.create_proxy("call_function", make, args, kwargs)
            raise _UntraceableError(
                f"calls torch.{make.__name__} for the number of samples{{line}}",
                "write torch.zeros(x.shape[0], ...) for torch.empty, and y.gather(1, k[:, None]) "
                "for y[torch.arange(len(y)), k]",
            ) from None
        args, kwargs = pytree.tree_map(lambda a: known.get(id(a), a), (args, kwargs))
        return make(*args, **kwargs)

    return made


def _globals_of(kind: type[nn.Module]) -> Iterator[dict[str, Any]]:
    """The global names of the user's methods."""
    for base in kind.__mro__:
        for method in vars(base).values():
            if isinstance(method, FunctionType) and not base.__module__.startswith("torch."):
                yield method.__globals__


class PathTracer(fx.Tracer):
    """Symbolic tracing that remembers in which module it is, for its errors.

    Modules with a row stay whole; what else is not torch's own is looked into. So do functions that
    the user declares, and einops', which take no part in tracing.
    """

    def __init__(self, operations: Operations, sizes: Sizes) -> None:
        declared = [op for op in operations.rows if isinstance(op, FunctionType) and op not in ROWS]
        einops = sys.modules.get("einops")
        modules: Any = (math, *([einops] if isinstance(einops, ModuleType) else []))
        super().__init__(modules, tuple(declared))
        self.operations = operations
        self.sizes = sizes
        self.path = ""
        self.opened: dict[str, type[nn.Module]] = {}
        self.container: Container | None = None

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a value in the network's code."""
        return _Value(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:  # noqa: ARG002
        """One input; all other arguments take their defaults, as in ``network(x)``.

        What the network returns is opened, and what it was is kept.
        """
        name = next(iter(list(inspect.signature(root_fn).parameters)[1:]), "x")

        def with_plain_outputs(*values: Any) -> Any:
            plain, self.container = returned(root_fn(*values))
            return plain

        return with_plain_outputs, [self.root, self.create_proxy("placeholder", name, (), {})]

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
        """Those that have a row, and torch's own that are not made of others."""
        row = self.operations.row(type(m))
        known = row is not UNKNOWN and not row.sequence
        made = next(m.children(), None) is not None
        return known or (not made and super().is_leaf_module(m, module_qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """As usual; where it fails, ``path`` is left at the module that failed."""
        if self.sizes.measuring:
            return forward(*args, **kwargs)
        if m not in (self.submodule_paths or ()):  # the forward made it, as net.layers[:2]
            _check_made(m)
            return forward(*args, **kwargs)
        outer, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = outer
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As usual, but for a run that is not traced."""
        if self.sizes.measuring:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """What a branch takes, where sizes decide it."""
        return bool(self.decide(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The sizes of a shape, or the tensors of a list."""
        return (
            obj[index]  # type: ignore[index]
            for index in range(self.length(obj))
        )

    def length(self, obj: fx.Proxy) -> int:
        """How many entries a shape or a list of tensors has."""
        try:
            return self.sizes.length(obj.node)
        except UndecidedError as error:
            if "number of samples" not in str(error) and "one by one" not in str(error):
                _refuse("loops", error)
            raise _UntraceableError(
                "counts or loops over the samples{line}",
                "use operations on all of them, and x.shape[0] in place of len(x)",
            ) from error

    def samples(self, obj: fx.Proxy) -> Any:
        """``len`` of a shape or a list; of a tensor its size, which stays a node."""
        try:
            return self.sizes.length(obj.node)
        except UndecidedError as error:
            if "one by one" not in str(error):
                return self.length(obj)
            return self.create_proxy("call_method", "size", (obj, 0), {})

    def decide(self, obj: fx.Proxy) -> Any:
        """The number, or truth, of what was computed from sizes."""
        try:
            return self.sizes.decide(obj.node)
        except UndecidedError as error:
            _refuse("branches or counts", error)


def symbolic(
    ann: nn.Module, operations: Operations, sizes: Sizes
) -> tuple[fx.Graph, dict[str, type[nn.Module]]]:
    """The graph of a network in the mode it is in, and what its opened layers are, by path.

    Raises:
        SurgeryError: by the place where tracing fails, for the reason why, with the way out.
    """
    tracer = PathTracer(operations, sizes)
    try:
        with _python_of(ann, tracer):
            graph = tracer.trace(ann)
    except SurgeryError:
        raise
    except Exception as error:
        place = f"module {tracer.path}" if tracer.path else "the network's own forward"
        line = _line(error)
        shown = f" in `{line[:80]}`" if line else ""
        if isinstance(error, _UntraceableError):
            why, fix = error.why.format(line=shown), error.fix
            if line.startswith("assert"):
                fix = "take the assert out"
        elif DRAWS.search(line):
            why = f"draws random numbers of a size that it computes{shown}"
            fix = (
                "write it as a module of your own, as class Noise, that draws in training mode "
                "only, and keep that with ops={Noise: 'analog'}"
            )
        else:
            reason = f"{type(error).__name__}: {one_line(error)[:160]}"
            why, fix = f"cannot be traced{shown} ({reason})", OWN_MODULE
        raise SurgeryError(f"{place}: {why}; {fix}") from error
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # by which torch.fx would wrap it for the whole process
    next(iter(reversed(graph.nodes))).meta["container"] = tracer.container
    return graph, tracer.opened


def _refuse(does: str, error: UndecidedError) -> NoReturn:
    fix = OWN_MODULE
    if "number of samples" in str(error):
        fix = "an SNN counts timesteps among them: write code that is the same for any number"
    raise _UntraceableError(f"{does} on {error}{{line}}", fix) from error


def _check_made(module: nn.Module) -> None:
    if module._parameters or module._buffers:
        raise _UntraceableError(
            f"calls a {type(module).__name__} that is no part of the network{{line}}",
            "make it an attribute in __init__, or put it into an nn.ModuleList",
        )


def _line(error: BaseException) -> str:
    """The user's line of code that an error comes from; "" where there is none to show."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if not f.filename.startswith((*FOREIGN, "<"))]
    if not users or users[-1].lineno is None:
        return ""
    return linecache.getline(users[-1].filename, users[-1].lineno).strip()
