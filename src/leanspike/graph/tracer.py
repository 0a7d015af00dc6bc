"""Symbolic tracing of a network's code, with a reason where it cannot be traced."""

from __future__ import annotations

import inspect
import linecache
import math
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import torch
from torch import fx, nn

from leanspike.errors import SurgeryError, one_line
from leanspike.graph.opening import opened_as
from leanspike.graph.ops import UNKNOWN, Operations
from leanspike.graph.outputs import Container, returned
from leanspike.graph.sizes import Sizes
from leanspike.graph.table import ROWS
from leanspike.graph.undecided import EachSampleError, SamplesError, UndecidedError
from leanspike.graph.value import DeviceType, UntraceableError, Value

OWN_MODULE = (
    "move such code out, or put it into a module of its own and declare that time-safe with "
    "ops={ThatModule: 'analog'}"
)
MAKES, DRAWS = re.compile(r"\bempty\("), re.compile(r"\b(rand|randn)\(")
"""Code that makes a tensor by functions which do not accept traced sizes."""

MAKERS = (torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace, torch.eye)
"""Functions that make a tensor from sizes, and that torch.fx does not record by itself."""

FOREIGN = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/")
"""The folders of code that is not the user's."""


@contextmanager
def _len_of(ann: nn.Module, tracer: PathTracer) -> Iterator[None]:
    """Let the user's code call ``len`` on traced values, for which Python demands a number."""

    def length(x: Any) -> Any:
        return tracer.samples(x) if isinstance(x, Value) else len(x)

    spaces = {id(space): space for module in ann.modules() for space in _globals_of(type(module))}
    changed = [space for space in spaces.values() if "len" not in space]
    try:
        for space in changed:
            space["len"] = length
        yield
    finally:
        for space in changed:
            space.pop("len", None)


def _globals_of(kind: type[nn.Module]) -> Iterator[dict[str, Any]]:
    """Yield the global names of the user's methods."""
    for base in kind.__mro__:
        for method in vars(base).values():
            if isinstance(method, FunctionType) and not base.__module__.startswith("torch."):
                yield method.__globals__


