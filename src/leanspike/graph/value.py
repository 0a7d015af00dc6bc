"""The objects that stand for values (tensors, shapes, numbers) while a network is traced."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from leanspike.graph.assignment import assigned
from leanspike.graph.undecided import SamplesError

if TYPE_CHECKING:
    from leanspike.graph.tracer import PathTracer

UPDATES = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
"""The functions that ``x[key] += y`` and the like call."""

ASSIGNS, WRITES = ("zero_", "fill_", "copy_"), ("add_", "sub_", "mul_", "div_")
"""Methods that overwrite a tensor, or entries of it."""


def writes(method: str) -> bool:
    """Return whether a method of that name overwrites its tensor."""
    return method.endswith("_") and not method.startswith("_")


class UntraceableError(Exception):
    """Code cannot be traced: the reason and the way out. ``{line}`` stands for the place."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


class Value(fx.Proxy):
    """The object that stands for a value in the network's code.

    ``x += y`` is recorded as a change of x itself, under all of its names. Code that asks for a
    number gets it if the sizes of the example determine it.
    """

    tracer: PathTracer
    entries_of: tuple[Value, Any] | None = None

    def __getitem__(self, key: Any) -> Any:
        """Return entries that remember their tensor: writing over them changes that tensor."""
        entries = super().__getitem__(key)  # type: ignore[misc]
        entries.entries_of = (self, key)
        return entries

    def __getattr__(self, name: str) -> Any:
        if name == "is_nested":  # an SNN takes no nested tensors
            return False
        if name == "data":
            return self.tracer.create_proxy("call_method", "detach", (self,), {})
        rank = self.tracer.sizes.rank(self.node) if name == "ndim" else None
        if rank is None and (name in ("values", "indices") or not hasattr(Tensor, name)):
            place = self.tracer.sizes.place(self.node, name)  # in a named tuple, as of x.max(1)
            return Attribute(self, name) if place is None else self[place]
        return Attribute(self, name) if rank is None else rank

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("tracer", "node", "root", "attr", "_node", "entries_of"):  # the proxy's own
            return super().__setattr__(name, value)
        raise UntraceableError(
            f"assigns to the .{name} of a tensor{{line}}",
            "take that out of the forward, and do it after each step of the optimizer",
        )

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.called(operator.iadd, self, other)

    def __isub__(self, other: Any) -> Any:
        return self.tracer.called(operator.isub, self, other)

    def __imul__(self, other: Any) -> Any:
        return self.tracer.called(operator.imul, self, other)

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.called(operator.itruediv, self, other)

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if orig_method is Tensor.__setitem__:
            raise UntraceableError(
                "assigns a computed value to a constant{line}",
                "make the constant for each sample, as torch.zeros(x.shape[0], 8)",
            )
        return super().__torch_function__(orig_method, types, args, kwargs)

    def __setitem__(self, key: Any, value: Any) -> None:
        source: Any = value.node if isinstance(value, Value) else None
        updates = source is not None and source.target in UPDATES and not source.users
        if not updates or source.args[0].args[:1] != (self.node,):
            self.becomes(self.tracer.called(assigned, self, key, value))
            return
        other: Any = source.args[1]
        other = self.tracer.proxy(other) if isinstance(other, fx.Node) else other
        self.becomes(self.tracer.called(assigned, self, key, other, source.target.__name__))
        value.node = self.tracer.called(operator.getitem, self, key).node
        source.graph.erase_node(source)

    def becomes(self, written: fx.Proxy) -> None:
        """Let this value, under all its names, stand for what was written over it."""
        self.node = written.node

    def __len__(self) -> int:
        return self.tracer.length(self)

    def __iter__(self) -> Iterator[Any]:
        """Iterate as usual. torch.fx alone would miss that ``q, k, v = tensor`` splits a tensor."""
        return self.tracer.iter(self) if self.tracer.sizes.rank(self.node) else super().__iter__()

    def __int__(self) -> int:
        try:
            return int(self.tracer.decide(self))
        except UntraceableError as error:
            if isinstance(error.__cause__, SamplesError):
                error.fix += ", as with a // b in place of int(a / b)"
            raise

    def __index__(self) -> int:
        return operator.index(self.tracer.decide(self))

    def __float__(self) -> float:
        return float(self.tracer.decide(self))


class DeviceType(str):
    """The device type of a tensor, as "cpu". Comparing it is noted."""

    tracer: PathTracer
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.tracer.sizes.ask_device(other, self.tracer.path)
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


class Attribute(fx.proxy.Attribute, Value):
    """An attribute of a value, such as its shape. The number of axes is known at once."""

    def __getattr__(self, name: str) -> Any:
        if self.attr == "device" and name == "type":
            return self.tracer.device_type(self.root)
        return super().__getattr__(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rank = self.root.ndim if self.attr in ("dim", "ndimension") else None
        if isinstance(rank, int):
            return rank
        whole, key = self.root.entries_of or (None, None)
        known = self.attr in (*ASSIGNS, *WRITES) and not kwargs
        if whole is not None and whole.entries_of is None and known:
            return self._write_entries(whole, key, *args)
        result = self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)
        if writes(self.attr):
            self.root.becomes(result)
        return result

    def _write_entries(self, whole: Value, key: Any, value: Any = 0) -> Any:
        """Record ``x[key].zero_()`` as ``x[key] = 0``; ``x[key].mul_(y)`` changes x, too."""
        update = () if self.attr in ASSIGNS else (self.attr,)
        whole.becomes(self.tracer.called(assigned, whole, key, value, *update))
        self.root.becomes(whole[key])
        return self.root
