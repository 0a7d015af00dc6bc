"""Layers with weights in rate gradients: their mean output is known and not computed again.

The output of a linear layer for a mean is the mean of its outputs. So only its backward pass is
computed at the mean.

Shapes: N samples; ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leanspike.backends import ConvolutionGradientCall, choose
from leanspike.synapse.onednn import is_stepped_around

CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def follows_mean(layer: nn.Module, x_N: Tensor) -> bool:
    """Return whether :func:`output_of_mean` knows the layer's backward pass.

    >>> follows_mean(nn.Conv2d(2, 3, 3), torch.zeros(1, 2, 4, 4))
    True
    >>> follows_mean(nn.Conv2d(2, 3, 3, padding="same"), torch.zeros(1, 2, 4, 4))
    False
    """
    if isinstance(layer, nn.Linear):
        return x_N.dim() > 1
    if not isinstance(layer, CONVOLUTIONS):
        return False
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return False
    around = isinstance(layer, nn.Conv2d) and is_stepped_around(layer, x_N)
    return not around and x_N.dim() == layer.weight.dim()


def output_of_mean(
    layer: nn.Module, x_N: Tensor, y_N: Tensor, heard_N: Tensor | None = None
) -> Tensor:
    """Return ``y_N``, a layer's mean output, as a function of the mean input ``x_N``.

    The gradient of the weights takes ``heard_N`` for the mean input; None: ``x_N``.

    >>> layer, x_N = nn.Linear(2, 1, bias=False), torch.ones(1, 2, requires_grad=True)
    >>> output_of_mean(layer, x_N, torch.tensor([[7.0]])).sum().backward()
    >>> torch.equal(x_N.grad, layer.weight), layer.weight.grad
    (True, tensor([[1., 1.]]))
    """
    how: Any = None
    if not isinstance(layer, nn.Linear):
        assert isinstance(layer, CONVOLUTIONS)
        transposed = isinstance(layer, CONVOLUTIONS[3:])
        moved = layer.output_padding if transposed else (0,) * len(layer.stride)
        how = layer.stride, layer.padding, layer.dilation, transposed, moved, layer.groups
    weight, bias = layer.weight, layer.bias
    found: Tensor = _OfMean.apply(y_N, x_N, weight, bias, how, heard_N)
    return found


class _OfMean(torch.autograd.Function):
    """A value, with the backward pass of a linear layer or a convolution (``how``)."""

    @staticmethod
    def forward(
        ctx: Any,
        y_N: Tensor,
        x_N: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        how: Any,
        heard_N: Any,
    ) -> Tensor:
        ctx.save_for_backward(x_N if heard_N is None else heard_N, weight)
        ctx.how, ctx.dtype = how, y_N.dtype
        ctx.bias = None if bias is None else bias.dtype
        return y_N.view_as(y_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x_N, weight = ctx.saved_tensors
        _, wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad, x, w = (t.to(ctx.dtype) for t in (grad_outputs[0], x_N, weight))
        wanted = wants_x, wants_weight, wants_bias and ctx.bias is not None
        if ctx.how is None:
            found = _linear(grad, x, w, wanted)
        else:
            found = _convolution(grad, x, w, ctx.how, wanted)
        types = x_N.dtype, weight.dtype, ctx.bias
        grads = (
            each.to(dtype) if want and each is not None else None
            for each, want, dtype in zip(found, wanted, types, strict=True)
        )
        return None, *grads, None, None


def _convolution(
    grad: Tensor, x: Tensor, weight: Tensor, how: Any, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    stride, padding, dilation, transposed, _, groups = how
    if transposed or x.dim() != 4:
        sizes = [grad.shape[1]] if wanted[2] else None
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            grad, x, weight, sizes, *how, wanted
        )
        return found
    call = ConvolutionGradientCall(grad, x, weight, stride, padding, dilation, groups, wanted)
    backend = choose(call)
    return call.by_pytorch() if backend is None else backend.run(call)


def _linear(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    wants_x, wants_weight, wants_bias = wanted
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad @ weight if wants_x else None,
        rows.T @ x.reshape(-1, x.shape[-1]) if wants_weight else None,
        rows.sum(0) if wants_bias else None,
    )
