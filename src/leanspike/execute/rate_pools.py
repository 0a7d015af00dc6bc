"""Rate gradients: max pools, whose largest input differs from step to step.

The gradient of a mean output goes to each input of the window by the steps at which it was the
largest. Input x_i gets the part mean(a_t·[i is the largest at t]). Here a are the shares of the
steps in the gradient (:mod:`leanspike.execute.arrival`). The derivative at the mean input would
give all to the one input that is largest on average, though an OR of spikes hears them all.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, C, ...]``, ``_N`` is ``[N, C, ...]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from leanspike.execute.timed import Timed
from leanspike.graph.modules import submodule
from leanspike.temporal import unstack

_FUNCTIONS = (
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
)
_NAMES = ("kernel_size", "stride", "padding", "dilation")

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """The windows of a max pool: a number for each axis of pixels.

    ``size``: pixels of the input; ``left``: of the output.
    """

    kernel: Sides
    stride: Sides
    padding: Sides
    dilation: Sides
    size: Sides
    left: Sides

    def taps(self) -> Iterator[Any]:
        """Return, for each place in a window, where its pixels lie in the padded input."""
        for place in product(*map(range, self.kernel)):
            first = [at * apart for at, apart in zip(place, self.dilation, strict=True)]
            sides = zip(first, self.left, self.stride, strict=True)
            yield (..., *(slice(at, at + (count - 1) * by + 1, by) for at, count, by in sides))

    def pads(self) -> list[tuple[int, int]]:
        """Return the pixels to add before and behind along each axis."""
        sides = zip(self.kernel, self.stride, self.dilation, self.left, strict=True)
        reach = [(count - 1) * by + (wide - 1) * apart + 1 for wide, by, apart, count in sides]
        ends = zip(self.padding, self.size, reach, strict=True)
        return [(before, max(0, last - size - before)) for before, size, last in ends]


def windows_of(n: fx.Node, root: nn.Module, x: Tensor, y: Tensor) -> Windows | None:
    """Return the windows of a max pool from ``x`` to ``y``; None where they have several sizes.

    >>> pool, x = fx.symbolic_trace(nn.Sequential(nn.MaxPool2d(3, 2, 1))), torch.zeros(1, 1, 8, 6)
    >>> windows_of(list(pool.graph.nodes)[1], pool, x, pool(x))
    Windows(kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), size=(8, 6), left=(4, 3))
    """
    size, left = tuple(x.shape[2:]), tuple(y.shape[2:])
    module = submodule(root, n)
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
        given = {name: getattr(module, name) for name in _NAMES}
    elif n.target in _FUNCTIONS:
        given = {**dict(zip(_NAMES, n.args[1:], strict=False)), **n.kwargs}
    elif any(whole % part for whole, part in zip(size, left, strict=True)):
        return None  # adaptive, to sizes that do not divide those of the input
    else:
        given = {"kernel_size": [whole // part for whole, part in zip(size, left, strict=True)]}
    kernel = given["kernel_size"]
    return Windows(
        kernel=_sides(kernel, len(size)),
        stride=_sides(given.get("stride") or kernel, len(size)),
        padding=_sides(given.get("padding", 0), len(size)),
        dilation=_sides(given.get("dilation", 1), len(size)),
        size=size,
        left=left,
    )


def _sides(value: Any, axes: int) -> Sides:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def largest(x: Timed, steps: Tensor, windows: Windows, share_T: Tensor) -> Timed | None:
    """Return what a max pool made of all steps, and its mean, whose gradient goes as said above.

    ``steps`` are what it made, stacked. ``share_T`` are the shares of the steps in the gradient.
    None stands for a value that is not in its window: a forward of its own, or NaN.
    """
    y_TN = unstack(steps, len(share_T))
    x_TN = unstack(x.steps, len(share_T))
    with torch.no_grad():
        parts = _parts(x_TN, y_TN, windows, share_T)
        mean_N = torch.mean(y_TN, 0, out=torch.empty_like(y_TN[0]))  # which keeps channels_last
    if parts is None:
        return None
    mean: Tensor = _MeanOfLargest.apply(mean_N, x.mean, windows, *parts)
    return Timed(steps, mean)


def _parts(x_TN: Tensor, y_TN: Tensor, windows: Windows, share_T: Tensor) -> list[Tensor] | None:
    """Return, for each place in a window, the share of the steps at which it was the largest."""
    taps = list(windows.taps())
    parts = [torch.zeros_like(y_TN[0], dtype=torch.float32) for _ in taps]
    found_N = torch.empty_like(parts[0])
    for x_N, y_N, share in zip(x_TN, y_TN, share_T.tolist(), strict=True):
        padded = _padded(x_N, windows, -torch.inf)
        missing_N = torch.full_like(found_N, share / len(y_TN))  # floats: no cast slows the sums
        for part_N, at in zip(parts, taps, strict=True):
            torch.eq(padded[at], y_N, out=found_N)
            part_N += found_N.mul_(missing_N)
            missing_N -= found_N
        if missing_N.any():
            return None
    return parts


def _padded(x_N: Tensor, windows: Windows, value: float) -> Tensor:
    pads = [pixels for side in reversed(windows.pads()) for pixels in side]
    return F.pad(x_N, pads, value=value) if any(pads) else x_N


class _MeanOfLargest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean_N: Tensor, x_N: Tensor, windows: Windows, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts)
        ctx.windows, ctx.dtype = windows, x_N.dtype
        return mean_N.view_as(mean_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        parts, windows, grad_N = ctx.saved_tensors, ctx.windows, grad_outputs[0]
        wide = torch.promote_types(grad_N.dtype, torch.float32)
        shape = *grad_N.shape[:2], *windows.size
        spread = _padded(torch.zeros(shape, dtype=wide, device=grad_N.device), windows, 0.0)
        spread = spread.contiguous(memory_format=_format(grad_N))
        for part_N, at in zip(parts, windows.taps(), strict=True):
            spread[at] += part_N * grad_N
        sides = zip(windows.pads(), windows.size, strict=True)
        within: Any = (..., *(slice(before, before + size) for (before, _), size in sides))
        return None, spread[within].to(ctx.dtype), None, *[None] * len(parts)


def _format(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