class PathTracer(fx.Tracer):
    """Symbolic tracing that remembers the module it is in, for its errors.

    Modules with a row stay whole. Other modules that are not torch's are traced inside. Functions
    that the user declares stay whole, too, and so do those of einops, which cannot be traced.
    """

    proxy_buffer_attributes = True
    """A setting of torch.fx: buffers are nodes, as parameters are, and results follow them."""

    def __init__(self, operations: Operations, sizes: Sizes) -> None:
        declared = [op for op in operations.rows if isinstance(op, FunctionType) and op not in ROWS]
        einops = sys.modules.get("einops")
        modules: Any = (math, *([einops] if isinstance(einops, ModuleType) else []))
        super().__init__(modules, (*declared, *MAKERS))
        self._autowrap_search.append(torch)  # torch.fx looks the functions up here
        self.operations = operations
        self.sizes = sizes
        self.path = ""
        self.opened = sizes.runs.opened = {}
        self.container: Container | None = None

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the object that stands for a value in the network's code."""
        return Value(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:  # noqa: ARG002
        """Make one input. All other arguments take their defaults, as in ``network(x)``.

        The network's outputs are opened, and the description of their container is kept.
        """
        forward: Any = self.root.forward  # its class may have chosen another method in __init__
        name = next(iter(inspect.signature(forward).parameters), "x")

        def with_plain_outputs(_root: nn.Module, *values: Any) -> Any:
            plain, self.container = returned(forward(*values))
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
        """Create a node as usual, or that of the layer whose inner function a subclass calls."""
        inner = self.operations.row(target).inner if kind == "call_function" else None
        if inner is not None and args:
            module = self.root.get_submodule(self.path)
            base = opened_as(inner, module, self.path, args[1:], kwargs)
            if base is not None:
                self.opened[self.path] = base
                kind, target, args, kwargs = "call_module", self.path, args[:1], {}
        return super().create_node(kind, target, args, kwargs, name, type_expr)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any
    ) -> Any:
        """Create a proxy as usual, but trace into ``torch.fx.wrap`` functions without a row."""
        before = len(self.graph.nodes)
        if kind == "call_function" and self._looks_into(target):
            try:
                result = target(*args, **kwargs)
            except Exception:
                result = None
            if isinstance(result, fx.Proxy):
                return result
            while len(self.graph.nodes) > before:  # it stays whole, and is refused by its name
                self.graph.erase_node(next(iter(reversed(self.graph.nodes))))
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def _looks_into(self, function: Any) -> bool:
        if not isinstance(function, FunctionType) or self.operations.row(function) is not UNKNOWN:
            return False
        foreign = function.__code__.co_filename.startswith((*FOREIGN, "<"))
        return not foreign and function.__module__.partition(".")[0] != "einops"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module stays whole: it has a row, or is torch's and has no children."""
        row = self.operations.row(type(m))
        known = row is not UNKNOWN and not row.sequence
        made = next(m.children(), None) is not None
        return known or (not made and super().is_leaf_module(m, module_qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Call a module as usual. If it fails, ``path`` stays at the module that failed."""
        if self.sizes.runs.measuring:
            return forward(*args, **kwargs)
        if m not in (self.submodule_paths or ()):  # made by the forward, as net.layers[:2]
            _check_made(m)
            return forward(*args, **kwargs)
        outer, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = outer
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return an attribute as usual, or its plain value in trial runs and for batch counters."""
        if self.sizes.runs.measuring or attr == "num_batches_tracked":
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return the truth value for a branch, if sizes decide it."""
        return bool(self.decide(obj))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over the sizes of a shape, the tensors of a list, or axis 0 of a tensor."""
        count = self.length(obj)
        if self.sizes.rank(obj.node):
            obj = self.create_proxy("call_method", "unbind", (obj, 0), {})
        return (
            obj[index]  # type: ignore[index]
            for index in range(count)
        )

    def length(self, obj: fx.Proxy) -> int:
        """Return the number of entries of a shape or a list of tensors."""
        try:
            return self.sizes.length(obj.node)
        except UndecidedError as error:
            if not isinstance(error, SamplesError):
                _refuse("loops", error)
            raise UntraceableError(
                "counts or loops over the samples{line}",
                "use operations on all of them, and x.shape[0] in place of len(x)",
            ) from error

    def called(self, function: Any, *args: Any) -> fx.Proxy:
        """Record the call of a function, and return the object that stands for its result."""
        proxy: fx.Proxy = self.create_proxy("call_function", function, args, {})
        return proxy

    def device_type(self, obj: fx.Proxy) -> Any:
        """Return the ``x.device.type`` of a value."""
        known = self.sizes.device_type(obj.node)
        if known is None:
            return fx.proxy.Attribute(obj, "type")
        place = DeviceType(known)
        place.tracer = self
        return place

    def samples(self, obj: fx.Proxy) -> Any:
        """Return ``len`` of a shape or a list, or the size of a tensor's axis 0 as a node."""
        try:
            return self.sizes.length(obj.node)
        except EachSampleError:
            return self.create_proxy("call_method", "size", (obj, 0), {})
        except UndecidedError:
            return self.length(obj)

    def decide(self, obj: fx.Proxy) -> Any:
        """Return the number or truth value that was computed from sizes."""
        try:
            return self.sizes.decide(obj.node, self.path)
        except UndecidedError as error:
            _refuse("branches or counts", error)


def symbolic(
    ann: nn.Module, operations: Operations, sizes: Sizes
) -> tuple[fx.Graph, dict[str, type[nn.Module]]]:
    """Return the graph of a network in its present mode, and the types of opened layers by path.

    Raises:
        SurgeryError: if tracing fails, with the place, the reason and the way out.
    """
    tracer = PathTracer(operations, sizes)
    try:
        with _len_of(ann, tracer):
            graph = tracer.trace(ann)
    except SurgeryError:
        raise
    except Exception as error:
        place = f"module {tracer.path}" if tracer.path else "the network's own forward"
        line = _line(error)
        shown = f" in `{line[:80]}`" if line else ""
        if isinstance(error, UntraceableError):
            why, fix = error.why.format(line=shown), error.fix
            if line.startswith("assert"):
                fix = "take the assert out"
        elif MAKES.search(line):
            why = f"makes a tensor of a size that it computes{shown}"
            fix = "write torch.zeros for torch.empty"
        elif DRAWS.search(line):
            why = f"draws random numbers of a size that it computes{shown}"
            fix = (
                "put it into a module of your own, say class Noise, that draws in training mode "
                "only, and declare that with ops={Noise: 'analog'}"
            )
        else:
            reason = f"{type(error).__name__}: {one_line(error)[:160]}"
            why, fix = f"cannot be traced{shown} ({reason})", OWN_MODULE
        raise SurgeryError(f"{place}: {why}; {fix}") from error
    for node in graph.nodes:  # else code made of the graph would wrap the function everywhere
        node.meta.pop("is_wrapped", None)
    graph.output_node().meta["container"] = tracer.container
    return graph, tracer.opened


def _refuse(does: str, error: UndecidedError) -> NoReturn:
    fix = OWN_MODULE
    if isinstance(error, SamplesError):
        fix = "an SNN counts its timesteps as samples: write code that is the same for any number"
    raise UntraceableError(f"{does} on {error}{{line}}", fix) from error


def _check_made(module: nn.Module) -> None:
    if module._parameters or module._buffers:
        raise UntraceableError(
            f"calls a {type(module).__name__} that is not a part of the network{{line}}",
            "make it an attribute in __init__, or put it into an nn.ModuleList",
        )


def _line(error: BaseException) -> str:
    """Return the user's line of code that an error comes from, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if not f.filename.startswith((*FOREIGN, "<"))]
    if not users or users[-1].lineno is None:
        return ""
    return linecache.getline(users[-1].filename, users[-1].lineno).strip()
