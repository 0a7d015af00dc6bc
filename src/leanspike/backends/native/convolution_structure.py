"""Calling the native code for convolutions: ``convolution_call`` of convolution.h."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from leanspike import native


class AxisStructure(ctypes.Structure):
    """``convolution_axis`` of convolution.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64) for name in ("input", "output", "kernel", "stride", "padding")
    )


class ConvolutionStructure(ctypes.Structure):
    """``convolution_call`` of convolution.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("x", "weight", "bias", "y", "packed", "grad", "grad_weight")
        ),
        *((name, ctypes.c_int64) for name in ("images", "channels", "outputs")),
        ("rows", AxisStructure),
        ("columns", AxisStructure),
        ("strides", ctypes.c_int64 * 4),
        ("means", native.Means),
        ("bf16", ctypes.c_int32),
    )


def described(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], output: Tensor
) -> ConvolutionStructure:
    """Return what the native code is told of a convolution, but for what it is to write."""
    rows, columns = (
        AxisStructure(
            x.shape[2 + i], output.shape[2 + i], weight.shape[2 + i], stride[i], padding[i]
        )
        for i in (0, 1)
    )
    images, channels, outputs = x.shape[0], x.shape[1], weight.shape[0]
    call = ConvolutionStructure(
        images=images, channels=channels, outputs=outputs, rows=rows, columns=columns
    )
    call.x, call.means, call.bf16 = x.data_ptr(), native.means(), x.dtype == torch.bfloat16
    call.strides = (ctypes.c_int64 * 4)(*weight.stride())
    return call


def layout_of(x: Tensor) -> torch.memory_format | None:
    """Return the memory format of images without gaps, or None.

    >>> layout_of(torch.zeros(2, 3, 4, 4)), layout_of(torch.zeros(2, 3, 4, 8)[..., ::2])
    (torch.contiguous_format, None)
    """
    if x.is_contiguous():
        return torch.contiguous_format
    last = torch.channels_last
    return last if x.is_contiguous(memory_format=last) else None


def output_like(
    x: Tensor, weight: Tensor, _bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return an empty tensor for the answer, in the layout of ``x``."""
    height, width = (
        (x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1)
    )
    if x.shape[1] != weight.shape[1] or min(height, width) < 1:
        raise RuntimeError(
            f"input of shape {tuple(x.shape)}, padded by {tuple(padding)}, does not fit weights of "
            f"shape {tuple(weight.shape)}"
        )
    shape = (x.shape[0], weight.shape[0], height, width)
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def run_native(function: str, call: ConvolutionStructure) -> None:
    """Call a function of the native code, by its name. Raise MemoryError if memory is short."""
    if native.library()[function](ctypes.byref(call)) != 0:
        raise MemoryError("the native convolution found no memory to work in")


def weight_gradient(
    function: str, grad: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int]
) -> Tensor:
    """Return dL/dweight at a stride of 1, computed by that function."""
    grad, x = (t.contiguous(memory_format=torch.channels_last) for t in (grad, x))
    found = torch.empty_like(weight, dtype=torch.float32)
    call = described(x, found, (1, 1), padding, grad)
    call.grad, call.grad_weight = grad.data_ptr(), found.data_ptr()
    run_native(function, call)
    return found.to(weight.dtype)
