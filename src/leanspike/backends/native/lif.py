"""The neuron's equation in native code on the CPU: the reference's results at memory speed.

A call walks groups of neighbouring neurons through all timesteps in vector instructions. The
backward pass recomputes the membranes, so only the input is kept for it. Spikes are the reference's
bit for bit, gradients to rounding. The code is in ``src/native``.

Shapes: T timesteps, N samples; a trailing ``_TN`` means ``[T, N, ...]``, ``_N`` means ``[N, ...]``.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import LIFCall, LIFRateCall, LIFStepCall
from leanspike.backends.native.structures import (
    LIFStructure,
    choices_of,
    constants_of,
    describe,
    empty_gradient,
    empty_steps,
    filled,
    is_dense,
    knows,
    laid_out_as,
    run,
    side_by_side,
)


def serves(call: LIFCall | LIFRateCall) -> bool:
    """Return whether the native code supports these types and devices, in any layout."""
    x_TN = call.x_TN
    known = x_TN.ndim >= 2 and x_TN.shape[0] >= 1
    return known and knows(x_TN, call.leak, call.threshold, call.dynamics)


def serves_step(call: LIFStepCall) -> bool:
    """Return whether the native code supports this step. With gradients it does not."""
    u_N, x_N, leak, threshold = call.u_N, call.x_N, call.leak, call.threshold
    if x_N.ndim < 1 or not knows(x_N, leak, threshold, call.dynamics):
        return False
    learns = x_N.requires_grad or leak.requires_grad or threshold.requires_grad
    if u_N is not None:
        if u_N.dtype != torch.float32 or u_N.shape != x_N.shape or not u_N.is_cpu:
            return False
        learns = learns or u_N.requires_grad
    return not (learns and torch.is_grad_enabled())


def run_lif(call: LIFCall) -> Tensor:
    """Compute all timesteps: spikes of the shape and dtype of ``x_TN``, if `serves` allows it.

    A broadcast view over T is read as a single step. Each of its steps gets the mean of the steps'
    gradients, which has the same sum. Other layouts are kept, too, if each step's elements lie side
    by side (contiguous, channels_last). Otherwise the input is copied.
    """
    static = call.x_TN.shape[0] > 1 and call.x_TN.stride(0) == 0
    how = static, choices_of(call.dynamics), constants_of(call.dynamics)
    spikes: Tensor = torch.ops.leanspike.lif(call.x_TN, call.leak, call.threshold, *how)
    return spikes


def run_step(call: LIFStepCall) -> tuple[Tensor, Tensor]:
    """Compute one timestep as the reference does, without gradients: spikes and new membrane."""
    how = call.leak, call.threshold, choices_of(call.dynamics), constants_of(call.dynamics)
    found: tuple[Tensor, Tensor] = torch.ops.leanspike.lif_step(call.u_N, call.x_N, *how)
    return found


# The operators that torch sees. `static`: every step equals the first one. They are defined at this
# level since the first call of a `torch.library.custom_op` imports the whole compiler (a second).

_ARGUMENTS = (
    "Tensor x, Tensor leak, Tensor threshold, bool static, int[] choices, float[] constants"
)
torch.library.define("leanspike::lif", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "leanspike::lif_step",
    "(Tensor? u, Tensor x, Tensor leak, Tensor threshold, int[] choices, float[] constants)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "leanspike::lif_backward",
    f"(Tensor grad, {_ARGUMENTS}, bool wants_x, bool wants_neuron) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("leanspike::lif", "CPU")
def _lif(x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any) -> Tensor:
    spikes = empty_steps(x)
    x = side_by_side(x)
    call = filled(x, leak, threshold, *rest)
    call.spikes = spikes.data_ptr()
    run(call)
    return spikes


@torch.library.impl("leanspike::lif_step", "CPU")
def _lif_step(
    u: Tensor | None, x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not last and not x.is_contiguous() and not is_dense(x.unsqueeze(0)):
        x = x.contiguous()
    spikes, after = torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)
    if u is not None and u.stride() != x.stride():
        u = laid_out_as(u.unsqueeze(0), x.unsqueeze(0))
    call = LIFStructure(
        x=x.data_ptr(), size=x.numel(), steps=1, x_step=x.numel(), means=native.means()
    )
    describe(call, x, leak, threshold, *rest)
    call.spikes, call.after = spikes.data_ptr(), after.data_ptr()
    call.before = None if u is None else u.data_ptr()
    run(call)
    return spikes, after


@torch.library.impl("leanspike::lif_backward", "CPU")
def _lif_backward(
    grad: Tensor, x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, leak and threshold, with empty tensors for unwanted ones.

    The gradient of a static x is for one step: the sum over the steps divided by T.
    """
    *how, wants_x, wants_neuron = rest
    grad_x = empty_gradient(x, how[0], wants_x)
    sums = (ctypes.c_double * 2)()
    x = side_by_side(x)
    grad = laid_out_as(grad, x)
    call = filled(x, leak, threshold, *how)
    call.grad, call.grad_step = grad.data_ptr(), grad.stride(0)
    call.grad_x = grad_x.data_ptr() if wants_x else None
    call.grad_neuron = ctypes.addressof(sums) if wants_neuron else None
    run(call)
    if not wants_neuron:
        return grad_x, leak.new_empty(0), leak.new_empty(0)
    return grad_x, leak.new_tensor(sums[0]), leak.new_tensor(sums[1])


def _spikes_like(x: Tensor, *_: Any) -> Tensor:
    return empty_steps(x)


def _gradients_like(
    _grad: Tensor, x: Tensor, leak: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    _, static, *_, wants_x, wants_neuron = rest
    shape = () if wants_neuron else (0,)
    grad_x = empty_gradient(x, static, wants_x)
    return grad_x, leak.new_empty(shape), leak.new_empty(shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:3])
    ctx.rest = inputs[3:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, leak, threshold = ctx.saved_tensors
    wants_x, wants_leak, wants_threshold = ctx.needs_input_grad[:3]
    grad_x, grad_leak, grad_threshold = torch.ops.leanspike.lif_backward(
        grad, x, leak, threshold, *ctx.rest, wants_x, wants_leak or wants_threshold
    )
    return (
        grad_x.expand(x.shape) if wants_x else None,
        grad_leak if wants_leak else None,
        grad_threshold if wants_threshold else None,
        *[None] * len(ctx.rest),
    )


def _step_like(_u: Tensor | None, x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    spikes = empty_steps(x.unsqueeze(0))[0]
    return spikes, torch.empty_like(spikes, dtype=torch.float32)


torch.library.register_fake("leanspike::lif", _spikes_like)
torch.library.register_fake("leanspike::lif_step", _step_like)
torch.library.register_fake("leanspike::lif_backward", _gradients_like)
torch.library.register_autograd("leanspike::lif", _backward, setup_context=_save)
torch.library.register_autograd("leanspike::lif_backward", native.refuse_second_derivatives)
