"""A batch norm in training and the neurons behind it, in native code.

The forward pass reads the input twice: for its statistics, and for the neurons. The neurons scale
and shift the input as they read it. The backward pass reads it twice, too. First it writes the
neurons' gradient and the sums that the norm's gradient needs. Then it turns the former into the
norm's gradient in place. The normalised currents are never in memory.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, ...]``. G is the number of groups
of steps with statistics of their own: 1 or T.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import NormLIFCall, NormLIFRateCall
from leanspike.backends.native.rates import rates_of, with_rates
from leanspike.backends.native.structures import (
    LIFStructure,
    choices_of,
    constants_of,
    empty_steps,
    filled,
    is_dense,
    knows,
    laid_out_as,
    run,
)
from leanspike.backends.normalised import Normalised, NormalisedRates, NormScale

LEAST_WORK = 1 << 15
"""The elements of all steps below which the choice does not pay."""


def serves(call: NormLIFCall | NormLIFRateCall) -> bool:
    """Return whether types and layout (channels last) are supported, and it pays."""
    x_TN, norm = call.x_TN, call.norm
    if torch.compiler.is_compiling() or x_TN.ndim < 3 or x_TN.numel() < LEAST_WORK:
        return False
    learned = [p for p in (norm.weight_GC, norm.bias_GC) if p is not None]
    if isinstance(call, NormLIFRateCall) and norm.groups != 1:
        return False
    moving = x_TN.shape[0] == 1 or x_TN.stride(0) >= x_TN[0].numel()
    return (
        knows(x_TN, call.leak, call.threshold, call.dynamics)
        and all(p.is_cpu and p.dtype == torch.float32 for p in learned)
        and moving
        and x_TN.stride(2) == 1
        and is_dense(x_TN)
        and x_TN[0].numel() > x_TN.shape[2]
    )


def run_norm_lif(call: NormLIFCall) -> Normalised:
    """Compute all timesteps, with gradients."""
    norm, d = call.norm, call.dynamics
    o_TN, mean, var = torch.ops.leanspike.norm_lif(
        *(call.x_TN, norm.weight_GC, norm.bias_GC, call.leak, call.threshold),
        *(norm.eps, choices_of(d), constants_of(d)),
    )
    return Normalised(o_TN, mean.detach(), var.detach())


def run_norm_lif_rates(call: NormLIFRateCall) -> NormalisedRates:
    """Compute all timesteps, without gradients."""
    norm, d, learned = call.norm, call.dynamics, call.learned
    with torch.no_grad():
        x_N, mean, var, *found = torch.ops.leanspike.norm_lif_rates(
            *(call.x_TN, norm.weight_GC, norm.bias_GC, call.leak, call.threshold),
            *(norm.eps, choices_of(d), constants_of(d), bool(learned)),
        )
    return NormalisedRates(rates_of(tuple(found), learned), x_N, mean[0], var[0])


# The operators that torch sees.

_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor leak, Tensor threshold, float eps,"
    " int[] choices, float[] constants"
)
torch.library.define("leanspike::norm_lif", f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
torch.library.define(
    "leanspike::norm_lif_rates",
    f"({_ARGUMENTS}, bool learns)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "leanspike::norm_lif_backward",
    f"(Tensor grad, Tensor mean, Tensor var, {_ARGUMENTS}, bool wants_x, bool wants_neuron)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("leanspike::norm_lif", "CPU")
def _norm_lif(
    x: Tensor, weight: Tensor, bias: Tensor | None, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    eps, *how = rest
    mean, var, _ = moments(x, len(weight), with_mean=False)
    call = filled(x, leak, threshold, False, *how)
    affine = NormScale(weight, bias, eps).affine(mean, var)
    spikes = empty_steps(x)
    call.spikes = spikes.data_ptr()
    _run_behind(call, affine, x.shape[2])
    return spikes, mean, var


@torch.library.impl("leanspike::norm_lif_rates", "CPU")
def _norm_lif_rates(
    x: Tensor, weight: Tensor, bias: Tensor | None, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    eps, *how, learns = rest
    mean, var, x_N = moments(x, len(weight), with_mean=True)
    call = filled(x, leak, threshold, False, *how)
    affine = [part.contiguous() for part in NormScale(weight, bias, eps).affine(mean, var)]
    _describe_norm(call, affine, x.shape[2])
    return x_N, mean, var, *with_rates(call, x, learns)


@torch.library.impl("leanspike::norm_lif_backward", "CPU")
def _norm_lif_backward(
    grad: Tensor,
    mean: Tensor,
    var: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    leak: Tensor,
    threshold: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    """Return gradients of x, weight, bias, leak and threshold, with empty ones if unwanted."""
    eps, *how, wants_x, wants_neuron = rest
    grad, grad_x = laid_out_as(grad, x), empty_steps(x) if wants_x else x.new_empty(0)
    sums, of_neuron = (
        mean.new_empty(len(mean), 2, mean.shape[1], dtype=torch.float64),
        (ctypes.c_double * 2)(),
    )
    call = filled(x, leak, threshold, False, *how)
    call.grad, call.grad_step = grad.data_ptr(), grad.stride(0)
    call.grad_x = grad_x.data_ptr() if wants_x else None
    call.grad_neuron = ctypes.addressof(of_neuron) if wants_neuron else None
    call.grad_norm, call.centre = sums.data_ptr(), mean.data_ptr()
    _run_behind(call, NormScale(weight, bias, eps).affine(mean, var), x.shape[2])
    inverse = (var.double() + eps).rsqrt()
    if wants_x:
        _into_gradient_of_norm(grad_x, x, weight.double() * inverse, inverse, sums, mean)
    pair = (leak.new_tensor(of_neuron[i] if wants_neuron else 0.0) for i in (0, 1))
    return grad_x, (sums[:, 1] * inverse).to(weight.dtype), sums[:, 0].to(weight.dtype), *pair


def _into_gradient_of_norm(
    grad: Tensor, x: Tensor, scale: Tensor, inverse: Tensor, sums: Tensor, mean: Tensor
) -> None:
    """Turn dL/dy into dL/dx = γ/√(σ² + ε) · (dL/dy − its mean − x̂ · the mean of dL/dy · x̂)."""
    n = x.numel() // mean.numel()
    parts = scale, -scale * inverse.square() * sums[:, 1] / n, -scale * sums[:, 0] / n
    of_grad, of_x, constant = (part.float().contiguous() for part in parts)
    call = _norm_structure(x, len(mean))
    call.grad, call.grad_step, call.grad_x = grad.data_ptr(), grad.stride(0), grad.data_ptr()
    call.of_grad, call.of_x = of_grad.data_ptr(), of_x.data_ptr()
    call.centre, call.constant = mean.data_ptr(), constant.data_ptr()
    _run_norm(call)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], *output[1:])
    ctx.rest = inputs[5:]


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, mean, var = ctx.saved_tensors
    wants = ctx.needs_input_grad[:5]
    found = torch.ops.leanspike.norm_lif_backward(
        *(grad, mean, var, *inputs, *ctx.rest), wants[0], wants[3] or wants[4]
    )
    wanted = (each if want else None for each, want in zip(found, wants, strict=True))
    return *wanted, *[None] * len(ctx.rest)


torch.library.register_autograd("leanspike::norm_lif", _backward, setup_context=_save)
torch.library.register_autograd("leanspike::norm_lif_backward", native.refuse_second_derivatives)


def moments(x: Tensor, groups: int, with_mean: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return means and variances ``[G, C]``, and the mean over the steps, or an empty tensor.

    >>> x = torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]])  # [T, N, C] = [2, 2, 1]
    >>> moments(x, 1, with_mean=True)
    (tensor([[1.]]), tensor([[1.5000]]), tensor([[0.],
            [2.]]))
    """
    channels = x.shape[2]
    found = x.new_empty(groups, 2, channels, dtype=torch.float64)
    of_mean = x.new_empty(channels, dtype=torch.float64)
    x_N = empty_steps(x[:1])[0] if with_mean else x.new_empty(0)
    call = _norm_structure(x, groups)
    call.moments, call.mean_square = found.data_ptr(), of_mean.data_ptr()
    call.mean_x = x_N.data_ptr() if with_mean else None
    _run_norm(call)
    mean, var = found.float().unbind(1)
    return mean.contiguous(), var.contiguous(), x_N


