"""The native event-driven convolution, in which inputs of 0 cost nothing.

The code (``src/native/convolution.h``) lists the inputs that are not 0, pixel by pixel. It adds up
the rows of weights that these inputs meet. The gradient of the weights adds up the rows of dL/dy in
the same way. The gradient dL/dx is dense, since neurons below their threshold have gradients, too.
`leanspike.backends.native.winograd` computes it, or PyTorch.

Sums are float32, as in PyTorch, in another order, so results agree to rounding. A product of 0 with
an infinite weight or gradient is NaN elsewhere, and left out here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from leanspike import native
from leanspike.backends.calls import ConvolutionCall, ConvolutionGradientCall
from leanspike.backends.native import side_by_side, winograd
from leanspike.backends.native.convolution_structure import (
    described,
    layout_of,
    output_like,
    run_native,
    weight_gradient,
)

DENSEST = {torch.float32: 0.4, torch.bfloat16: 0.15}
"""The share of inputs that are not 0 above which PyTorch's dense convolution is faster."""

DENSEST_LEARNING = 0.1
"""The share above which a dense convolution in training is faster by Winograd's filtering."""

DENSEST_GRADIENT = 0.05
"""The share above which the gradient of the weights is."""

PACKING = {torch.float32: 75, torch.bfloat16: 250}
"""The input pixels whose dense convolution takes as long as laying out the weights for events."""

OUTPUTS = 64
"""The output channels that the native code always computes together."""

STREAM = 4
"""The expected number of steps of a stream. Its weights are laid out once for all steps."""

LEAST_WORK = 1_000_000
"""The multiplications of a dense convolution below which the choice does not pay."""


def serves(call: ConvolutionCall) -> bool:
    """Return whether the native code computes the convolution, and faster than PyTorch."""
    if _may_be_dense(call) or _has_faster_gradients(call):
        return True
    return knows(call) and native.is_built() and is_worth_it(call)


def serves_gradients(call: ConvolutionGradientCall) -> bool:
    """Return whether it has the gradients of a dense convolution faster than PyTorch."""
    return winograd.knows(call) or side_by_side.knows(call)


def gradients(call: ConvolutionGradientCall) -> tuple[Tensor | None, ...]:
    """Compute the gradients of a dense convolution that are wanted."""
    if side_by_side.knows(call):
        return side_by_side.gradients(call)
    return winograd.gradients(call)


def knows(call: ConvolutionCall) -> bool:
    """Return whether events are supported for this kind of convolution and of tensor.

    It takes images without gaps, if there is enough work for the choice to pay. It works in
    channels_last. A contiguous input is copied, and so is its answer.
    """
    x, weight = call.x, call.weight
    if x.dtype not in DENSEST or x.dim() != 4 or x.shape[1] != weight.shape[1]:
        return False  # if channels do not fit, torch says so
    if x.numel() // max(1, x.shape[1]) * weight.numel() < LEAST_WORK:
        return False
    return (
        x.device.type == weight.device.type == "cpu"
        and call.groups == 1
        and call.dilation == (1, 1)
        and max(x.shape[2:]) <= 2**15
        and layout_of(x) is not None
    )


