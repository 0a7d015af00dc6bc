"""A batch norm in training in native code, where no neurons alone read what it makes.

The forward pass reads the input twice: for its statistics, and to scale and shift it, whose result
is written. The backward pass reads input and gradient twice: for two sums of each channel, without
which no entry's gradient is known, and for the gradient, which is written. For rate gradients the
first walks also give the means over time, and the backward pass is one of means.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, ...]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import NormCall, NormMeanCall, NormRateCall
from leanspike.backends.native import norm as with_neurons
from leanspike.backends.native.norm_structure import (
    as_followed,
    combined,
    followed,
    gradient_of_norm,
    has_several,
    in_tensors,
    learns_in_float32,
    lies_well,
    moments,
    normalised,
    sums_of_gradient,
)
from leanspike.backends.native.structures import empty_steps, laid_out_as
from leanspike.backends.norms import Currents, Followed, NormRates, NormScale
from leanspike.transforms import is_transforming

LEAST_WORK = 1 << 20
"""Elements of all steps below which PyTorch's own norm is the faster one; not of rate gradients."""


def serves(call: NormCall | NormRateCall) -> bool:
    """Return whether the native code knows these types and layouts, and is faster."""
    x_TN = call.x_TN
    least = LEAST_WORK if isinstance(call, NormCall) else with_neurons.LEAST_WORK
    if torch.compiler.is_compiling() or x_TN.ndim < 3 or x_TN.numel() < least:
        return False
    return _knows(x_TN, call.norm) and lies_well(x_TN) and has_several(x_TN)


def serves_mean(call: NormMeanCall) -> bool:
    """Return whether the native code knows a mean and its output, by types and layouts."""
    x_1N = call.x_N.unsqueeze(0)
    if torch.compiler.is_compiling() or x_1N.ndim < 3 or x_1N.numel() == 0:
        return False
    return _knows(x_1N, call.norm) and lies_well(x_1N) and call.value_N.dtype == x_1N.dtype


def _knows(x: Tensor, norm: NormScale) -> bool:
    return (
        (x.dtype == torch.float32 or x.dtype == torch.bfloat16)
        and x.is_cpu
        and learns_in_float32(norm)
        and not is_transforming()
    )


def run_norm(call: NormCall) -> Currents:
    """Compute all timesteps, with gradients."""
    scale = call.norm
    found = torch.ops.leanspike.norm(
        *(call.x_TN, scale.weight_RC, scale.bias_RC, scale.eps, scale.together)
    )
    y_TN, mean, var = found
    return Currents(y_TN, mean.detach(), var.detach())


def run_norm_rates(call: NormRateCall) -> NormRates:
    """Compute all timesteps and their means, without gradients."""
    scale = call.norm
    with torch.no_grad():
        y_TN, y_N, x_N, *found = torch.ops.leanspike.norm_rates(
            *(call.x_TN, scale.weight_RC, scale.bias_RC, scale.eps, scale.together)
        )
    return NormRates(y_TN, y_N, x_N, as_followed(found))


def run_norm_mean(call: NormMeanCall) -> Tensor:
    """Return a mean output, with gradients."""
    scale = call.norm
    leaves = call.x_N, scale.weight_RC, scale.bias_RC
    y_N: Tensor = _NormOfMean.apply(call.value_N, *leaves, scale, call.followed)
    return y_N


