"""The neuron's equation on the CPU in native code: the reference's results, at memory speed.

One call walks groups of neighbouring neurons through all timesteps in vector instructions; the
backward pass recomputes the membranes, so that nothing but the input is kept for it. Spikes are
the reference's bit for bit, gradients to rounding. The code is in ``src/native``.

Shapes: T timesteps, N samples; a trailing ``_TN`` means ``[T, N, ...]``, ``_N`` means ``[N, ...]``.
"""

from __future__ import annotations

import ctypes
from typing import Any, get_args

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import LIFCall, LIFStepCall
from leanspike.backends.reference import Dynamics, Reset
from leanspike.surrogate import Arctan, Rectangle, Sigmoid, Surrogate, Triangle
from leanspike.transforms import is_transforming

_SURROGATES: tuple[type[Surrogate], ...] = (Triangle, Arctan, Sigmoid, Rectangle)  # as in lif.h
_RESETS = get_args(Reset)  # as in lif.h


def serves(call: LIFCall) -> bool:
    """Whether the native code knows these types and devices; it takes any layout."""
    x_TN = call.x_TN
    known = x_TN.ndim >= 2 and x_TN.shape[0] >= 1
    return known and _knows(x_TN, call.leak, call.threshold, call.dynamics)


def serves_step(call: LIFStepCall) -> bool:
    """The same for a step; with gradients it is the reference's."""
    u_N, x_N, leak, threshold = call.u_N, call.x_N, call.leak, call.threshold
    if x_N.ndim < 1 or not _knows(x_N, leak, threshold, call.dynamics):
        return False
    learns = x_N.requires_grad or leak.requires_grad or threshold.requires_grad
    if u_N is not None:
        if u_N.dtype != torch.float32 or u_N.shape != x_N.shape or not u_N.is_cpu:
            return False
        learns = learns or u_N.requires_grad
    return not (learns and torch.is_grad_enabled())


