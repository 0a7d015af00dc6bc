"""The numbers of spikes under a graded signal: averages of spikes become sums over windows.

Each function takes a callable, its arguments and its keyword arguments. The callable is a module, a
function, or a function that calls a method. Numbers of spikes take the place of tensors among the
arguments, and each function returns numbers of spikes. Fixed weights among the arguments are 1
where they are not 0: the factor of a spike goes into the weights that read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Follow = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Tensor]

POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode")
INTERPOLATE = (
    *("input", "size", "scale_factor", "mode", "align_corners"),
    *("recompute_scale_factor", "antialias"),
)


def moved(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Apply a call that only moves, repeats or adds entries to the numbers as it is.

    >>> moved(torch.flatten, (torch.tensor([[1, 2]]), 0), {})
    tensor([1, 2])
    """
    counts: Tensor = call(*args, **named)
    return counts


def added(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:  # noqa: ARG001
    """Add the numbers of signals in a sum or difference. A signal that occurs twice counts once.

    >>> added(torch.sub, (torch.tensor([2]), torch.tensor([3])), {"alpha": 4})
    tensor([5])
    """
    first, *rest = {id(tensor): tensor for tensor in _tensors(args, named)}.values()
    return sum(rest, start=first)


def scaled(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:  # noqa: ARG001
    """Return the numbers of a signal times fixed weights. A weight of 0 removes them.

    >>> scaled(torch.mul, (torch.tensor([2, 2]), torch.tensor([1, 0])), {})
    tensor([2, 0])
    """
    first, *rest = _tensors(args, named)
    return prod(rest, start=first)


def summed(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:  # noqa: ARG001
    """Sum the numbers over the axes of a mean or a sum.

    >>> summed(torch.mean, (torch.tensor([[1, 2]]), 1), {})
    tensor([3])
    """
    total: Tensor = torch.sum(*args, **named)
    return total


def average_pooled(
    call: Any, args: tuple[Any, ...], named: Mapping[str, Any], *, axes: int
) -> Tensor:
    """Sum the numbers over the windows of an average pool with ``axes`` axes.

    >>> average_pooled(nn.AvgPool2d(2), (torch.ones(1, 1, 2, 2),), {}, axes=2)
    tensor([[[[4.]]]])
    >>> average_pooled(nn.AvgPool1d(2), (torch.ones(1, 1, 4),), {}, axes=1)
    tensor([[[2., 2.]]])
    """
    options, flat = _options(call, args, named, POOL), axes == 1  # a 1-d pool takes no divisor
    x, ceil_mode = options["input"], bool(options.get("ceil_mode", False))

    def each(name: str, other: int, default: Any) -> list[int]:
        given = options.get(name)
        value = default if given is None or given == () else given
        values = list(value) if isinstance(value, Sequence) else [value] * axes
        return [other, *values] if flat else values * (axes // len(values))

    kernel, padding = each("kernel_size", 1, None), each("padding", 0, 0)
    stride = each("stride", 1, kernel[1:] if flat else kernel)
    if axes == 3:
        return F.avg_pool3d(x, kernel, stride, padding, ceil_mode, divisor_override=1)
    x = x.unsqueeze(-2) if flat else x
    sums = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, divisor_override=1)
    return sums.squeeze(-2) if flat else sums


def adaptively_pooled(
    call: Any, args: tuple[Any, ...], named: Mapping[str, Any], *, axes: int
) -> Tensor:
    """Sum the numbers over the windows of an adaptive average pool, which may differ in size.

    >>> adaptively_pooled(nn.AdaptiveAvgPool2d(2), (torch.ones(1, 1, 3, 3),), {}, axes=2)
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    averages: Tensor = call(*args, **named)
    (x,) = _tensors(args, named)
    for axis in range(-axes, 0):
        length, parts = x.shape[axis], averages.shape[axis]
        begin = [index * length // parts for index in range(parts)]
        end = [-(-(index + 1) * length // parts) for index in range(parts)]
        sizes = torch.tensor(end) - torch.tensor(begin)
        averages = averages * sizes.view(-1, *[1] * (-1 - axis)).to(averages.device)
    return averages


def interpolated(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Count the spikes that have a weight in each entry of an upsampling or downsampling.

    >>> twice = nn.Upsample(scale_factor=2, mode="linear")
    >>> interpolated(twice, (torch.tensor([[[1.0, 2.0]]]),), {})
    tensor([[[1., 3., 3., 2.]]])
    """
    options = _options(call, args, named, INTERPOLATE)
    x, mode = options.pop("input"), options.get("mode", "nearest")
    if mode.startswith("nearest"):
        return moved(call, args, named)
    if mode == "area":
        return adaptively_pooled(call, args, named, axes=x.dim() - 2)
    for axis in range(2, x.dim()):
        meets = _meets(x.shape[axis], axis - 2, x.dim() - 2, options).to(x)
        x = (x.movedim(axis, -1) @ meets).movedim(-1, axis)
    counts: Tensor = x
    return counts


def _meets(length: int, axis: int, axes: int, options: Mapping[str, Any]) -> Tensor:
    """Return ``[in, out]``: 1 where an input entry along an axis has a weight in an output entry.

    The other axes have 2 entries and keep them: with 1 PyTorch's antialiasing confuses the axes.
    """

    def along(value: Any, other: int) -> Any:
        if value is None:
            return None
        values = list(value) if isinstance(value, Sequence) else [value] * axes
        return tuple(values[axis] if place == axis else other for place in range(axes))

    size, factor = along(options.get("size"), 2), along(options.get("scale_factor"), 1)
    rest = {name: value for name, value in options.items() if name not in ("size", "scale_factor")}
    one_hot = torch.eye(length).view(length, 1, *along([length] * axes, 1))
    one_hot = one_hot.expand(length, 1, *along([length] * axes, 2)).contiguous()
    weights = F.interpolate(one_hot, size, factor, **rest)[:, 0].movedim(1 + axis, 1)
    return (weights != 0).reshape(length, weights.shape[1], -1)[:, :, 0]


def _tensors(args: tuple[Any, ...], named: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in (*args, *named.values()) if isinstance(value, Tensor)]


def _options(
    call: Any, args: tuple[Any, ...], named: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Return a call's arguments by name. For a module they are its attributes."""
    given = {**dict(zip(names, args, strict=False)), **named}
    if isinstance(call, nn.Module):
        own = {name: vars(call)[name] for name in names if name in vars(call)}
        return {"input": next(iter(given.values())), **own}
    return {name: value for name, value in given.items() if name in names}
