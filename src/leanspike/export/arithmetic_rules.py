"""The export rules of sums, differences, products and quotients."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from leanspike.export.calls import refused
from leanspike.export.walk import Walk
from leanspike.export.wires import Wire, added


def summed(node: fx.Node, walk: Walk) -> Wire:
    """Return the sum of two wires of one shape."""
    return added(_two_wires(node, walk))


def difference(node: fx.Node, walk: Walk) -> Wire:
    """Return the difference of two wires of one shape."""
    one, other = _two_wires(node, walk)
    return added([one, other.times(-1.0)])


def product(node: fx.Node, walk: Walk) -> Wire:
    """Return a wire times a constant."""
    one, other = (_value(argument, walk) for argument in node.args[:2])
    wire, factor = (one, other) if isinstance(one, Wire) else (other, one)
    return _times(node, walk, wire, factor)


def quotient(node: fx.Node, walk: Walk) -> Wire:
    """Return a wire divided by a number."""
    wire, divisor = (_value(argument, walk) for argument in node.args[:2])
    return _times(node, walk, wire, _number(node, walk, divisor) ** -1)


def _two_wires(node: fx.Node, walk: Walk) -> list[Wire]:
    wires = [walk.wire(argument) for argument in node.args[:2]]
    found = [wire for wire in wires if wire is not None]
    if len(found) != 2 or node.kwargs or found[0].shape != found[1].shape:
        refused(node, walk)
    return found


def _value(argument: Any, walk: Walk) -> Any:
    return walk.values[argument] if isinstance(argument, fx.Node) else argument


def _times(node: fx.Node, walk: Walk, wire: Any, factor: Any) -> Wire:
    if not isinstance(wire, Wire):
        refused(node, walk)
    by = factor
    if not isinstance(factor, Tensor) or factor.numel() == 1:
        by = _number(node, walk, factor)
    elif factor.ndim > len(wire.shape):
        by = factor[0] if len(factor) == 1 else refused(node, walk)
    found: Wire = wire.times(by)
    return found


def _number(node: fx.Node, walk: Walk, value: Any) -> float:
    one = isinstance(value, Tensor) and value.numel() == 1
    if not isinstance(value, int | float) and not one:
        refused(node, walk)
    return float(value)
