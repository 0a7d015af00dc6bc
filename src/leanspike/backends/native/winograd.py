"""Dense 3x3 convolutions in training, by Winograd's minimal filtering.

The code (``src/native/winograd.h``) transforms tiles of 4x4 outputs and the 6x6 inputs that they
depend on. A tile takes 36 products for each pair of channels instead of 144. The gradient of the
input is such a convolution, too, of weights turned by half a turn. The gradient of the weights is
the same identity turned around.

The transforms add and subtract numbers that nearly cancel. So results differ from exact ones by up
to about 2e-5 of the largest, ten times as much as PyTorch's. No answer to a user hangs on it: only
training comes here.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import ConvolutionCall, ConvolutionGradientCall
from leanspike.backends.native.convolution_structure import (
    described,
    layout_of,
    output_like,
    run_native,
    weight_gradient,
)

LEAST_CHANNELS = 16
"""The channels, in and out, from which on the products outweigh the transforms."""
CHANNELS_TOGETHER = 8
"""Numbers of channels must be multiples of it (``WINOGRAD_CHANNELS``)."""
TILE = 4
PRODUCTS = 36
"""The products of a tile, for a pair of channels."""
TRANSFORM = 2000
"""The products that take as long as transforming the weights, for a pair of channels."""
WORTH = 0.8
"""The share of a dense convolution's products up to which it is faster."""


def knows(call: ConvolutionCall | ConvolutionGradientCall) -> bool:
    """Return whether it computes such a convolution, and faster than PyTorch.

    >>> x, weight = torch.zeros(8, 64, 16, 16), torch.zeros(64, 64, 3, 3)
    >>> [knows(ConvolutionCall(x, weight, None, (s, s), (1, 1))) for s in (1, 2)]
    [True, False]
    """
    x, weight = call.x, call.weight
    return (
        x.dtype == weight.dtype == torch.float32
        and x.dim() == 4
        and weight.shape[2:] == (3, 3)
        and x.device.type == weight.device.type == "cpu"
        and call.stride == call.dilation == (1, 1)
        and call.groups == 1
        and x.shape[1] == weight.shape[1]
        and all(0 <= padding <= 2 for padding in call.padding)
        and _is_worth_it(x.shape, len(weight), call.padding)
        and layout_of(x) is not None
        and len(native.available_instructions()) > 1  # plain code is slower than PyTorch's
    )


def _is_worth_it(shape: Sequence[int], outputs: int, padding: Sequence[int]) -> bool:
    images, channels, *size = shape
    if min(channels, outputs) < LEAST_CHANNELS or (channels | outputs) % CHANNELS_TOGETHER:
        return False
    height, width = (size[i] + 2 * padding[i] - 2 for i in (0, 1))
    if min(height, width) < 1:
        return False
    tiles = images * -(-height // TILE) * -(-width // TILE)
    return PRODUCTS * tiles + TRANSFORM <= WORTH * 9 * images * height * width


def run(call: ConvolutionCall) -> Tensor:
    """Compute the convolution."""
    found: Tensor = torch.ops.leanspike.winograd(call.x, call.weight, call.bias, list(call.padding))
    return found


def gradients(call: ConvolutionGradientCall) -> tuple[Tensor | None, ...]:
    """Compute the gradients that are wanted, or let PyTorch do it where that is faster."""
    if not knows(call):
        return call.by_pytorch()
    ours, padding = torch.ops.leanspike, list(call.padding)
    wants_x, wants_weight, wants_bias = call.wanted
    grad = call.grad.contiguous(memory_format=torch.channels_last)
    how = grad, call.x, call.weight, padding
    return (
        ours.winograd_input_gradient(*how) if wants_x else None,
        ours.winograd_weight_gradient(*how) if wants_weight else None,
        grad.sum((0, 2, 3)) if wants_bias else None,
    )


# The operators that torch sees.

torch.library.define(
    "leanspike::winograd", "(Tensor x, Tensor weight, Tensor? bias, int[] padding) -> Tensor"
)
torch.library.define(
    "leanspike::winograd_input_gradient",
    "(Tensor grad, Tensor x, Tensor weight, int[] padding) -> Tensor",
)
torch.library.define(
    "leanspike::winograd_weight_gradient",
    "(Tensor grad, Tensor x, Tensor weight, int[] padding) -> Tensor",
)

STRIDE = (1, 1)


@torch.library.impl("leanspike::winograd", "CPU")
def _winograd(x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    y = output_like(x, weight, bias, STRIDE, padding)
    x, inside = (t.contiguous(memory_format=torch.channels_last) for t in (x, y))
    bias = None if bias is None else bias.contiguous()
    call = described(x, weight, STRIDE, padding, inside)
    call.weight, call.y = weight.data_ptr(), inside.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    run_native("leanspike_winograd", call)
    return y if inside is y else y.copy_(inside)


@torch.library.impl("leanspike::winograd_input_gradient", "CPU")
def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    found = torch.empty_like(x)
    grad, inside = (t.contiguous(memory_format=torch.channels_last) for t in (grad, found))
    turned = weight.transpose(0, 1)  # channels and outputs change places, and the taps their ends
    call = described(grad, turned, STRIDE, [2 - each for each in padding], inside)
    outputs, channels, down, right = turned.stride()
    call.strides = (ctypes.c_int64 * 4)(outputs, channels, -down, -right)
    call.weight = turned.data_ptr() + 2 * (down + right) * weight.element_size()
    call.y = inside.data_ptr()
    run_native("leanspike_winograd", call)
    return found if inside is found else found.copy_(inside)


@torch.library.impl("leanspike::winograd_weight_gradient", "CPU")
def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    return weight_gradient("leanspike_winograd", grad, x, weight, padding)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, weight, bias, ctx.padding = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    wanted = wants_x, wants_weight, wants_bias and ctx.has_bias
    call = ConvolutionGradientCall(grad, x, weight, STRIDE, tuple(ctx.padding), wanted=wanted)
    return *gradients(call), None


torch.library.register_fake(
    "leanspike::winograd",
    lambda x, weight, bias, padding: output_like(x, weight, bias, STRIDE, padding),
)
torch.library.register_fake(
    "leanspike::winograd_input_gradient", lambda _grad, x, _weight, _padding: torch.empty_like(x)
)
torch.library.register_fake(
    "leanspike::winograd_weight_gradient",
    lambda _grad, _x, weight, _padding: torch.empty_like(weight),
)
torch.library.register_autograd("leanspike::winograd", _backward, setup_context=_save)
for _name in ("input", "weight"):
    torch.library.register_autograd(
        f"leanspike::winograd_{_name}_gradient", native.refuse_second_derivatives
    )
