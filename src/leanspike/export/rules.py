"""What each operation becomes: a rule for each that parts can hold.

A rule takes a node of the graph and the walk, and gives a wire, or a constant that others read.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.export.folded import depthwise
from leanspike.export.parts import Convolution, Dense, Shape, SumPool
from leanspike.export.walk import Walk
from leanspike.export.wires import Wire, added
from leanspike.graph.ops import OPERATIONS, op_of
from leanspike.neuron import Neuron, Recorded
from leanspike.synapse import plain
from leanspike.temporal import ChannelAffine

Rule = Callable[[fx.Node, Walk], Any]
HOLDS = "NIR holds convolutions, linear layers, average pools, flatten, sums and neurons"


def rule_of(node: fx.Node, walk: Walk) -> Rule:
    """The rule of what a node calls; that of constants for what reads no wire."""
    if node.op == "get_attr":
        return _attribute
    if node.op == "placeholder" or node.meta.get("state_of"):
        return _nothing
    neuron = _neuron(node, walk)
    if neuron is not None:
        return _spikes
    if not any(walk.wire(argument) for argument in node.all_input_nodes):
        return _constant
    op = op_of(node, walk.root)
    op = OPERATIONS.base(type(plain(walk.module(node)))) if isinstance(op, type) else op
    return RULES.get(op, _refused)


def path_of(node: fx.Node) -> str:
    """How messages and files name it: a module's path, or where a function is called."""
    return str(node.target) if node.op == "call_module" else str(node.meta.get("place", node.name))


# -- neurons, constants --------------------------------------------------------------------------


def _neuron(node: fx.Node, walk: Walk) -> Neuron | None:
    """The neuron whose ``step`` is called."""
    read = node.args[0] if node.op == "call_method" and node.target == "step" else None
    found = walk.values.get(read) if isinstance(read, fx.Node) else None
    return found if isinstance(found, Neuron) else None


def _spikes(node: fx.Node, walk: Walk) -> Any:
    neuron, wire = walk.values[node.args[0]], walk.wire(node.args[1])  # type: ignore[index]
    assert wire is not None
    assert isinstance(neuron, Recorded)
    path = str(node.args[0].target)  # type: ignore[union-attr]
    return walk.spiking(path, neuron.record(), wire), None


def _attribute(node: fx.Node, walk: Walk) -> Any:
    found: Any = walk.root
    for name in str(node.target).split("."):
        found = getattr(found, name)
    return found


def _nothing(node: fx.Node, walk: Walk) -> Any:  # noqa: ARG001
    return None


