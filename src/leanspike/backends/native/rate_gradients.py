"""Gradients of neurons' mean outputs in native code, by their inputs and parameters in one walk.

The code is in ``src/native/rates.h``.

Shapes: N samples; ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import RateGradientCall
from leanspike.backends.native.structures import is_dense, laid_out_as
from leanspike.transforms import is_transforming

PARAMETERS = 2  # RATES_PARAMETERS of rates.h


class _Rates(ctypes.Structure):
    """``rates_call`` of rates.h."""

    _fields_ = (
        ("grad", ctypes.c_void_p),
        ("by_input", ctypes.c_void_p),
        ("by", ctypes.c_void_p * PARAMETERS),
        ("grad_x", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("means", native.Means),
        ("bf16", ctypes.c_int32),
    )


def serves(call: RateGradientCall) -> bool:
    """Return whether the native code knows these types and layouts.

    >>> by_N = torch.ones(2, 3)
    >>> [serves(RateGradientCall(by_N.to(dtype), by_N, ())) for dtype in (torch.float, torch.half)]
    [True, False]
    """
    of_N, grad_N = call.by_input, call.grad_N
    slopes = of_N, *call.by
    return (
        not torch.compiler.is_compiling()
        and not is_transforming()
        and not (torch.is_grad_enabled() and grad_N.requires_grad)
        and grad_N.dtype in (torch.float32, torch.bfloat16)
        and grad_N.shape == of_N.shape
        and len(call.by) <= PARAMETERS
        and grad_N.is_cpu
        and all(each.is_cpu and each.dtype == torch.float32 for each in slopes)
        and all(each.shape == of_N.shape and each.stride() == of_N.stride() for each in slopes)
        and is_dense(of_N.unsqueeze(0))
    )


def run(call: RateGradientCall) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the gradients of inputs, and those of parameters."""
    grad_x = torch.empty_strided(
        call.by_input.shape, call.by_input.stride(), dtype=call.grad_N.dtype
    )
    grad_N = laid_out_as(call.grad_N.detach().unsqueeze(0), grad_x.unsqueeze(0))[0]
    sums = (ctypes.c_double * PARAMETERS)()
    to_run = _Rates(size=grad_N.numel(), means=native.means(), bf16=grad_N.dtype == torch.bfloat16)
    to_run.grad, to_run.by_input = grad_N.data_ptr(), call.by_input.data_ptr()
    to_run.by = (ctypes.c_void_p * PARAMETERS)(*(each.data_ptr() for each in call.by))
    to_run.grad_x, to_run.sums = grad_x.data_ptr(), ctypes.addressof(sums)
    if native.library().leanspike_rates(ctypes.byref(to_run)) != 0:
        raise MemoryError("the native gradient of rates found no memory to work in")
    return grad_x, tuple(call.by_input.new_tensor(sums[i]) for i in range(len(call.by)))
