"""Calling the native code for neurons: ``lif_call`` of lif.h, and the layout of tensors.

Each step's elements must lie side by side, in one order for all tensors of a call.
"""

from __future__ import annotations

import ctypes
import math
from typing import get_args

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.reference import Dynamics, Reset
from leanspike.surrogate import Arctan, Rectangle, Sigmoid, Surrogate, Triangle
from leanspike.transforms import is_transforming

_SURROGATES: tuple[type[Surrogate], ...] = (Triangle, Arctan, Sigmoid, Rectangle)  # as in lif.h
_RESETS = get_args(Reset)  # as in lif.h


def knows(x: Tensor, leak: Tensor, threshold: Tensor, dynamics: Dynamics) -> bool:
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


def choices_of(dynamics: Dynamics) -> list[int]:
    """Return the fields reset, half_initial, threshold_height and surrogate of `lif_call`."""
    return [
        _RESETS.index(dynamics.reset),
        int(dynamics.initial == "half"),
        int(dynamics.height == "threshold"),
        _SURROGATES.index(type(dynamics.surrogate)),
    ]


def constants_of(dynamics: Dynamics) -> list[float]:
    """Return the surrogate's γ or α and its w (1 if it has none), and the floor (∞ for none)."""
    floor = math.inf if dynamics.floor is None else dynamics.floor
    return [*_scale_and_width(dynamics.surrogate), floor]


def _scale_and_width(surrogate: Surrogate) -> tuple[float, float]:
    if isinstance(surrogate, Triangle):
        return surrogate.gamma, surrogate.width
    if isinstance(surrogate, Rectangle):
        return 1.0, surrogate.width
    assert isinstance(surrogate, Arctan | Sigmoid)
    return surrogate.alpha, 1.0


def _strides(x: Tensor) -> tuple[tuple[int, int], ...]:
    """Return (stride, size) of each axis of a step with more than one element."""
    pairs = zip(x.stride()[1:], x.shape[1:], strict=True)
    return tuple((stride, size) for stride, size in pairs if size != 1)


def is_dense(x: Tensor) -> bool:
    expected = 1
    for stride, size in sorted(_strides(x)):
        if stride != expected:
            return False
        expected *= size
    return True


def side_by_side(x: Tensor) -> Tensor:
    return x if is_dense(x) else x.contiguous()


def empty_steps(x: Tensor) -> Tensor:
    """Return an empty tensor of the shape and layout of ``x``, with steps one after the other."""
    if not is_dense(x):
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    return x.new_empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]))


def empty_gradient(x: Tensor, static: bool, wanted: bool) -> Tensor:
    if not wanted:
        return x.new_empty(0)
    return empty_steps(x[:1])[0] if static else empty_steps(x)


def laid_out_as(grad: Tensor, x: Tensor) -> Tensor:
    return grad if _strides(grad) == _strides(x) else empty_steps(x).copy_(grad)


# The call.


class LIFStructure(ctypes.Structure):
    """``lif_call`` of lif.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "spikes", "before", "after", "mean")),
        *((name, ctypes.c_void_p) for name in ("by_input", "by_leak", "by_threshold", "arrival")),
        *((name, ctypes.c_void_p) for name in ("channel_scale", "channel_shift", "centre")),
        *((name, ctypes.c_void_p) for name in ("grad", "grad_x", "grad_neuron", "grad_norm")),
        ("means", native.Means),
        *((name, ctypes.c_int64) for name in ("size", "steps", "x_step", "grad_step")),
        *((name, ctypes.c_int64) for name in ("channels", "norm_step")),
        *((name, ctypes.c_float) for name in ("leak", "threshold", "scale", "width", "floor")),
        *((name, ctypes.c_int32) for name in ("bf16", "static", "reset", "half", "height")),
        ("surrogate", ctypes.c_int32),
    )


def filled(
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    static: bool,
    choices: list[int],
    constants: list[float],
) -> LIFStructure:
    call = LIFStructure(x=x.data_ptr(), size=x[0].numel(), steps=x.shape[0], means=native.means())
    call.static, call.x_step = static, 0 if static else x.stride(0)
    describe(call, x, leak, threshold, choices, constants)
    return call


def describe(
    call: LIFStructure,
    x: Tensor,
    leak: Tensor,
    threshold: Tensor,
    choices: list[int],
    constants: list[float],
) -> None:
    """Set the fields of a call that describe neurons and input."""
    call.leak, call.threshold = leak.item(), threshold.item()
    call.scale, call.width, call.floor = constants
    call.bf16 = x.dtype == torch.bfloat16
    call.reset, call.half, call.height, call.surrogate = choices


def run(call: LIFStructure) -> None:
    """Run the forward pass if the call has room for spikes, else the backward pass."""
    if native.library().leanspike_lif(ctypes.byref(call)) != 0:
        raise MemoryError("the native neuron kernel found no memory to work in")
