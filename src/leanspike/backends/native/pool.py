"""Max pools of rate gradients in native code: all steps, their mean and shares in one walk.

The code is in ``src/native/pool.h``.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, height, width]``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import MaxPoolRateCall
from leanspike.backends.pools import MaxPoolRates
from leanspike.transforms import is_transforming


class _Axis(ctypes.Structure):
    """``pool_axis`` of pool.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("input", "output", "kernel", "stride"))


class _Pool(ctypes.Structure):
    """``pool_call`` of pool.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "shares", "y", "mean_y", "parts")),
        *((name, ctypes.c_int64) for name in ("images", "channels", "steps", "x_step")),
        ("rows", _Axis),
        ("columns", _Axis),
        ("means", native.Means),
        ("bf16", ctypes.c_int32),
    )


def serves(call: MaxPoolRateCall) -> bool:
    """Return whether the native code knows this pool, its type and its layout.

    >>> from leanspike.backends import Windows
    >>> windows = Windows((2, 2), (2, 2), (0, 0), (1, 1), size=(4, 4), left=(2, 2))
    >>> x_TN = torch.zeros(3, 1, 4, 4, 8).movedim(-1, 2)  # channels_last
    >>> [serves(MaxPoolRateCall(x, windows, torch.ones(3))) for x in (x_TN, x_TN.contiguous())]
    [True, False]
    """
    x_TN, windows = call.x_TN, call.windows
    return (
        not torch.compiler.is_compiling()
        and not is_transforming()
        and x_TN.dim() == 5
        and x_TN.is_cpu
        and x_TN.dtype in (torch.float32, torch.bfloat16)
        and x_TN[0].is_contiguous(memory_format=torch.channels_last)
        and x_TN[0].stride(1) == 1  # of one pixel, both layouts are contiguous
        and windows.padding == (0, 0)
        and windows.dilation == (1, 1)
        and min(windows.left) > 0
    )


def run(call: MaxPoolRateCall) -> MaxPoolRates:
    """Pool all steps."""
    x_TN, windows = call.x_TN, call.windows
    steps, images, channels = x_TN.shape[:3]
    shape = images, channels, *windows.left
    y_TN, y_N = _empty(steps, shape, x_TN.dtype), _empty(1, shape, x_TN.dtype)[0]
    parts = _empty(windows.kernel[0] * windows.kernel[1], shape, torch.float32)
    shares = (call.share_T / steps).to(torch.float32).contiguous()
    rows, columns = (
        _Axis(windows.size[i], windows.left[i], windows.kernel[i], windows.stride[i])
        for i in (0, 1)
    )
    to_run = _Pool(images=images, channels=channels, steps=steps, rows=rows, columns=columns)
    to_run.x, to_run.x_step, to_run.shares = x_TN.data_ptr(), x_TN.stride(0), shares.data_ptr()
    to_run.y, to_run.mean_y, to_run.parts = y_TN.data_ptr(), y_N.data_ptr(), parts.data_ptr()
    to_run.means, to_run.bf16 = native.means(), x_TN.dtype == torch.bfloat16
    found = native.library().leanspike_pool(ctypes.byref(to_run))
    if found < 0:
        raise MemoryError("the native max pool found no memory to work in")
    return MaxPoolRates(y_TN, y_N, None if found else tuple(parts))


def _empty(count: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """So many tensors of a shape, one after the other."""
    layout = torch.channels_last
    flat = torch.empty(count * shape[0], *shape[1:], dtype=dtype, memory_format=layout)
    return flat.view(count, *shape)