# The calls.


class _Norm(ctypes.Structure):
    """``norm_call`` of norm.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "moments", "mean_x", "mean_square")),
        *((name, ctypes.c_void_p) for name in ("grad", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("of_grad", "of_x", "centre", "constant")),
        ("means", native.Means),
        *((name, ctypes.c_int64) for name in ("rows", "channels", "steps", "x_step", "grad_step")),
        *((name, ctypes.c_int32) for name in ("bf16", "per_step")),
    )


def _norm_structure(x: Tensor, groups: int) -> _Norm:
    call = _Norm(x=x.data_ptr(), means=native.means(), bf16=x.dtype == torch.bfloat16)
    call.steps, call.channels, call.x_step = x.shape[0], x.shape[2], x.stride(0)
    call.rows, call.per_step = x[0].numel() // x.shape[2], groups > 1
    return call


def _run_norm(call: _Norm) -> None:
    if native.library().leanspike_norm(ctypes.byref(call)) != 0:
        raise MemoryError("the native norm found no memory to work in")


def _describe_norm(call: LIFStructure, affine: Any, channels: int) -> None:
    """Set scales and shifts, which must live as long as the call."""
    scale, shift = affine
    call.channel_scale, call.channel_shift = scale.data_ptr(), shift.data_ptr()
    call.channels, call.norm_step = channels, channels if len(scale) > 1 else 0


def _run_behind(call: LIFStructure, affine: tuple[Tensor, Tensor], channels: int) -> None:
    """Run neurons with scaled and shifted input."""
    kept = [part.contiguous() for part in affine]
    _describe_norm(call, kept, channels)
    run(call)