def is_worth_it(call: ConvolutionCall) -> bool:
    """Return whether few enough inputs are not 0 for it to be faster than PyTorch's.

    The cost of laying out the weights is included, or a part of it if a stream will use them again.

    >>> ones, weight = torch.ones(8, 64, 16, 16), torch.ones(64, 64, 3, 3)
    >>> is_worth_it(ConvolutionCall(ones, weight, None, (1, 1), (1, 1)))
    False
    """
    x, weight, stream = call.x, call.weight, call.stream
    laying_out = 1.0
    if stream is not None:
        laid_out = stream.get(weight, call.bias, x.dtype) is not None
        laying_out = 0.0 if laid_out else 1 / STREAM
    pixels, packing = x.numel() // x.shape[1], PACKING[x.dtype] * laying_out
    if pixels <= packing or native.available_instructions() == ("plain",):
        return False
    if x.dtype == torch.bfloat16 and _has_matrix_units():
        return False
    needed = len(weight) / (-(-len(weight) // OUTPUTS) * OUTPUTS)
    densest = DENSEST_LEARNING if _may_be_dense(call) else DENSEST[x.dtype]
    return density(x) <= densest * needed * (1 - packing / pixels)


def _may_be_dense(call: ConvolutionCall) -> bool:
    return call.learning and winograd.knows(call)


def _has_faster_gradients(call: ConvolutionCall) -> bool:
    return call.learning and torch.is_grad_enabled() and side_by_side.knows(call)


def run(call: ConvolutionCall) -> Tensor:
    """Compute the convolution, by events or in training dense."""
    if _may_be_dense(call) and not (knows(call) and is_worth_it(call)):
        return winograd.run(call)
    return side_by_side.run(call) if _has_faster_gradients(call) else _by_events(call)


def _by_events(call: ConvolutionCall) -> Tensor:
    """Compute the convolution; in a stream the weights are laid out once."""
    x, stream = call.x, call.stream
    weight, bias = call.weight.to(x.dtype), None if call.bias is None else call.bias.to(x.dtype)
    how = list(call.stride), list(call.padding)
    if stream is None:
        y: Tensor = torch.ops.leanspike.convolution(x, weight, bias, *how)
        return y
    packed = stream.get(call.weight, call.bias, x.dtype)
    if packed is None:
        packed = pack(x, weight, bias)
        stream.put(call.weight, call.bias, x.dtype, packed)
    return _run_forward(x, weight, bias, *how, packed)


def density(x: Tensor) -> float:
    """Return the share of elements that are not 0, from a sample of a tensor without gaps.

    The sample is spread evenly, without a period that rows, columns or channels could share.

    >>> density(torch.tensor([0.0, 1.0, 0.0, 1.0]))
    0.5
    """
    bf16 = ctypes.c_int32(x.dtype == torch.bfloat16)
    size, address = ctypes.c_int64(x.numel()), ctypes.c_void_p(x.data_ptr())
    share: float = native.library().leanspike_density(address, size, bf16)
    return share


@cache
def _has_matrix_units() -> bool:
    return bool(native.library().leanspike_has_matrix_units())


# The operators that torch sees, for any density and layout.

torch.library.define(
    "leanspike::convolution",
    "(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding) -> Tensor",
)
torch.library.define(
    "leanspike::convolution_weight_gradient",
    "(Tensor grad, Tensor x, Tensor weight, int[] padding) -> Tensor",
)


@torch.library.impl("leanspike::convolution", "CPU")
def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
) -> Tensor:
    return _run_forward(x, weight, bias, stride, padding, None)


def _run_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    packed: Tensor | None,
) -> Tensor:
    """Compute the convolution, with weights and bias laid out by `pack`, if they are given."""
    y = output_like(x, weight, bias, stride, padding)
    x, weight = x.contiguous(memory_format=torch.channels_last), weight.float()
    bias = None if bias is None else bias.float().contiguous()
    inside = y.contiguous(memory_format=torch.channels_last)
    call = described(x, weight, stride, padding, inside)
    call.weight, call.y = weight.data_ptr(), inside.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    call.packed = None if packed is None else packed.data_ptr()
    run_native("leanspike_convolution", call)
    return y if inside is y else y.copy_(inside)


def pack(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return weights and bias laid out for events like those of ``x``."""
    weight = weight.detach().float()
    bias = None if bias is None else bias.detach().float().contiguous()
    call = described(x, weight, (1, 1), (0, 0), x)
    call.weight = weight.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    packed = weight.new_empty(native.library().leanspike_convolution_room(ctypes.byref(call)))
    if (
        native.library().leanspike_convolution_pack(
            ctypes.byref(call), ctypes.c_void_p(packed.data_ptr())
        )
        != 0
    ):
        raise MemoryError("the native convolution found no memory to work in")
    return packed


@torch.library.impl("leanspike::convolution_weight_gradient", "CPU")
def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    return weight_gradient("leanspike_convolution", grad, x, weight, padding)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, weight, bias, ctx.stride, ctx.padding = inputs
    ctx.save_for_backward(x, weight)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    how = tuple(ctx.stride), tuple(ctx.padding)
    dense = ConvolutionGradientCall(grad, x, weight, *how)
    by_events = wants_weight and ctx.stride == [1, 1]
    if by_events and winograd.knows(dense):
        by_events = density(x) <= DENSEST_GRADIENT
    wanted = wants_x, wants_weight and not by_events, wants_bias and ctx.has_bias
    grad_x, grad_weight, grad_bias = winograd.gradients(replace(dense, wanted=wanted))
    if by_events:
        grad_weight = torch.ops.leanspike.convolution_weight_gradient(grad, x, weight, ctx.padding)
    return grad_x, grad_weight, grad_bias, None, None


torch.library.register_fake("leanspike::convolution", output_like)
torch.library.register_fake(
    "leanspike::convolution_weight_gradient",
    lambda _grad, _x, weight, _padding: torch.empty_like(weight),
)
torch.library.register_autograd("leanspike::convolution", _backward, setup_context=_save)
torch.library.register_autograd(
    "leanspike::convolution_weight_gradient", native.refuse_second_derivatives
)
