"""How the native code is called for norms: ``norm_call`` of norm.h, and what it is called for.

Shapes: T timesteps, N samples, C channels; ``x`` is ``[T, N, C, ...]``. G groups of steps with
statistics of their own, 1 or T; R rows of scales, G or T.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.native.structures import empty_steps, is_dense
from leanspike.backends.norms import Followed, NormScale, shares


class _Norm(ctypes.Structure):
    """``norm_call`` of norm.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "moments", "mean_x", "mean_square", "shared")),
        *((name, ctypes.c_void_p) for name in ("y", "mean_y", "scale", "shift")),
        *((name, ctypes.c_void_p) for name in ("grad", "sums", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("of_grad", "of_x", "centre", "constant")),
        ("means", native.Means),
        *((name, ctypes.c_int64) for name in ("rows", "channels", "inner", "steps")),
        *((name, ctypes.c_int64) for name in ("x_step", "grad_step")),
        *((name, ctypes.c_int32) for name in ("bf16", "per_step")),
    )


def lies_well(x: Tensor) -> bool:
    """Return whether steps are dense and channels lie together, or each in a plane of its own.

    >>> lies_well(torch.zeros(2, 3, 4, 5)), lies_well(torch.zeros(2, 3, 4, 5).transpose(1, 3))
    (True, False)
    """
    moving = x.shape[0] == 1 or x.stride(0) >= x[0].numel()
    return moving and ((x.stride(2) == 1 and is_dense(x)) or x[0].is_contiguous())


def has_several(x: Tensor) -> bool:
    """Return whether a channel has more than one value in each step, as a variance needs."""
    return x[0].numel() > x.shape[2]


def learns_in_float32(norm: NormScale) -> bool:
    """Return whether scale and shift are float32 on the CPU, as the native code reads them."""
    learned = [p for p in (norm.weight_RC, norm.bias_RC) if p is not None]
    return all(p.is_cpu and p.dtype == torch.float32 for p in learned)


def _structure(x: Tensor, rows: int) -> _Norm:
    call = _Norm(x=x.data_ptr(), means=native.means(), bf16=x.dtype == torch.bfloat16)
    call.steps, call.channels, call.x_step = x.shape[0], x.shape[2], x.stride(0)
    call.inner = 1 if x.stride(2) == 1 and is_dense(x) else math.prod(x.shape[3:])
    call.rows = x[0].numel() // (call.channels * call.inner)
    call.per_step = rows > 1
    return call


def _run(call: _Norm) -> None:
    if native.library().leanspike_norm(ctypes.byref(call)) != 0:
        raise MemoryError("the native norm found no memory to work in")


def moments(x: Tensor, norm: NormScale) -> tuple[Tensor, Tensor]:
    """Means and variances ``[G, C]``, in one walk.

    >>> x = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> moments(x, NormScale(torch.ones(1, 1), None, 1e-5))
    (tensor([[1.]]), tensor([[1.5000]]))
    """
    found = x.new_empty(norm.rows, 2, x.shape[2], dtype=torch.float64)
    call = _structure(x, norm.rows)
    call.moments = found.data_ptr()
    _run(call)
    return _of_groups(found, norm)


def _of_groups(found_R2C: Tensor, norm: NormScale) -> tuple[Tensor, Tensor]:
    """Return the moments of each step, or of all together."""
    mean, var = found_R2C.unbind(1)
    if norm.rows > norm.groups:
        var = var.mean(0, keepdim=True) + mean.var(0, correction=0, keepdim=True)
        mean = mean.mean(0, keepdim=True)
    return mean.float().contiguous(), var.float().contiguous()


def followed(x: Tensor, norm: NormScale) -> tuple[Tensor, Followed]:
    """Return the mean over the steps, and how the steps follow it, in one walk.

    >>> x = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> x_N, found = followed(x, NormScale(torch.ones(2, 1), None, 0.0))
    >>> x_N.flatten().tolist(), found.share_TC.flatten().tolist()
    ([0.0, 2.0], [0.5, 1.5])
    """
    rows, channels = norm.rows, x.shape[2]
    found = x.new_empty(rows, 2, channels, dtype=torch.float64)
    own, shared = (x.new_empty(n, channels, dtype=torch.float64) for n in (1, rows))
    x_N = empty_steps(x[:1])[0]
    call = _structure(x, rows)
    call.moments, call.mean_square = found.data_ptr(), own.data_ptr()
    call.mean_x, call.shared = x_N.data_ptr(), shared.data_ptr() if rows > 1 else None
    _run(call)
    statistics = *_of_groups(found, norm), own[0].float()
    if rows == 1:
        return x_N, Followed(*statistics)
    return x_N, Followed(*statistics, found[:, 0].float(), shares(shared, own[0]).float())


