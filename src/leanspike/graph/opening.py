"""Opening a layer with its own forward into the layer's call and what surrounds it.

A subclass of a batch norm may call ``F.batch_norm`` with its own tensors, and then an activation.
It is opened into a batch norm and an activation. A convolution that pads its input first is opened
into a padding and a convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from leanspike.graph.operation import Inner


def opened_as(
    inner: Inner,
    module: nn.Module,
    path: str,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
) -> type[nn.Module] | None:
    """Return the layer type of ``module`` whose forward makes this very call, or None.

    ``args`` and ``named`` are the call's arguments after the input, with nodes for tensors.

    >>> graph, conv = fx.Graph(), nn.Conv2d(1, 2, 3)
    >>> weight, bias = (graph.get_attr(f"body.{name}") for name in ("weight", "bias"))
    >>> inner = Inner((nn.Conv2d,), {"weight": None, "bias": None, "stride": 1})
    >>> opened_as(inner, conv, "body", (weight, bias), {}).__name__
    'Conv2d'
    >>> opened_as(inner, conv, "body", (weight, bias), {"stride": 2})  # what is not its own
    """
    base = next((kind for kind in type(module).__mro__ if kind in inner.layers), None)
    if base is None or getattr(module, "padding_mode", "zeros") != "zeros":
        return None
    given = {**inner.arguments, **dict(zip(inner.arguments, args, strict=False)), **named}
    own = all(_is_own(given[name], module, f"{path}.{name}") for name in inner.arguments)
    return base if own else None


def demoted(module: nn.Module, base: type[nn.Module]) -> nn.Module:
    """Return the module as an object of its base class, with the same parameters and children.

    >>> class Mine(nn.Linear):
    ...     def forward(self, x): return super().forward(x).relu()
    >>> mine = Mine(2, 3)
    >>> plain = demoted(mine, nn.Linear)
    >>> type(plain).__name__, plain.weight is mine.weight
    ('Linear', True)
    """
    plain: nn.Module = object.__new__(base)
    vars(plain).update(vars(module))
    return plain


def _is_own(value: Any, module: nn.Module, place: str) -> bool:
    """Whether an argument is the module's attribute at that place."""
    name = place.rpartition(".")[2]
    tensors = {**module._parameters, **module._buffers}  # getattr hides them while fx traces
    own = tensors[name] if name in tensors else getattr(module, name, None)
    if isinstance(own, Tensor):
        return isinstance(value, fx.Node) and (value.op, value.target) == ("get_attr", place)
    if own is None and name == "momentum":  # None: statistics over all batches
        return not isinstance(value, fx.Node)
    if isinstance(own, tuple) and isinstance(value, int):
        return set(own) == {value}
    return not isinstance(value, fx.Node) and bool(value == own)
