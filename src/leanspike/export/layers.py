"""Building PyTorch's layers from NIR's nodes with weights and shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leanspike.errors import LeanspikeError

Shape = tuple[int, ...]


def layer_of(name: str, kind: str, node: Any, before: Shape) -> nn.Module:
    """Return the layer of a node, for an input of that shape without N.

    Raises LeanspikeError for a primitive that leanspike does not support, and for sizes that do not
    fit.
    """
    if kind not in LAYERS:
        raise LeanspikeError(
            f"node {name}: leanspike has no {kind}; write a graph of {', '.join(LAYERS)} and of "
            "IF, LIF, CubaLIF and Threshold (an output's LI can be left out: the answer is the "
            "mean over the steps)"
        )
    return LAYERS[kind](name, node, before)


def weights(name: str, value: Any, axes: int) -> Tensor:
    """Return weights as float32 with ``axes`` axes, after checking them."""
    found = np.asarray(value)
    if found.ndim != axes or found.dtype.kind not in "fiu" or not found.size:
        raise LeanspikeError(
            f"node {name}: its weight has the shape {found.shape} of {found.dtype}; write "
            f"{axes} axes of numbers"
        )
    found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise LeanspikeError(f"node {name}: a weight is not finite; write numbers")
    return torch.from_numpy(found)


def _linear(name: str, node: Any, before: Shape) -> nn.Module:
    weight = weights(name, node.weight, 2)
    bias = vars(node).get("bias")
    if before[-1:] != weight.shape[1:]:
        raise LeanspikeError(
            f"node {name}: its weight reads {weight.shape[1]} numbers, but {before} arrive; write "
            "a Flatten before it, or another weight"
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _with(name, layer, weight, bias)


def _convolution(name: str, node: Any, before: Shape) -> nn.Module:
    axes = len(before) - 1
    kind = {1: nn.Conv1d, 2: nn.Conv2d}.get(axes)
    weight, groups = weights(name, node.weight, axes + 2), _sizes(name, node.groups, 1)[0]
    if kind is None or before[0] != weight.shape[1] * groups or len(weight) % groups:
        raise LeanspikeError(
            f"node {name}: a convolution of the weight {tuple(weight.shape)} in {groups} groups "
            f"cannot read {before}; write a weight that fits"
        )
    weight, groups = _in_groups(node, weight, groups)
    stride = _sizes(name, node.stride, axes)
    padding = _padding(name, node.padding, stride)
    layer = kind(
        *(before[0], weight.shape[0], tuple(weight.shape[2:]), stride),  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        dilation=_sizes(name, node.dilation, axes),  # type: ignore[arg-type]
        groups=groups,
    )
    return _with(name, layer, weight, node.bias)


def _in_groups(node: Any, weight: Tensor, groups: int) -> tuple[Tensor, int]:
    """Return the weight in groups of a convolution that leanspike wrote whole, with zeros."""
    said = node.metadata.get("groups", 1) if isinstance(node.metadata, dict) else 1
    blocks = int(said) if isinstance(said, int | np.integer) else 1
    outputs, inputs = weight.shape[:2]
    if groups != 1 or blocks < 2 or outputs % blocks or inputs % blocks:
        return weight, groups
    split = weight.reshape(blocks, outputs // blocks, blocks, inputs // blocks, *weight.shape[2:])
    own = torch.stack([split[block, :, block] for block in range(blocks)])
    if torch.count_nonzero(own) != torch.count_nonzero(weight):
        return weight, groups
    return own.flatten(0, 1).contiguous(), blocks


def _padding(name: str, value: Any, stride: Shape) -> str | Shape:
    if not isinstance(value, str):
        return _sizes(name, value, len(stride), 0)
    if value == "valid" or (value == "same" and set(stride) == {1}):
        return value
    raise LeanspikeError(
        f"node {name}: its padding is {value[:40]!r} with a stride of {stride}; write valid, same "
        "with a stride of 1, or whole numbers"
    )


def _sum_pool(name: str, node: Any, before: Shape) -> nn.Module:
    pool = _average_pool(name, node, before)
    pool.divisor_override = 1
    return pool


def _average_pool(name: str, node: Any, before: Shape) -> nn.AvgPool2d:
    if len(before) != 3:
        raise LeanspikeError(
            f"node {name}: a pool over images cannot read {before}; write [C, H, W]"
        )
    kernel, stride = _sizes(name, node.kernel_size, 2), _sizes(name, node.stride, 2)
    return nn.AvgPool2d(kernel, stride, _sizes(name, node.padding, 2, 0))  # type: ignore[arg-type]


def _flatten(name: str, node: Any, before: Shape) -> nn.Module:
    """Return a Flatten from the first axis of a sample. Some writers count N, others do not."""
    axes = len(before)
    (first,), (last,) = (_sizes(name, of, 1, -axes) for of in (node.start_dim, node.end_dim))
    whole = first in (0, 1, -axes) and last in (-1, axes - 1, axes)
    if not whole:
        raise LeanspikeError(
            f"node {name}: it flattens axes {first} to {last} of {before}; write a Flatten of the "
            "whole sample"
        )
    return nn.Flatten()


class Scale(nn.Module):
    """NIR's Scale, which multiplies each entry by a number.

    >>> Scale(torch.tensor([2.0, 3.0]))(torch.ones(1, 2))
    tensor([[2., 3.]])
    """

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", scale)

    def forward(self, x_N: Tensor) -> Tensor:
        """Scale ``[N, ...]``."""
        return x_N * self.scale


def _scale(name: str, node: Any, before: Shape) -> nn.Module:
    scale = weights(name, np.broadcast_to(node.scale, before), len(before))
    return Scale(scale)


def _with(name: str, layer: Any, weight: Tensor, bias: Any) -> nn.Module:
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        shift = weights(name, bias, 1)
        if len(shift) != len(weight):
            raise LeanspikeError(
                f"node {name}: {len(shift)} biases for {len(weight)} outputs; write one for each"
            )
        layer.bias = nn.Parameter(shift)
    found: nn.Module = layer
    return found


def _sizes(name: str, value: Any, axes: int, lowest: int = 1) -> Shape:
    """Return whole numbers, one for each axis, after checking them."""
    found: NDArray[Any] = np.asarray(value)
    sizes = found.reshape(-1).tolist() * (axes if found.size == 1 else 1)
    whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and (found % 1 == 0).all())
    if len(sizes) != axes or not whole or any(size < lowest for size in sizes):
        raise LeanspikeError(
            f"node {name}: {str(found.tolist())[:80]} are not sizes; write {axes} whole numbers, "
            f"{lowest} or more"
        )
    return tuple(int(size) for size in sizes)


LAYERS: dict[str, Callable[[str, Any, Shape], nn.Module]] = {
    **dict.fromkeys(("Affine", "Linear"), _linear),
    **dict.fromkeys(("Conv1d", "Conv2d"), _convolution),
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
    "Flatten": _flatten,
    "Scale": _scale,
}
