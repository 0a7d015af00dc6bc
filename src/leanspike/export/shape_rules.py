"""The export rules of pools, and of operations that change the shape of a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from leanspike.errors import LeanspikeError
from leanspike.export.calls import options, path_of, read, refused
from leanspike.export.folded import depthwise
from leanspike.export.parts import Convolution, Shape, SumPool
from leanspike.export.walk import Walk
from leanspike.export.wires import Wire

AVERAGE = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}


def average(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of an average pool, as sums times 1/k²."""
    call = options(node, walk, AVERAGE)
    wire, path = read(node, walk), path_of(node)
    kernel, padding = _pair(call["kernel_size"]), _pair(call["padding"])
    stride = kernel if call["stride"] in (None, ()) else _pair(call["stride"])
    uneven = any(padding) and not call["count_include_pad"] and not call["divisor_override"]
    if call["ceil_mode"] or uneven:
        raise LeanspikeError(
            f"module {path}: its windows do not all have the same size (ceil_mode or "
            "count_include_pad=False), but NIR's do; train without"
        )
    divisor = call["divisor_override"] or kernel[0] * kernel[1]
    return walk.pooled(path, SumPool(kernel, stride, padding), divisor, wire, walk.shapes[node])


def _pair(size: Any) -> Shape:
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,)
    return int(sizes[0]), int(sizes[-1])


def adaptive(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of an adaptive average pool with windows of one size."""
    wire, after = read(node, walk), walk.shapes[node]
    return _windows(node, walk, wire, after)


def mean(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of a mean over all pixels."""
    wire, after = read(node, walk), walk.shapes[node]
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    pixels = isinstance(axes, tuple | list) and {int(axis) % 4 for axis in axes} == {2, 3}
    if len(wire.shape) != 3 or not pixels:
        refused(node, walk)
    pooled = _windows(node, walk, wire, (wire.shape[0], 1, 1))
    return walk.flattened(f"{path_of(node)}.flatten", pooled, after) if len(after) == 1 else pooled


def _windows(node: fx.Node, walk: Walk, wire: Wire, after: Shape) -> Wire:
    path, before = path_of(node), wire.shape
    if len(before) != 3 or any(b % a for b, a in zip(before[1:], after[1:], strict=True)):
        raise LeanspikeError(
            f"module {path}: pooling from {before} to {after} has windows of several sizes, but "
            "NIR's have one; pool to a size that divides that of the image"
        )
    kernel = before[1] // after[1], before[2] // after[2]
    return walk.pooled(path, SumPool(kernel, kernel), kernel[0] * kernel[1], wire, after)


def flattened(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of a reshape that makes one axis of a sample, or changes nothing."""
    wire, after = walk.wire(node.args[0]), walk.shapes[node]
    assert wire is not None
    if after == wire.shape:
        return wire
    if len(after) != 1:
        refused(node, walk)
    return walk.flattened(path_of(node), wire, after)


def strided(node: fx.Node, walk: Walk) -> Wire:
    """Return strided rows and columns, as in ResNets' shortcuts, by a 1x1 convolution."""
    wire, index, after = read(node, walk), node.args[1], walk.shapes[node]
    whole = index[:2] == (slice(None), slice(None)) if isinstance(index, tuple) else False
    steps = [i.step or 1 for i in index[2:] if isinstance(i, slice)] if whole else []  # type: ignore[index, union-attr]
    if len(steps) != 2 or any(i.start or i.stop for i in index[2:]):  # type: ignore[index, union-attr]
        refused(node, walk)
    layer = depthwise(wire.shape, torch.ones(()))
    assert isinstance(layer, Convolution)
    return walk.weighted(path_of(node), replace(layer, stride=tuple(steps)), wire, after)


def padded(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire with channels of zeros before and behind, by a 1x1 convolution."""
    wire, after = read(node, walk), walk.shapes[node]
    call = options(node, walk, {"pad": (), "mode": "constant", "value": None})
    sides, zeros = tuple(call["pad"]), call["mode"] == "constant" and not call["value"]
    if len(sides) != 6 or any(sides[:4]) or not zeros or len(wire.shape) != 3:
        refused(node, walk)
    weight = torch.zeros(after[0], wire.shape[0], 1, 1)
    for channel in range(wire.shape[0]):
        weight[channel + sides[4], channel] = 1.0
    part = Convolution(weight, None, (1, 1), (0, 0), (1, 1))
    return walk.weighted(path_of(node), part, wire, after)


def same(node: fx.Node, walk: Walk) -> Any:
    """Return the input of an operation that changes no value and no shape."""
    return walk.wire(node.args[0])