def _constant(node: fx.Node, walk: Walk) -> Any:
    """What does not depend on the input is computed now."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), walk.values.__getitem__)
    if node.op == "call_module":
        return walk.module(node)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _sizes(node: fx.Node, walk: Walk) -> Any:
    """The shape of one sample, or a number of it."""
    wire = walk.wire(node.args[0])
    assert wire is not None
    shape = torch.Size((1, *wire.shape))
    if node.target == "dim":
        return len(shape)
    if node.target == "size" and node.args[1:]:
        return shape[node.args[1]]  # type: ignore[index]
    return shape


# -- layers --------------------------------------------------------------------------------------


def _read(node: fx.Node, walk: Walk) -> Wire:
    """The only wire that a node reads, as its first argument."""
    wire = walk.wire(node.args[0] if node.args else None)
    if wire is None or any(walk.wire(other) for other in node.args[1:]):
        _refused(node, walk)
    assert wire is not None
    return wire


def _convolution(node: fx.Node, walk: Walk) -> Wire:
    layer, path = walk.module(node), path_of(node)
    if layer.padding_mode != "zeros":
        raise LeanspikeError(
            f"module {path}: it pads with padding_mode={layer.padding_mode!r}, and NIR's "
            "convolutions pad with zeros; train with padding_mode='zeros'"
        )
    part = Convolution(
        *(_kept(layer.weight), _kept(layer.bias), layer.stride),
        *(_padding(layer, path), layer.dilation, layer.groups),
    )
    return walk.weighted(path, part, _read(node, walk), walk.shapes[node])


def _padding(layer: Any, path: str) -> Shape:
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    sides = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if any(side % 2 for side in sides):
        raise LeanspikeError(
            f"module {path}: padding='same' pads {tuple(layer.kernel_size)} on one side "
            "more than on the other, which NIR does not; train with odd kernels"
        )
    return tuple(side // 2 for side in sides)


def _linear(node: fx.Node, walk: Walk) -> Wire:
    layer, wire = walk.module(node), _read(node, walk)
    if len(wire.shape) != 1:
        raise LeanspikeError(
            f"module {path_of(node)}: this linear layer reads the shape {wire.shape}, and NIR's "
            "read one axis; put nn.Flatten() before it"
        )
    part = Dense(_kept(layer.weight), _kept(layer.bias))
    return walk.weighted(path_of(node), part, wire, walk.shapes[node])


def _scaled(node: fx.Node, walk: Walk) -> Wire:
    """What remains of a norm that no layer before it takes up."""
    module, wire = walk.module(node), _read(node, walk)
    layer = depthwise(wire.shape, _kept(module.scale), _kept(module.shift))
    return walk.weighted(path_of(node), layer, wire, wire.shape)


def _kept(value: Tensor | None) -> Any:
    return None if value is None else value.detach().cpu().clone()


# -- pools and shapes ------------------------------------------------------------------------------


def _average(node: fx.Node, walk: Walk) -> Wire:
    """An average pool, a module or a function: sums times 1/k²."""
    call = _options(node, walk, F_AVERAGE)
    wire, path = _read(node, walk), path_of(node)
    kernel, padding = _pair(call["kernel_size"]), _pair(call["padding"])
    stride = kernel if call["stride"] in (None, ()) else _pair(call["stride"])
    uneven = any(padding) and not call["count_include_pad"] and not call["divisor_override"]
    if call["ceil_mode"] or uneven:
        raise LeanspikeError(
            f"module {path}: its windows do not all have the same size (ceil_mode or "
            "count_include_pad=False), and NIR's do; train without"
        )
    divisor = call["divisor_override"] or kernel[0] * kernel[1]
    return walk.pooled(path, SumPool(kernel, stride, padding), divisor, wire, walk.shapes[node])


F_AVERAGE = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}


def _options(node: fx.Node, walk: Walk, defaults: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call after its first, or the module's attributes of these names."""
    if node.op == "call_module":
        module = walk.module(node)
        return {name: getattr(module, name) for name in defaults}
    given = dict(zip(defaults, node.args[1:], strict=False))
    return {**defaults, **given, **node.kwargs}


def _pair(size: Any) -> Shape:
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,)
    return int(sizes[0]), int(sizes[-1])


def _adaptive(node: fx.Node, walk: Walk) -> Wire:
    """An adaptive average pool whose windows all have the same size."""
    wire, after = _read(node, walk), walk.shapes[node]
    return _windows(node, walk, wire, after)


def _windows(node: fx.Node, walk: Walk, wire: Wire, after: Shape) -> Wire:
    path, before = path_of(node), wire.shape
    if len(before) != 3 or any(b % a for b, a in zip(before[1:], after[1:], strict=True)):
        raise LeanspikeError(
            f"module {path}: pooling from {before} to {after} has windows of several sizes, and "
            "NIR's have one; pool to a size that divides that of the image"
        )
    kernel = before[1] // after[1], before[2] // after[2]
    return walk.pooled(path, SumPool(kernel, kernel), kernel[0] * kernel[1], wire, after)


def _mean(node: fx.Node, walk: Walk) -> Wire:
    """The mean over all pixels."""
    wire, after = _read(node, walk), walk.shapes[node]
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    pixels = isinstance(axes, tuple | list) and {int(axis) % 4 for axis in axes} == {2, 3}
    if len(wire.shape) != 3 or not pixels:
        _refused(node, walk)
    pooled = _windows(node, walk, wire, (wire.shape[0], 1, 1))
    return walk.flattened(f"{path_of(node)}.flatten", pooled, after) if len(after) == 1 else pooled


def _flattened(node: fx.Node, walk: Walk) -> Wire:
    """Any reshape that makes one axis of a sample, or leaves it as it is."""
    wire, after = walk.wire(node.args[0]), walk.shapes[node]
    assert wire is not None
    if after == wire.shape:
        return wire
    if len(after) != 1:
        _refused(node, walk)
    return walk.flattened(path_of(node), wire, after)


def _strided(node: fx.Node, walk: Walk) -> Wire:
    """Every second row and column, as in the shortcuts of ResNets: a convolution of 1x1."""
    wire, index, after = _read(node, walk), node.args[1], walk.shapes[node]
    whole = index[:2] == (slice(None), slice(None)) if isinstance(index, tuple) else False
    steps = [i.step or 1 for i in index[2:] if isinstance(i, slice)] if whole else []  # type: ignore[index, union-attr]
    if len(steps) != 2 or any(i.start or i.stop for i in index[2:]):  # type: ignore[index, union-attr]
        _refused(node, walk)
    layer = depthwise(wire.shape, torch.ones(()))
    assert isinstance(layer, Convolution)
    return walk.weighted(path_of(node), replace(layer, stride=tuple(steps)), wire, after)


