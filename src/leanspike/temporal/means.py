"""Rate gradients of operations that know time: their mean output as a function of their mean input.

Means are taken over time. A step's own values are known only while the network runs forward, and
the gradient goes through the means. What a function returns here follows the mean input. What a
step does beyond the mean counts as a constant.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from leanspike.temporal.synchronise import mean_over, synchronised, together


def carried(value: Tensor, by: Tensor) -> Tensor:
    """Return ``value``, whose gradient goes to ``by`` instead.

    Where ``value`` has a time axis, ``by`` gets the gradients of all steps, added up.

    >>> by = torch.zeros(2, requires_grad=True)
    >>> value = carried(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), by)  # [T, N] = [2, 2]
    >>> value.sum().backward()
    >>> value[0].tolist(), by.grad.tolist()
    ([1.0, 2.0], [2.0, 2.0])
    """
    found: Tensor = _Carried.apply(value, by)
    return found


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, by: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = by.shape, by.dtype
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, grad_outputs[0].sum_to_size(ctx.shape).to(ctx.dtype)


def mean_of_affine(x_N: Tensor, x_TN: Tensor, scale_TC: Tensor, shift_TC: Tensor) -> Tensor:
    """Return the mean over steps of scale_t·x_t + shift_t, as a function of the mean input.

    The mean input and the result are ``[N, C, ...]``.

    >>> x_TN = torch.tensor([[[0.0], [1.0]], [[0.0], [5.0]]])  # [T, N, C] = [2, 2, 1]
    >>> scale_TC = torch.tensor([[2.0], [4.0]])
    >>> mean_of_affine(x_TN.mean(0), x_TN, scale_TC, torch.zeros(2, 1)).flatten().tolist()
    [0.0, 11.0]
    """
    x = _wide(x_N)
    mean_TC, share_TC = followed(x_TN, x_N)
    centred = x - _along(mean_TC.mean(0), x)
    moved = centred * _along((scale_TC * share_TC).mean(0), x)
    return (moved + _along((scale_TC * mean_TC + shift_TC).mean(0), x)).to(x_N.dtype)


def normalised_mean(
    x_N: Tensor, var_C: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, eps: float
) -> Tensor:
    """Return the mean over steps of γ·(x_t − μ)/√(σ² + ε) + β, as a function of the mean input.

    The mean input and the result are ``[N, C, ...]``. ``var_C`` is σ², the variance of all steps
    together. A part of it is the variance of the mean input over the samples, which gradients
    follow. The rest varies with the step and counts as a constant. So the gradients are the norm's
    own where all steps get the same input.

    >>> x_N = torch.tensor([[-1.0], [1.0]])
    >>> normalised_mean(x_N, torch.tensor([4.0]), None, None, 0.0).flatten().tolist()
    [-0.5, 0.5]
    """
    centred, own_C = _centred(x_N)
    scale_C = (own_C + (var_C - own_C).detach() + eps).rsqrt()
    y = centred * _along(scale_C if weight_C is None else weight_C * scale_C, centred)
    return (y if bias_C is None else y + _along(bias_C, y)).to(x_N.dtype)


def normalised_steps_mean(
    x_N: Tensor, x_TN: Tensor, weight_TC: Tensor, bias_TC: Tensor | None, eps: float, apart: bool
) -> Tensor:
    """Return the mean over steps of γ_t·(x_t − μ)/√(σ² + ε) + β_t, as a function of the mean input.

    ``apart`` says that each step has a mean and a variance of its own. A step's current is taken to
    follow the mean current as it does on this batch (:func:`followed`). So a step at which nothing
    arrives gets no gradient.

    >>> x_TN = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> gamma_TC = torch.tensor([[1.0], [2.0]])
    >>> y_N = normalised_steps_mean(x_TN.mean(0), x_TN, gamma_TC, None, 0.0, apart=True)
    >>> y_N.flatten().tolist()  # the mean of -1 and -2, that of 1 and 2
    [-1.5, 1.5]
    """
    centred, own_C = _centred(x_N)
    mean_TC, share_TC = followed(x_TN, x_N)
    if apart:
        var, mine = variance(x_TN, (0, 2)), share_TC.square() * own_C
        offset_TC = torch.zeros_like(mean_TC)
    else:
        var, mine = variance(x_TN, (2,)), own_C
        offset_TC = mean_TC - mean_TC.mean(0)
    scale_TC = weight_TC * (mine + (var - mine).detach() + eps).rsqrt()
    shift_TC = scale_TC * offset_TC if bias_TC is None else scale_TC * offset_TC + bias_TC
    y = centred * _along((scale_TC * share_TC).mean(0), centred)
    return (y + _along(shift_TC.mean(0), y)).to(x_N.dtype)


def followed(x_TN: Tensor, x_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return how each step's values follow the mean over time: their own means and their shares.

    The share κ_t is found by least squares over the samples: x_t − μ_t ≈ κ_t·(x̄ − μ̄). The mean of
    κ over the steps is 1. Both results are ``[T, C]``.

    >>> x_TN = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])
    >>> mean_TC, share_TC = followed(x_TN, x_TN.mean(0))
    >>> mean_TC.flatten().tolist(), share_TC.flatten().tolist()
    ([0.5, 1.5], [0.5, 1.5])
    """
    centred, own_C = _centred(x_N.detach())
    wide = _wide(x_TN.detach())
    rest = [axis for axis in range(wide.dim()) if axis not in (0, 2)]
    together_TC = mean_over(wide * centred, rest)
    silent = own_C <= torch.finfo(own_C.dtype).tiny
    share_TC = together_TC / own_C.masked_fill(silent, 1.0)
    return mean_over(wide, rest), share_TC.masked_fill(silent, 1.0)


def batch_norm_of_mean(norm: Any, x_N: Tensor, x: Tensor) -> Tensor:
    """Return :func:`normalised_mean` for a batch norm of PyTorch's in training.

    ``x`` is the input that the norm had, ``[T*N, C, ...]``.

    >>> x_N = torch.tensor([[-1.0], [1.0]])
    >>> batch_norm_of_mean(torch.nn.BatchNorm1d(1, eps=1e-9), x_N, 2 * x_N).flatten().tolist()
    [-0.5, 0.5]
    """
    with synchronised(isinstance(norm, torch.nn.SyncBatchNorm)):
        return normalised_mean(x_N, variance(x, (1,)), norm.weight, norm.bias, norm.eps)


def variance(x: Tensor, keep: Sequence[int]) -> Tensor:
    """Return the variance over all axes but ``keep``, and over the processes that compute together.

    >>> variance(torch.tensor([[0.0, 1.0], [2.0, 5.0]]), (1,))
    tensor([1., 4.])
    """
    wide = _wide(x.detach())
    rest = [axis for axis in range(x.dim()) if axis not in keep]
    if not together():
        return wide.var(rest, correction=0)
    return mean_over((wide - mean_over(wide, rest, keepdim=True)).square(), rest)


def _centred(x_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[N, C, ...]`` without its mean over the samples, and the variance ``[C]``."""
    x = _wide(x_N)
    rest = [axis for axis in range(x.dim()) if axis != 1]
    centred = x - mean_over(x, rest, keepdim=True)
    return centred, mean_over(centred.square(), rest)


def _along(values_C: Tensor, x_N: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (x_N.dim() - 2))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
