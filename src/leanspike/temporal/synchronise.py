"""Batch norm over the batches of all processes, as one process with the whole batch would.

Shapes: G groups with statistics of their own, N samples, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from leanspike.errors import LeanspikeError


def several_processes() -> bool:
    """Whether there are other processes to take statistics with."""
    together = distributed.is_available() and distributed.is_initialized()
    return together and distributed.get_world_size() > 1


def refuse_several_processes(norm: str) -> None:
    """Rate gradients are those of one process's statistics."""
    if several_processes():
        raise LeanspikeError(
            f"{norm} takes its statistics over several processes, and rate gradients know those of "
            "one; train with gradient=bptt, or give each process statistics of its own "
            "(synchronise=False, nn.BatchNorm2d)"
        )


class _AllSum(torch.autograd.Function):
    """The sum over all processes, in each of them; so every gradient counts in every one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        total = value.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def synchronised_batch_norm(
    x_GN: Tensor,
    mean_GC: Tensor,
    var_GC: Tensor,
    weight_GC: Tensor,
    bias_GC: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Batch norm in training over the batches of all processes; gradients cross them too."""
    x = x_GN.to(torch.promote_types(x_GN.dtype, torch.float32))
    rest = [d for d in range(x.dim()) if d not in (0, 2)]
    shape = (x.shape[0], 1, x.shape[2], *[1] * (x.dim() - 3))
    count = x.new_tensor([x_GN.numel() / mean_GC.numel()])
    n: Tensor = _AllSum.apply(count)
    mean: Tensor = _AllSum.apply(x.sum(rest)) / n
    centred = x - mean.view(shape)
    var: Tensor = _AllSum.apply(centred.square().sum(rest)) / n
    with torch.no_grad():
        mean_GC.lerp_(mean.to(mean_GC.dtype), momentum)
        var_GC.lerp_((var * n / (n - 1)).to(var_GC.dtype), momentum)
    y: Tensor = centred * (weight_GC * (var + eps).rsqrt()).view(shape)
    if bias_GC is not None:
        y = y + bias_GC.view(shape)
    return y.to(x_GN.dtype)