def _padded(node: fx.Node, walk: Walk) -> Wire:
    """Channels of zeros before and behind: a convolution of 1x1."""
    wire, after = _read(node, walk), walk.shapes[node]
    call = _options(node, walk, {"pad": (), "mode": "constant", "value": None})
    sides, zeros = tuple(call["pad"]), call["mode"] == "constant" and not call["value"]
    if len(sides) != 6 or any(sides[:4]) or not zeros or len(wire.shape) != 3:
        _refused(node, walk)
    weight = torch.zeros(after[0], wire.shape[0], 1, 1)
    for channel in range(wire.shape[0]):
        weight[channel + sides[4], channel] = 1.0
    part = Convolution(weight, None, (1, 1), (0, 0), (1, 1))
    return walk.weighted(path_of(node), part, wire, after)


def _same(node: fx.Node, walk: Walk) -> Any:
    return walk.wire(node.args[0])


# -- arithmetic ------------------------------------------------------------------------------------


def _sum(node: fx.Node, walk: Walk) -> Wire:
    return added(_two_wires(node, walk))


def _difference(node: fx.Node, walk: Walk) -> Wire:
    one, other = _two_wires(node, walk)
    return added([one, other.times(-1.0)])


def _two_wires(node: fx.Node, walk: Walk) -> list[Wire]:
    wires = [walk.wire(argument) for argument in node.args[:2]]
    found = [wire for wire in wires if wire is not None]
    if len(found) != 2 or node.kwargs or found[0].shape != found[1].shape:
        _refused(node, walk)
    return found


def _product(node: fx.Node, walk: Walk) -> Wire:
    one, other = (_value(argument, walk) for argument in node.args[:2])
    wire, factor = (one, other) if isinstance(one, Wire) else (other, one)
    return _times(node, walk, wire, factor)


def _quotient(node: fx.Node, walk: Walk) -> Wire:
    wire, divisor = (_value(argument, walk) for argument in node.args[:2])
    return _times(node, walk, wire, _number(node, walk, divisor) ** -1)


def _value(argument: Any, walk: Walk) -> Any:
    return walk.values[argument] if isinstance(argument, fx.Node) else argument


def _times(node: fx.Node, walk: Walk, wire: Any, factor: Any) -> Wire:
    if not isinstance(wire, Wire):
        _refused(node, walk)
    by = factor
    if not isinstance(factor, Tensor) or factor.numel() == 1:
        by = _number(node, walk, factor)
    elif factor.ndim > len(wire.shape):
        by = factor[0] if len(factor) == 1 else _refused(node, walk)
    found: Wire = wire.times(by)
    return found


def _number(node: fx.Node, walk: Walk, value: Any) -> float:
    one = isinstance(value, Tensor) and value.numel() == 1
    if not isinstance(value, int | float) and not one:
        _refused(node, walk)
    return float(value)


def _refused(node: fx.Node, walk: Walk) -> Any:
    name = getattr(node.target, "__name__", str(node.target))
    op, path = op_of(node, walk.root), path_of(node)
    name = op.__name__ if isinstance(op, type) else name
    if OPERATIONS.row(op).max_pool:
        raise LeanspikeError(
            f"module {path}: {name} takes maxima, and {HOLDS}; train with average pools "
            "(model.options.pool=avg, or nn.AvgPool2d)"
        )
    raise LeanspikeError(f"module {path}: {name} cannot leave; {HOLDS}. Train a network without it")


RULES: dict[Any, Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), _convolution),
    nn.Linear: _linear,
    ChannelAffine: _scaled,
    **dict.fromkeys((nn.AvgPool2d, F.avg_pool2d), _average),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), _adaptive),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((nn.Flatten, torch.flatten, "flatten", torch.reshape), _flattened),
    **dict.fromkeys(("reshape", "view", "squeeze", torch.squeeze), _flattened),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, F.dropout), _same),
    **dict.fromkeys(("contiguous", "detach", "clone", "to", "type_as", "float"), _same),
    **dict.fromkeys((operator.add, torch.add, "add"), _sum),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), _difference),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.truediv, torch.div, "div"), _quotient),
    operator.getitem: _strided,
    F.pad: _padded,
    **dict.fromkeys(("size", "dim", getattr), _sizes),
}
