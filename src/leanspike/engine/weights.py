"""Convolutions and linear layers as synapses of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from leanspike.engine.values import Builder, Term, Value
from leanspike.graph.operation import at_outputs, at_rows
from leanspike.graph.ops import Operation
from leanspike.graph.signal import argument
from leanspike.graph.table import CONVOLVED
from leanspike_runtime.program import Array, Pad, Pair, Synapse


@dataclass(frozen=True)
class Convolution:
    """``weights``: ``[O, I/groups, kh, kw]`` in float64; ``around``: above, below, left, right.

    ``own``: they as the network has them.
    """

    own: Tensor
    weights: Array
    bias: Array
    stride: Pair
    dilation: Pair
    groups: int
    around: tuple[int, int, int, int]


@dataclass(frozen=True)
class Linear:
    """``weights``: ``[O, I]`` in float64; ``own``: they as the network has them."""

    own: Tensor
    weights: Array
    bias: Array


def layer_of(
    node: fx.Node, module: nn.Module | None, row: Operation, number: Callable[[Any], Any]
) -> Convolution | Linear | None:
    """Return the layer that a node calls, by its row, or None if it is neither of the two.

    ``number`` returns the value of an argument that is no signal.
    """
    assert row.synapses is not None
    if row.synapses.positions not in (at_outputs, at_rows):
        return None
    read = {
        name: number(argument(node, module, place, name, default))
        for place, (name, default) in enumerate(CONVOLVED.items(), start=1)
    }
    weight, bias = read["weight"], read["bias"]
    if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return None
    weights = _float64(weight)
    shift = np.zeros(len(weights)) if bias is None else _float64(bias)
    if row.synapses.positions is at_rows:
        return Linear(weight, weights, shift) if weights.ndim == 2 else None
    axes = weights.ndim - 2
    mode = getattr(module, "padding_mode", "zeros")
    if axes > 2 or mode != "zeros":
        return None
    stride, dilation = (_pair(read[name], axes, 1) for name in ("stride", "dilation"))
    weights = weights.reshape(*weights.shape[:2], *(1, *weights.shape[2:])[-2:])
    around = _around(read["padding"], axes, weights.shape[2:], dilation)
    groups = int(read["groups"])
    return Convolution(weight, weights, shift, stride, dilation, groups, around)


def _float64(tensor: Tensor) -> Array:
    values: Array = tensor.detach().double().cpu().numpy()
    return values


def _pair(value: Any, axes: int, other: int) -> Pair:
    """Return a pair for rows and columns. A line of pixels is a row."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    values = values * axes if len(values) == 1 else values
    rows, columns = ([other] * (2 - axes) + [int(entry) for entry in values])[-2:]
    return rows, columns


def _around(padding: Any, axes: int, kernel: Any, dilation: Pair) -> tuple[int, int, int, int]:
    """Return the padding above, below, left and right."""
    if padding == "valid":
        padding = 0
    if padding != "same":
        rows, columns = _pair(padding, axes, 0)
        return rows, rows, columns, columns
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    (above, below), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return above, below, left, right


def applied(builder: Builder, path: str, layer: Convolution | Linear, value: Value) -> Value | None:
    """Return a layer over a value, or None for a linear layer over more than a vector."""
    if isinstance(layer, Linear):
        return _linear(builder, path, layer, value) if len(value.shape) == 1 else None
    return _convolved(builder, path, layer, value)


def _ready(builder: Builder, path: str, value: Value, bordered: bool) -> Value:
    """Return a value of plain edges with the same scales at each step, for weights to take up."""
    ready = builder.unshifted if bordered else builder.alone
    value = ready(path, value)
    by_step = any(len(term.scale) > 1 for term in value.terms)
    return builder.summed(path, value) if by_step else value


def _linear(builder: Builder, path: str, layer: Linear, value: Value) -> Value:
    value = _ready(builder, path, value, bordered=False)
    made = []
    for term in value.terms:
        scale, rest = _common(term)
        weights = _gathered((layer.weights * rest).T, term, builder.shapes[term.edge][2])
        scales = np.full((1, len(layer.weights)), scale)
        made.append(Synapse(term.edge, "linear", scales, _float32(weights[None, None])))
    shift = value.shift @ layer.weights.T + layer.bias
    return Value((len(layer.weights),), (), tuple(made), shift)


