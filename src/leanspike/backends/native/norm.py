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
from leanspike.backends.native.norm_structure import (
    as_followed,
    followed,
    gradient_of_norm,
    has_several,
    in_tensors,
    learns_in_float32,
    lies_well,
    moments,
)
from leanspike.backends.native.rates import rates_of, with_rates
from leanspike.backends.native.structures import (
    LIFStructure,
    choices_of,
    constants_of,
    empty_steps,
    filled,
    knows,
    laid_out_as,
    run,
)
from leanspike.backends.normalised import Normalised, NormalisedRates
from leanspike.backends.norms import NormScale

LEAST_WORK = 1 << 15
"""The elements of all steps below which the choice does not pay."""


def serves(call: NormLIFCall | NormLIFRateCall) -> bool:
    """Return whether types and layout (channels last) are supported, and it pays."""
    x_TN, norm = call.x_TN, call.norm
    if torch.compiler.is_compiling() or x_TN.ndim < 3 or x_TN.numel() < LEAST_WORK:
        return False
    return (
        knows(x_TN, call.leak, call.threshold, call.dynamics)
        and learns_in_float32(norm)
        and x_TN.stride(2) == 1
        and lies_well(x_TN)
        and has_several(x_TN)
    )


def run_norm_lif(call: NormLIFCall) -> Normalised:
    """Compute all timesteps, with gradients."""
    norm, d = call.norm, call.dynamics
    o_TN, mean, var = torch.ops.leanspike.norm_lif(
        *(call.x_TN, norm.weight_RC, norm.bias_RC, call.leak, call.threshold),
        *(norm.eps, norm.together, choices_of(d), constants_of(d)),
    )
    return Normalised(o_TN, mean.detach(), var.detach())


def run_norm_lif_rates(call: NormLIFRateCall) -> NormalisedRates:
    """Compute all timesteps, without gradients."""
    norm, d, learned = call.norm, call.dynamics, call.learned
    with torch.no_grad():
        x_N, *found = torch.ops.leanspike.norm_lif_rates(
            *(call.x_TN, norm.weight_RC, norm.bias_RC, call.leak, call.threshold),
            *(norm.eps, norm.together, choices_of(d), constants_of(d), bool(learned)),
            call.arrival_T,
        )
    return NormalisedRates(rates_of(tuple(found[5:]), learned), x_N, as_followed(found[:5]))


# The operators that torch sees.

_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor leak, Tensor threshold, float eps,"
    " bool together, int[] choices, float[] constants"
)
torch.library.define("leanspike::norm_lif", f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
torch.library.define(
    "leanspike::norm_lif_rates",
    f"({_ARGUMENTS}, bool learns, Tensor? arrival) -> (Tensor, Tensor, Tensor, Tensor, Tensor,"
    " Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
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
    eps, together, *how = rest
    norm = NormScale(weight, bias, eps, together)
    mean, var = moments(x, norm)
    call = filled(x, leak, threshold, False, *how)
    spikes = empty_steps(x)
    call.spikes = spikes.data_ptr()
    _run_behind(call, norm.affine(mean, var), x.shape[2])
    return spikes, mean, var


@torch.library.impl("leanspike::norm_lif_rates", "CPU")
def _norm_lif_rates(
    x: Tensor, weight: Tensor, bias: Tensor | None, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    eps, together, *how, learns, arrival = rest
    norm = NormScale(weight, bias, eps, together)
    x_N, found = followed(x, norm)
    call = filled(x, leak, threshold, False, *how)
    affine = [part.contiguous() for part in norm.affine(found.mean_GC, found.var_GC)]
    _describe_norm(call, affine, x.shape[2])
    return x_N, *in_tensors(found), *with_rates(call, x, learns, arrival)


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
    eps, together, *how, wants_x, wants_neuron = rest
    norm = NormScale(weight, bias, eps, together)
    grad, grad_x = laid_out_as(grad, x), empty_steps(x) if wants_x else x.new_empty(0)
    sums, of_neuron = (
        mean.new_empty(norm.rows, 2, mean.shape[1], dtype=torch.float64),
        (ctypes.c_double * 2)(),
    )
    centre = mean.expand(norm.rows, -1).contiguous()
    call = filled(x, leak, threshold, False, *how)
    call.grad, call.grad_step = grad.data_ptr(), grad.stride(0)
    call.grad_x = grad_x.data_ptr() if wants_x else None
    call.grad_neuron = ctypes.addressof(of_neuron) if wants_neuron else None
    call.grad_norm, call.centre = sums.data_ptr(), centre.data_ptr()
    _run_behind(call, norm.affine(mean, var), x.shape[2])
    if wants_x:
        gradient_of_norm(grad_x, grad_x, x, norm, mean, var, sums)
    by_weight = sums[:, 1] * (var.double() + eps).rsqrt()
    pair = (leak.new_tensor(of_neuron[i] if wants_neuron else 0.0) for i in (0, 1))
    return grad_x, by_weight.to(weight.dtype), sums[:, 0].to(weight.dtype), *pair


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
