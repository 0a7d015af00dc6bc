"""Gradients of 3x3 weights over small images in bfloat16, on processors with matrix units (AMX).

PyTorch computes them at a half to a third of the speed that it has over large images. So images are
laid side by side into larger ones, with a row and a column of zeros between them. There the
gradient is 0, too, so no product is added that was not there before. All else is PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from leanspike import native
from leanspike.backends.calls import ConvolutionCall, ConvolutionGradientCall
from leanspike.processor import has_bfloat16, has_matrix_units
from leanspike.transforms import is_transforming

SMALL, LARGE = 8, 16
"""The most pixels of a side of images that are laid in squares, and of those laid in columns."""
SQUARE, COLUMN = (4, 4), (8, 1)
"""How many images lie below and beside one another."""
LEAST_CHANNELS = 64
"""The channels, in and out, from which on it is faster; in columns twice as many come out."""
_ONE = (1, 1)


def knows(call: ConvolutionCall | ConvolutionGradientCall) -> bool:
    """Return whether it computes the gradient of the weights, and faster than PyTorch.

    >>> x, weight = torch.zeros(16, 64, 9, 9, dtype=torch.bfloat16), torch.zeros(64, 64, 3, 3)
    >>> knows(ConvolutionCall(x, weight, None, (1, 1), (1, 1), learning=True))  # too few come out
    False
    """
    x, weight = call.x, call.weight
    return (
        x.dtype == torch.bfloat16
        and x.device.type == weight.device.type == "cpu"
        and x.dim() == 4
        and weight.shape[2:] == (3, 3)
        and call.stride == call.padding == call.dilation == _ONE
        and call.groups == 1
        and x.shape[1] == weight.shape[1] >= LEAST_CHANNELS
        and tiles_of(x, len(weight)) is not None
        and not is_transforming()
        and not torch.compiler.is_compiling()
        and has_matrix_units()
        and has_bfloat16()
    )


def tiles_of(x: Tensor, outputs: int) -> tuple[int, int] | None:
    """Return how many images are laid below and beside one another, or None.

    >>> x = torch.zeros(32, 64, 8, 8)
    >>> tiles_of(x, 64), tiles_of(x[:31], 64), tiles_of(torch.zeros(32, 64, 15, 15), 256)
    ((4, 4), None, (8, 1))
    """
    images, side = len(x), max(x.shape[2:])
    most = SMALL if outputs < 2 * LEAST_CHANNELS else LARGE
    if side > most or outputs < LEAST_CHANNELS:
        return None
    down, across = SQUARE if side <= SMALL else COLUMN
    return None if images == 0 or images % (down * across) else (down, across)


def run(call: ConvolutionCall) -> Tensor:
    """Compute the convolution by PyTorch, whose gradients are :func:`gradients`."""
    dtype = call.x.dtype
    bias = None if call.bias is None else call.bias.to(dtype)
    with torch.autocast("cpu", enabled=False):
        y: Tensor = _Convolution.apply(call.x, call.weight.to(dtype), bias)
    return y


def gradients(call: ConvolutionGradientCall) -> tuple[Tensor | None, ...]:
    """Compute the gradients that are wanted.

    >>> x, grad = (torch.randn(16, 64, 4, 4).bfloat16() for _ in range(2))
    >>> weight = torch.zeros(64, 64, 3, 3, dtype=torch.bfloat16)
    >>> call = ConvolutionGradientCall(grad, x, weight, (1, 1), (1, 1))
    >>> _, found, _ = gradients(call)
    >>> _, expected, _ = call.by_pytorch()
    >>> torch.allclose(found.float(), expected.float(), atol=0.2, rtol=0.01)
    True
    """
    tiles = tiles_of(call.x, len(call.weight))
    wants_x, wants_weight, wants_bias = call.wanted
    if tiles is None or not wants_weight:
        return call.by_pytorch()
    grad = call.grad.contiguous(memory_format=torch.channels_last)
    by_x, _, by_bias = _by_pytorch(grad, call.x, call.weight, (wants_x, False, wants_bias))
    by_weight = torch.ops.leanspike.side_by_side_weight_gradient(grad, call.x, call.weight, _ONE)
    return by_x, by_weight, by_bias


def side_by_side(x: Tensor, down: int, across: int) -> Tensor:
    """Lay images below and beside one another, each with a row and a column of zeros behind it.

    >>> x = torch.arange(1.0, 5.0).view(4, 1, 1, 1)
    >>> side_by_side(x, 2, 2).view(4, 4).tolist()
    [[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    padded = F.pad(x, (0, 1, 0, 1)).permute(0, 2, 3, 1)
    _, height, width, channels = padded.shape
    laid = padded.reshape(-1, down, across, height, width, channels).transpose(2, 3)
    return laid.reshape(-1, down * height, across * width, channels).permute(0, 3, 1, 2)


def _by_pytorch(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    if not any(wanted):
        return None, None, None
    return ConvolutionGradientCall(grad, x, weight, _ONE, _ONE, wanted=wanted).by_pytorch()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, _ONE, _ONE)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        call = ConvolutionGradientCall(
            grad_outputs[0], x, weight, _ONE, _ONE, wanted=ctx.needs_input_grad
        )
        return gradients(call)


# The operator that torch sees, and who counts products: those with the zeros between are none.

torch.library.define(
    "leanspike::side_by_side_weight_gradient",
    "(Tensor grad, Tensor x, Tensor weight, int[] padding) -> Tensor",
)


@torch.library.impl("leanspike::side_by_side_weight_gradient", "CPU")
def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, _padding: list[int]) -> Tensor:
    tiles = tiles_of(x, len(weight))
    assert tiles is not None
    laid = side_by_side(grad, *tiles), side_by_side(x, *tiles)
    _, found, _ = _by_pytorch(*laid, weight, (False, True, False))
    assert found is not None
    return found


torch.library.register_fake(
    "leanspike::side_by_side_weight_gradient",
    lambda _grad, _x, weight, _padding: torch.empty_like(weight),
)
torch.library.register_autograd(
    "leanspike::side_by_side_weight_gradient", native.refuse_second_derivatives
)