def _convolved(builder: Builder, path: str, layer: Convolution, value: Value) -> Value:
    value = _ready(builder, path, value, bordered=any(layer.around))
    above, below, left, right = layer.around
    height, width, _ = value.image
    if (above, left) != (below, right):
        value = builder.each(value, lambda edge: _padded(builder, path, edge, layer.around))
        height, width = height + above + below, width + left + right
        above = below = left = right = 0
    made = [_synapse(builder, layer, term, (above, left)) for term in value.terms]
    size = [
        (length + 2 * padding - d * (k - 1) - 1) // s + 1
        for length, padding, d, k, s in zip(
            *((height, width), (above, left), layer.dilation, layer.weights.shape[2:]),
            layer.stride,
            strict=True,
        )
    ]
    outputs, spread = len(layer.weights), layer.weights.sum((2, 3))
    per_group = value.shift.reshape(len(value.shift), layer.groups, -1)
    by_output = per_group.repeat(outputs // layer.groups, 1)
    shift = (by_output * spread).sum(2) + layer.bias
    pixels = size[2 - (len(value.shape) - 1) :]
    return Value((outputs, *pixels), (), tuple(made), shift)


def _padded(builder: Builder, path: str, edge: int, around: tuple[int, int, int, int]) -> int:
    height, width, channels = builder.shapes[edge]
    above, below, left, right = around
    shape = (height + above + below, width + left + right, channels)
    node = Pad(path, shape, builder.forms[edge], (edge,), around)
    return builder.add(node, builder.under[edge])


def _synapse(builder: Builder, layer: Convolution, term: Term, padding: Pair) -> Synapse:
    """Return the weights over one edge, ``[kh, kw, I/groups, O]``."""
    scale, rest = _common(term)
    groups, (outputs, inputs) = layer.groups, layer.weights.shape[:2]
    by_group = rest.reshape(groups, inputs).repeat(outputs // groups, 0)
    weights = (layer.weights * by_group[:, :, None, None]).transpose(2, 3, 1, 0)
    if not builder.is_plain(term):
        weights = _gathered(_ungrouped(weights, groups), term, builder.shapes[term.edge][2])
        groups = 1
    return Synapse(
        term.edge,
        "conv",
        np.full((1, outputs), scale),
        _float32(weights),
        stride=layer.stride,
        padding=padding,
        dilation=layer.dilation,
        groups=groups,
    )


def _common(term: Term) -> tuple[float, Array]:
    """Return a scale common to all channels, and the rest for each channel."""
    (scale,) = term.scale
    there = scale[term.pick >= 0]
    same = len(there) > 0 and bool((there == there[0]).all())
    whole = float(there[0]) if same else 1.0
    return whole, np.where(term.pick >= 0, 1.0 if same else scale, 0.0)


def _gathered(weights: Array, term: Term, channels: int) -> Array:
    """Return weights of a value's channels, ``[..., C, O]``, as weights of its edge's channels."""
    there = term.pick >= 0
    found = np.zeros((*weights.shape[:-2], channels, weights.shape[-1]))
    where: Any = (..., term.pick[there], slice(None))
    np.add.at(found, where, weights[..., there, :])
    return found


def _ungrouped(weights: Array, groups: int) -> Array:
    """Return weights ``[kh, kw, I/groups, O]`` as ``[kh, kw, I, O]``, with 0 between groups."""
    kh, kw, inputs, outputs = weights.shape
    share = outputs // groups
    full = np.zeros((kh, kw, inputs * groups, outputs))
    for group in range(groups):
        rows = slice(group * inputs, (group + 1) * inputs)
        columns = slice(group * share, (group + 1) * share)
        full[:, :, rows, columns] = weights[..., columns]
    return full


def _float32(weights: Array) -> Array:
    return np.ascontiguousarray(weights, np.float32)
