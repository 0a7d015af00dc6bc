"""Statistics over the batches of all processes, as one process takes them of the whole batch.

Shapes: G groups with statistics of their own, N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

_together: ContextVar[bool] = ContextVar("leanspike_together", default=False)


def several_processes() -> bool:
    """Tell whether there are other processes to take statistics with."""
    there = distributed.is_available() and distributed.is_initialized()
    return there and distributed.get_world_size() > 1


@contextmanager
def synchronised(synchronise: bool = True) -> Iterator[None]:
    """Let norms in training take their statistics over all processes for a while, if asked to.

    With ``synchronise=False`` each norm does as it is set itself.

    >>> with synchronised():
    ...     print(together())  # there are no others
    False
    """
    before = _together.set(synchronise or _together.get())
    try:
        yield
    finally:
        _together.reset(before)


def together(own: bool = False) -> bool:
    """Tell whether statistics are taken over several processes now.

    ``own`` is what the norm itself is set to.

    >>> together(own=True)
    False
    """
    return (own or _together.get()) and several_processes()


class _AllSum(torch.autograd.Function):
    """The sum over all processes, in each of them; so every gradient counts in every process."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    distributed.all_reduce(total)
    return total


def mean_over(x: Tensor, axes: Sequence[int], keepdim: bool = False) -> Tensor:
    """Return the mean over axes, and over all processes where these compute together.

    The axis of the samples must be among the axes.

    >>> mean_over(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (0,))
    tensor([2., 3.])
    """
    axes = list(axes)
    if not together():
        return x.mean(axes, keepdim=keepdim)
    own = x.sum(axes, keepdim=keepdim)
    count = own.new_tensor([x.numel() / max(1, own.numel())])
    total: Tensor = _AllSum.apply(torch.cat([own.flatten(), count]))
    return (total[:-1] / total[-1]).view(own.shape)


def synchronised_batch_norm(
    x_GN: Tensor,
    mean_GC: Tensor | None,
    var_GC: Tensor | None,
    weight_GC: Tensor | None,
    bias_GC: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Apply batch norm in training over the batches of all processes; gradients cross them, too.

    ``x_GN`` is ``[G, N, C, ...]``. The running mean and variance are moved, if there are any.

    Raises:
        ValueError: for one value per channel in all processes, as PyTorch's norms do.
    """
    mean, var, n = _statistics(x_GN)
    if n < 2:
        raise ValueError(
            "Expected more than 1 value per channel when training, got input size "
            f"{tuple(x_GN.shape[1:])} in all processes"
        )
    with torch.no_grad():
        if mean_GC is not None:
            mean_GC.lerp_(mean.to(mean_GC.dtype), momentum)
        if var_GC is not None:
            var_GC.lerp_((var * (n / (n - 1))).to(var_GC.dtype), momentum)
    wide = torch.promote_types(x_GN.dtype, torch.float32)
    found: Tensor = _Normalised.apply(
        x_GN, weight_GC, bias_GC, mean.to(wide), (var + eps).rsqrt().to(wide), n
    )
    return found


@torch.no_grad()
def _statistics(x_GN: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and variance (over n) in float64, and n, of all processes: the same bits in each.

    Each process tells its own statistics. They are joined by means of the distance between the
    means (Chan, Golub and LeVeque 1979), which loses no digits where a mean is large.
    """
    x = x_GN.to(torch.promote_types(x_GN.dtype, torch.float32))
    var, mean = torch.var_mean(x, _rest(x), correction=0)
    count = mean.new_full((1,), x.numel() / mean.numel())
    own = torch.cat([mean.flatten(), var.flatten(), count]).double()
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    each = torch.stack(parts)
    count_P = each[:, -1:]
    mean_P, var_P = each[:, :-1].chunk(2, 1)
    n = count_P.sum()
    middle = (count_P * mean_P).sum(0) / n
    spread = (count_P * (var_P + (mean_P - middle).square())).sum(0) / n
    return middle.view(mean.shape), spread.view(mean.shape), float(n)


class _Normalised(torch.autograd.Function):
    """γ·(x − μ)/√(σ² + ε) + β, where μ and σ are taken over all processes' values."""

    @staticmethod
    def forward(
        ctx: Any,
        x_GN: Tensor,
        weight_GC: Tensor | None,
        bias_GC: Tensor | None,
        mean_GC: Tensor,
        inverse_GC: Tensor,
        n: float,
    ) -> Tensor:
        ctx.n = n
        ctx.save_for_backward(x_GN, weight_GC, mean_GC, inverse_GC)
        scale = inverse_GC if weight_GC is None else inverse_GC * weight_GC
        y = (x_GN - _along(mean_GC, x_GN)) * _along(scale, x_GN)
        if bias_GC is not None:
            y = y + _along(bias_GC, x_GN)
        return y.to(x_GN.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x_GN, weight_GC, mean_GC, inverse_GC = ctx.saved_tensors
        grad = grad_outputs[0].to(inverse_GC.dtype)
        centred = (x_GN - _along(mean_GC, x_GN)) * _along(inverse_GC, x_GN)
        own = torch.stack([grad.sum(_rest(grad)), (grad * centred).sum(_rest(grad))])
        by_bias, by_weight = own
        scale = inverse_GC if weight_GC is None else inverse_GC * weight_GC
        by_x = None
        if ctx.needs_input_grad[0]:
            shift, slope = _summed(own) / ctx.n
            by_x = grad - _along(shift, grad) - centred * _along(slope, grad)
            by_x = (by_x * _along(scale, grad)).to(x_GN.dtype)
        wanted = ctx.needs_input_grad
        weight = by_weight.to(weight_GC.dtype) if wanted[1] else None
        bias = by_bias.to(inverse_GC.dtype) if wanted[2] else None
        return by_x, weight, bias, None, None, None


def _rest(x_GN: Tensor) -> list[int]:
    return [axis for axis in range(x_GN.dim()) if axis not in (0, 2)]


def _along(values_GC: Tensor, x_GN: Tensor) -> Tensor:
    return values_GC.view(*values_GC.shape[:1], 1, *values_GC.shape[1:], *[1] * (x_GN.dim() - 3))