def in_tensors(found: Followed) -> tuple[Tensor, ...]:
    """Return a record as tensors, as an operator returns it; None becomes an empty tensor."""
    none = found.own_C.new_empty(0)
    steps = (none if part is None else part for part in (found.mean_TC, found.share_TC))
    return found.mean_GC, found.var_GC, found.own_C, *steps


def as_followed(tensors: Sequence[Tensor]) -> Followed:
    """Return the record that these tensors stand for.

    >>> as_followed(in_tensors(Followed(*torch.ones(3, 1, 1)))).share_TC is None
    True
    """
    mean_GC, var_GC, own_C, *steps = tensors
    return Followed(mean_GC, var_GC, own_C, *(part if part.numel() else None for part in steps))


def normalised(
    x: Tensor, scale_RC: Tensor, shift_RC: Tensor, with_mean: bool
) -> tuple[Tensor, Tensor]:
    """Return scale·x + shift, and its mean over the steps, or an empty tensor, in one walk.

    >>> one = torch.ones(1, 1)
    >>> normalised(torch.tensor([[[1.0]], [[3.0]]]), 2 * one, one, with_mean=True)[1]
    tensor([[5.]])
    """
    y = empty_steps(x)
    y_N = empty_steps(x[:1])[0] if with_mean else x.new_empty(0)
    parts = [part.float().contiguous() for part in (scale_RC, shift_RC)]
    call = _structure(x, len(scale_RC))
    call.y, call.mean_y = y.data_ptr(), y_N.data_ptr() if with_mean else None
    call.scale, call.shift = (part.data_ptr() for part in parts)
    _run(call)
    return y, y_N


def sums_of_gradient(grad: Tensor, x: Tensor, centre_RC: Tensor) -> Tensor:
    """Sums of the gradient, and of its products with x − centre: ``[R, 2, C]`` in float64.

    >>> grad, x = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]])
    >>> sums_of_gradient(grad, x, torch.ones(1, 1)).flatten().tolist()
    [3.0, 8.0]
    """
    sums = x.new_empty(len(centre_RC), 2, x.shape[2], dtype=torch.float64)
    call, centre_RC = _structure(x, len(centre_RC)), _plain(centre_RC)
    call.grad, call.grad_step = grad.data_ptr(), grad.stride(0)
    call.sums, call.centre = sums.data_ptr(), centre_RC.data_ptr()
    _run(call)
    return sums


def combined(
    to: Tensor,
    grad: Tensor,
    x: Tensor,
    of_grad: Tensor,
    of_x: Tensor,
    centre: Tensor,
    constant: Tensor,
) -> Tensor:
    """Compute of_grad·grad + of_x·(x − centre) + constant; each is ``[R, C]`` or ``[1, C]``.

    ``to`` takes it up, its steps one after the other; it may be ``grad``.

    >>> x, one = torch.full((1, 1, 1), 5.0), torch.ones(1, 1)
    >>> combined(x.clone(), torch.ones(1, 1, 1), x, 2 * one, one, 3 * one, one)
    tensor([[[5.]]])
    """
    rows = max(len(part) for part in (of_grad, of_x, centre, constant))
    names = "of_grad", "of_x", "centre", "constant"
    parts = [_plain(part.expand(rows, -1)) for part in (of_grad, of_x, centre, constant)]
    call = _structure(x, rows)
    call.grad, call.grad_step, call.grad_x = grad.data_ptr(), grad.stride(0), to.data_ptr()
    for name, part in zip(names, parts, strict=True):
        setattr(call, name, part.data_ptr())
    _run(call)
    return to


def gradient_of_norm(
    to: Tensor, grad: Tensor, x: Tensor, norm: NormScale, mean: Tensor, var: Tensor, sums: Tensor
) -> Tensor:
    """Compute dL/dx = γ/√(σ² + ε) · (dL/dy − its mean − x̂ · the mean of dL/dy · x̂), by group.

    ``grad`` is dL/dy, ``sums`` those of :func:`sums_of_gradient`; means are weighted by γ where a
    group has several. ``to`` takes it up, as of :func:`combined`.
    """
    weight, n = norm.weight_RC.double(), x.numel() // mean.numel()
    inverse, weighted = (var.double() + norm.eps).rsqrt(), weight.unsqueeze(1) * sums
    if norm.groups < norm.rows:
        weighted = weighted.sum(0, keepdim=True)
    of_x, constant = -(inverse**3) * weighted[:, 1] / n, -inverse * weighted[:, 0] / n
    return combined(to, grad, x, weight * inverse, of_x, mean, constant)


def _plain(values: Tensor) -> Tensor:
    return values.float().contiguous()