def _knows(x: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> bool:
    return (
        (x.dtype == torch.float32 or x.dtype == torch.bfloat16)
        and leak.dtype == threshold.dtype == torch.float32
        and leak.ndim == threshold.ndim == 0
        and type(dynamics.surrogate) in _SURROGATES
        and x.is_cpu
        and leak.is_cpu
        and threshold.is_cpu
        and (torch.compiler.is_compiling() or not is_transforming())
    )


def lif(x_TN: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> Tensor:
    """All timesteps: ``x_TN`` in, spikes of the same shape and dtype out, where `serves`.

    A broadcast view over T is read as the one step that it is, and the gradient of each of its
    steps is their mean, which adds up to the same. Other layouts are kept, too, if each step's
    elements lie side by side (contiguous, channels_last), else the input is copied.
    """
    static = x_TN.shape[0] > 1 and x_TN.stride(0) == 0
    how = static, _choices(dynamics), _scale_and_width(dynamics.surrogate)
    spikes: Tensor = torch.ops.leanspike.lif(x_TN, leak, threshold, *how)
    return spikes


def lif_step(
    u_N: Tensor | None, x_N: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """One timestep as the reference's, without gradients: spikes and the new membrane.

    Without a membrane it is the first.
    """
    how = _choices(dynamics), _scale_and_width(dynamics.surrogate)
    found: tuple[Tensor, Tensor] = torch.ops.leanspike.lif_step(u_N, x_N, leak, threshold, *how)
    return found


def _choices(dynamics: Dynamics) -> list[int]:
    """What `lif_call` calls reset, half_initial, threshold_height and surrogate."""
    return [
        _RESETS.index(dynamics.reset),
        int(dynamics.initial == "half"),
        int(dynamics.height == "threshold"),
        _SURROGATES.index(type(dynamics.surrogate)),
    ]


def _scale_and_width(surrogate: Surrogate) -> list[float]:
    """The surrogate's γ or α, and its w; 1 for what it does not have."""
    if isinstance(surrogate, Triangle):
        return [surrogate.gamma, surrogate.width]
    if isinstance(surrogate, Rectangle):
        return [1.0, surrogate.width]
    assert isinstance(surrogate, Arctan | Sigmoid)
    return [surrogate.alpha, 1.0]


# The operators that torch sees; `static`: every step is the first one. Defined at this level since
# the first call of a `torch.library.custom_op` imports the whole compiler, which takes a second.

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
    spikes = _empty_steps(x)
    x = _side_by_side(x)
    call = _call(x, leak, threshold, *rest)
    call.spikes = spikes.data_ptr()
    _run(call)
    return spikes


@torch.library.impl("leanspike::lif_step", "CPU")
def _lif_step(
    u: Tensor | None, x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not last and not x.is_contiguous() and not _is_dense(x.unsqueeze(0)):
        x = x.contiguous()
    spikes, after = torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)
    if u is not None and u.stride() != x.stride():
        u = _laid_out_as(u.unsqueeze(0), x.unsqueeze(0))
    call = _Call(x=x.data_ptr(), size=x.numel(), steps=1, x_step=x.numel(), means=native.means())
    _describe(call, x, leak, threshold, *rest)
    call.spikes, call.after = spikes.data_ptr(), after.data_ptr()
    call.before = None if u is None else u.data_ptr()
    _run(call)
    return spikes, after


@torch.library.impl("leanspike::lif_backward", "CPU")
def _lif_backward(
    grad: Tensor, x: Tensor, leak: Tensor, threshold: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, leak and threshold; of what is not wanted, an empty tensor.

    That of a static x is for one step: the sum over the steps divided by T.
    """
    *how, wants_x, wants_neuron = rest
    grad_x = _empty_gradient(x, how[0], wants_x)
    sums = (ctypes.c_double * 2)()
    x = _side_by_side(x)
    grad = _laid_out_as(grad, x)
    call = _call(x, leak, threshold, *how)
    call.grad, call.grad_step = grad.data_ptr(), grad.stride(0)
    call.grad_x = grad_x.data_ptr() if wants_x else None
    call.grad_neuron = ctypes.addressof(sums) if wants_neuron else None
    _run(call)
    if not wants_neuron:
        return grad_x, leak.new_empty(0), leak.new_empty(0)
    return grad_x, leak.new_tensor(sums[0]), leak.new_tensor(sums[1])


def _spikes_like(x: Tensor, *_: Any) -> Tensor:
    return _empty_steps(x)


def _gradients_like(
    _grad: Tensor, x: Tensor, leak: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    _, static, *_, wants_x, wants_neuron = rest
    shape = () if wants_neuron else (0,)
    grad_x = _empty_gradient(x, static, wants_x)
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
    spikes = _empty_steps(x.unsqueeze(0))[0]
    return spikes, torch.empty_like(spikes, dtype=torch.float32)


torch.library.register_fake("leanspike::lif", _spikes_like)
torch.library.register_fake("leanspike::lif_step", _step_like)
torch.library.register_fake("leanspike::lif_backward", _gradients_like)
torch.library.register_autograd("leanspike::lif", _backward, setup_context=_save)
torch.library.register_autograd("leanspike::lif_backward", native.refuse_second_derivatives)


# Layouts: the native code wants each step's elements side by side, in one order for all tensors.


def _strides(x: Tensor) -> tuple[tuple[int, int], ...]:
    """(stride, size) of each axis of a step along which there is more than one element."""
    pairs = zip(x.stride()[1:], x.shape[1:], strict=True)
    return tuple((stride, size) for stride, size in pairs if size != 1)


def _is_dense(x: Tensor) -> bool:
    expected = 1
    for stride, size in sorted(_strides(x)):
        if stride != expected:
            return False
        expected *= size
    return True


def _side_by_side(x: Tensor) -> Tensor:
    return x if _is_dense(x) else x.contiguous()


def _empty_steps(x: Tensor) -> Tensor:
    """Room for a result of the shape and layout of ``x``, its steps one after the other."""
    if not _is_dense(x):
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    return x.new_empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]))


def _empty_gradient(x: Tensor, static: bool, wanted: bool) -> Tensor:
    if not wanted:
        return x.new_empty(0)
    return _empty_steps(x[:1])[0] if static else _empty_steps(x)


def _laid_out_as(grad: Tensor, x: Tensor) -> Tensor:
    return grad if _strides(grad) == _strides(x) else _empty_steps(x).copy_(grad)


# The call.


class _Call(ctypes.Structure):
    """``lif_call`` of lif.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "spikes", "before", "after")),
        *((name, ctypes.c_void_p) for name in ("grad", "grad_x", "grad_neuron")),
        ("means", native.Means),
        *((name, ctypes.c_int64) for name in ("size", "steps", "x_step", "grad_step")),
        *((name, ctypes.c_float) for name in ("leak", "threshold", "scale", "width")),
        *((name, ctypes.c_int32) for name in ("bf16", "static", "reset", "half", "height")),
        ("surrogate", ctypes.c_int32),
    )


def _call(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    static: bool,
    choices: list[int],
    constants: list[float],
) -> _Call:
    call = _Call(x=x.data_ptr(), size=x[0].numel(), steps=x.shape[0], means=native.means())
    call.static, call.x_step = static, 0 if static else x.stride(0)
    _describe(call, x, leak, threshold, choices, constants)
    return call


def _describe(
    call: _Call,
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    choices: list[int],
    constants: list[float],
) -> None:
    """Write down what kind of neurons, and of input, these are."""
    call.leak, call.threshold = leak.item(), threshold.item()
    call.scale, call.width = constants
    call.bf16 = x.dtype == torch.bfloat16
    call.reset, call.half, call.height, call.surrogate = choices


def _run(call: _Call) -> None:
    """Forward if the call has room for spikes, else backward."""
    if native.library().leanspike_lif(ctypes.byref(call)) != 0:
        raise MemoryError("the native neuron kernel found no memory to work in")