class _NormOfMean(torch.autograd.Function):
    """A mean output that is known; its gradients by the mean input, γ and β."""

    @staticmethod
    def forward(
        ctx: Any,
        value_N: Tensor,
        x_N: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: NormScale,
        found: Followed,
    ) -> Tensor:
        ctx.save_for_backward(x_N, weight, bias)
        ctx.how, ctx.found = (scale.eps, scale.together), found
        return value_N.view_as(value_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        f, wants = ctx.found, ctx.needs_input_grad[1:4]
        of_input = torch.ops.leanspike.norm_of_mean_backward(
            *(grad_outputs[0], *ctx.saved_tensors, *ctx.how),
            *(f.mean_GC, f.var_GC, f.own_C, f.mean_TC, f.share_TC, wants[0]),
        )
        wanted = (each if want else None for each, want in zip(of_input, wants, strict=True))
        return None, *wanted, None, None


# The operators that torch sees.

_ARGUMENTS = "Tensor x, Tensor weight, Tensor? bias, float eps, bool together"
torch.library.define("leanspike::norm", f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
torch.library.define(
    "leanspike::norm_rates",
    f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "leanspike::norm_backward",
    f"(Tensor grad, Tensor mean, Tensor var, {_ARGUMENTS}, bool wants_x)"
    " -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "leanspike::norm_of_mean_backward",
    f"(Tensor grad, {_ARGUMENTS}, Tensor mean, Tensor var, Tensor own, Tensor? means,"
    " Tensor? shares, bool wants_x) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("leanspike::norm", "CPU")
def _norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, together: bool
) -> tuple[Tensor, Tensor, Tensor]:
    norm = NormScale(weight, bias, eps, together)
    mean, var = moments(x, norm)
    y, _ = normalised(x, *norm.affine(mean, var), with_mean=False)
    return y, mean, var


@torch.library.impl("leanspike::norm_rates", "CPU")
def _norm_rates(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, together: bool
) -> tuple[Tensor, ...]:
    norm = NormScale(weight, bias, eps, together)
    x_N, found = followed(x, norm)
    affine = norm.affine(found.mean_GC, found.var_GC)
    return *normalised(x, *affine, with_mean=True), x_N, *in_tensors(found)


@torch.library.impl("leanspike::norm_backward", "CPU")
def _norm_backward(
    grad: Tensor,
    mean: Tensor,
    var: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    together: bool,
    wants_x: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x (if it is wanted, else something empty), of weight and of bias."""
    grad = laid_out_as(grad, x)
    sums = sums_of_gradient(grad, x, mean.expand(len(weight), -1))
    grad_x = x.new_empty(0)
    if wants_x:
        norm = NormScale(weight, bias, eps, together)
        grad_x = gradient_of_norm(empty_steps(x), grad, x, norm, mean, var, sums)
    by_weight = sums[:, 1] * (var.double() + eps).rsqrt()
    return grad_x, by_weight.to(weight.dtype), sums[:, 0].to(weight.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])
    ctx.rest = inputs[3:]


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, mean, var = ctx.saved_tensors
    wants = ctx.needs_input_grad[:3]
    how = *inputs, *ctx.rest, wants[0]
    found = torch.ops.leanspike.norm_backward(grad, mean, var, *how)
    return *(each if want else None for each, want in zip(found, wants, strict=True)), None, None


torch.library.register_autograd("leanspike::norm", _backward, setup_context=_save)
torch.library.register_autograd("leanspike::norm_backward", native.refuse_second_derivatives)


@torch.library.impl("leanspike::norm_of_mean_backward", "CPU")
def _norm_of_mean_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    """Return gradients by ``line_of_mean``: the mean output is a line of the mean input."""
    eps, together, mean, var, own, means, own_shares, wants_x = rest
    x_1N = x.unsqueeze(0)
    grad_1N = laid_out_as(grad.to(x.dtype).unsqueeze(0), x_1N)
    centre_1C = (mean if means is None else means).mean(0, keepdim=True)
    sums = sums_of_gradient(grad_1N, x_1N, centre_1C)[0]
    norm, found = (
        NormScale(weight, bias, eps, together),
        Followed(mean, var, own, means, own_shares),
    )
    slope, by_own, *by = _of_line(norm, found, sums)
    grad_x = x.new_empty(0)
    if wants_x:
        n = x.numel() // x.shape[1]
        parts = slope, (2 / n) * by_own, centre_1C, -slope * sums[:1] / n
        grad_x = combined(empty_steps(x_1N), grad_1N, x_1N, *parts)[0]
    return grad_x, *(each.to(weight.dtype) for each in by)


def _of_line(norm: NormScale, found: Followed, sums_2C: Tensor) -> tuple[Tensor, ...]:
    """Return the slope of a mean output, and gradients of own variance, weight and bias.

    ``sums_2C`` are the gradients of the shift and of the slope; see ``line_of_mean``.
    """
    weight, var = norm.weight_RC.double(), found.var_GC.double()
    share, offset = torch.ones_like(weight), torch.zeros_like(weight)
    if found.share_TC is not None and found.mean_TC is not None:
        share, means = found.share_TC.double(), found.mean_TC.double()
        offset = means - means.mean(0) if norm.together else offset
    inverse = (var + norm.eps).rsqrt()
    by_scale = (sums_2C[1] * share + sums_2C[0] * offset) / norm.rows
    of_own = share.square() if norm.groups > 1 else torch.ones_like(share)
    by_own = (by_scale * weight * -0.5 * inverse**3 * of_own).sum(0, keepdim=True)
    slope = (weight * inverse * share).mean(0, keepdim=True)
    return slope, by_own, by_scale * inverse, (sums_2C[0] / norm.rows).expand_as(weight)


torch.library.register_autograd(
    "leanspike::norm_of_mean_backward", native.refuse_second_derivatives
)
