"""Folding the factor of an input into weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from leanspike.export.parts import Convolution, Dense, Shape


def with_factor(layer: Convolution | Dense, factor: Tensor) -> Convolution | Dense:
    """Return the layer whose output for x is that of ``layer`` for factor·x.

    ``factor`` is a number, or one for each channel (``[C, 1, ...]``), or one for each entry of a
    dense layer's input.

    >>> layer = Dense(torch.ones(1, 2), None)
    >>> with_factor(layer, torch.tensor([2.0, 3.0])).weight
    tensor([[2., 3.]])
    """
    weight = layer.weight
    if isinstance(layer, Dense) or factor.ndim == 0:
        return replace(layer, weight=(weight.double() * factor).to(weight.dtype))
    grouped = weight.double().reshape(layer.groups, -1, *weight.shape[1:])
    by = factor.reshape(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
    return replace(layer, weight=(grouped * by).flatten(0, 1).to(weight.dtype))


def depthwise(shape: Shape, scale: Tensor, shift: Tensor | None = None) -> Convolution | Dense:
    """Return a layer that scales each channel, and shifts it if a shift is given.

    >>> depthwise((2,), torch.tensor([2.0, 3.0])).weight
    tensor([[2., 0.],
            [0., 3.]])
    >>> depthwise((2, 4, 4), torch.tensor(0.25)).weight.flatten()
    tensor([0.2500, 0.2500])
    """
    channels, axes = shape[0], len(shape) - 1
    scale_C = scale.float().reshape(-1).expand(channels) if scale.numel() == 1 else scale.float()
    scale_C = scale_C.reshape(channels)
    if axes == 0:
        return Dense(torch.diag(scale_C), shift)
    weight = scale_C.reshape(channels, 1, *[1] * axes).contiguous()
    ones, none = (1,) * axes, (0,) * axes
    return Convolution(weight, shift, ones, none, ones, channels)
