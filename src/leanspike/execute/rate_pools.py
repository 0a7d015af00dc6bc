"""Rate gradients: max pools, whose largest input differs from step to step.

The gradient of a mean output goes to each input of the window by the steps at which it was the
largest. Input x_i gets the part mean(a_t·[i is the largest at t]). Here a are the shares of the
steps in the gradient (:mod:`leanspike.execute.arrival`). The derivative at the mean input would
give all to the one input that is largest on average, though an OR of spikes hears them all.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, C, ...]``, ``_N`` is ``[N, C, ...]``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from leanspike.backends import MaxPoolRateCall, MaxPoolRates, Windows, choose
from leanspike.backends.pools import Sides, shares_of_largest
from leanspike.execute.fused import is_watched
from leanspike.execute.timed import Timed
from leanspike.graph.modules import submodule
from leanspike.temporal import stack, unstack

_FUNCTIONS = (
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
)
_NAMES = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


def windows_of(n: fx.Node, root: nn.Module, x: Tensor, y: Tensor) -> Windows | None:
    """Return the windows of a max pool from ``x`` to ``y``; None where they have several sizes.

    >>> pool, x = fx.symbolic_trace(nn.Sequential(nn.MaxPool2d(3, 2, 1))), torch.zeros(1, 1, 8, 6)
    >>> windows_of(list(pool.graph.nodes)[1], pool, x, pool(x))
    Windows(kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1), size=(8, 6), left=(4, 3))
    """
    size, left = tuple(x.shape[2:]), tuple(y.shape[2:])
    given = _given(n, root)
    if given is None:
        if any(whole % part for whole, part in zip(size, left, strict=True)):
            return None  # adaptive, to sizes that do not divide those of the input
        given = {"kernel_size": [whole // part for whole, part in zip(size, left, strict=True)]}
    return _windows(given, size, left)


def _given(n: fx.Node, root: nn.Module) -> dict[str, Any] | None:
    """Return what a max pool was given; None for an adaptive one."""
    module = submodule(root, n)
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d):
        return {name: getattr(module, name) for name in _NAMES}
    if n.target in _FUNCTIONS:
        return {**dict(zip(_NAMES, n.args[1:], strict=False)), **n.kwargs}
    return None


def _windows(given: dict[str, Any], size: Sides, left: Sides) -> Windows:
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


def pooled(n: fx.Node, root: nn.Module, x: Timed, share_T: Tensor) -> Timed | None:
    """Return what a max pool of images makes of all steps and of their mean, in one walk.

    None where no backend serves that, and for a pool that may do more than that.
    """
    module, given = submodule(root, n), _given(n, root)
    if type(module) not in (nn.MaxPool2d, type(None)) or (module and is_watched(module)):
        return None
    if given is None or given.get("ceil_mode") or given.get("return_indices") or x.steps.dim() != 4:
        return None
    size = tuple(x.steps.shape[2:])
    found = _windows(given, size, size)
    sides = zip(size, found.kernel, found.stride, found.padding, found.dilation, strict=True)
    left = tuple((s + 2 * p - d * (k - 1) - 1) // by + 1 for s, k, by, p, d in sides)
    windows = replace(found, left=left)
    call = MaxPoolRateCall(unstack(x.steps, len(share_T)), windows, share_T)
    backend = choose(call)
    if backend is None or min(left) < 1:
        return None
    rates: MaxPoolRates = backend.run(call)
    return None if rates.parts is None else _followed(x, stack(rates.y_TN), rates, windows)


def largest(x: Timed, steps: Tensor, windows: Windows, share_T: Tensor) -> Timed | None:
    """Return what a max pool made of all steps, and its mean, whose gradient goes as said above.

    ``steps`` are what it made, stacked. ``share_T`` are the shares of the steps in the gradient.
    None stands for a value that is not in its window: a forward of its own, or NaN.
    """
    y_TN = unstack(steps, len(share_T))
    x_TN = unstack(x.steps, len(share_T))
    with torch.no_grad():
        parts = shares_of_largest(x_TN, y_TN, windows, share_T)
        mean_N = torch.mean(y_TN, 0, out=torch.empty_like(y_TN[0]))  # which keeps channels_last
    if parts is None:
        return None
    return _followed(x, steps, MaxPoolRates(y_TN, mean_N, parts), windows)


def _followed(x: Timed, steps: Tensor, found: MaxPoolRates, windows: Windows) -> Timed:
    assert found.parts is not None
    mean: Tensor = _MeanOfLargest.apply(found.y_N, x.mean, windows, *found.parts)
    return Timed(steps, mean)


class _MeanOfLargest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean_N: Tensor, x_N: Tensor, windows: Windows, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts)
        ctx.windows, ctx.dtype = windows, x_N.dtype
        return mean_N.view_as(mean_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        parts, windows, grad_N = ctx.saved_tensors, ctx.windows, grad_outputs[0]
        grad_N = grad_N.to(torch.promote_types(grad_N.dtype, torch.float32))
        shape = *grad_N.shape[:2], *windows.size
        if windows.apart() and not grad_N.requires_grad:
            like: Any = {"dtype": grad_N.dtype, "device": grad_N.device}
            spread = torch.empty(shape, memory_format=_format(grad_N), **like)
            for part_N, at in zip(parts, windows.taps(), strict=True):
                torch.mul(part_N, grad_N, out=spread[at])
            return None, spread.to(ctx.dtype), None, *[None] * len(parts)
        spread = windows.padded(grad_N.new_zeros(shape), 0.0)
        spread = spread.contiguous(memory_format=_format(grad_N))
        for part_N, at in zip(parts, windows.taps(), strict=True):
            spread[at] += part_N * grad_N
        sides = zip(windows.pads(), windows.size, strict=True)
        within: Any = (..., *(slice(before, before + size) for (before, _), size in sides))
        return None, spread[within].to(ctx.dtype), None, *[None] * len(parts)


def _format(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
