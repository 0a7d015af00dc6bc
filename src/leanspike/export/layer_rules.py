"""The export rules of layers with weights: each becomes a convolution or a linear layer."""

from __future__ import annotations

from typing import Any

from torch import fx

from leanspike.errors import LeanspikeError
from leanspike.export.calls import kept, path_of, read
from leanspike.export.folded import depthwise
from leanspike.export.parts import Convolution, Dense, Shape
from leanspike.export.walk import Walk
from leanspike.export.wires import Wire


def convolution(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of a convolution that pads with zeros."""
    layer, path = walk.module(node), path_of(node)
    if layer.padding_mode != "zeros":
        raise LeanspikeError(
            f"module {path}: it pads with padding_mode={layer.padding_mode!r}, but NIR's "
            "convolutions pad with zeros; train with padding_mode='zeros'"
        )
    part = Convolution(
        *(kept(layer.weight), kept(layer.bias), layer.stride),
        *(_padding(layer, path), layer.dilation, layer.groups),
    )
    return walk.weighted(path, part, read(node, walk), walk.shapes[node])


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


def linear(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of a linear layer over one axis."""
    layer, wire = walk.module(node), read(node, walk)
    if len(wire.shape) != 1:
        raise LeanspikeError(
            f"module {path_of(node)}: this linear layer reads the shape {wire.shape}, but NIR's "
            "read one axis; put nn.Flatten() before it"
        )
    part = Dense(kept(layer.weight), kept(layer.bias))
    return walk.weighted(path_of(node), part, wire, walk.shapes[node])


def scaled(node: fx.Node, walk: Walk) -> Wire:
    """Return the wire of the scale and shift of a norm that no layer before it takes up."""
    module, wire = walk.module(node), read(node, walk)
    layer = depthwise(wire.shape, kept(module.scale), kept(module.shift))
    return walk.weighted(path_of(node), layer, wire, wire.shape)
