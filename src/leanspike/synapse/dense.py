"""Convolutions of a network while it trains, by a backend that has faster ones.

Such a backend rounds more than PyTorch, so only training takes it: the steps, the answers of a
teacher, and the validation after each epoch. Evaluation and every answer to a user are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from leanspike.backends import ConvolutionCall, choose
from leanspike.synapse.onednn import PLACE, calls_pytorchs
from leanspike.transforms import has_values


@dataclass(eq=False)
class Dense:
    """The convolution of a layer by a backend, or by PyTorch where no backend serves."""

    layer: nn.Conv2d

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the convolution."""
        call = self._call(x, weight, bias)
        backend = None if call is None else choose(call)
        if call is None or backend is None:
            given = x if call is None else call.x  # which is cast once
            theirs: Tensor = nn.Conv2d._conv_forward(self.layer, given, weight, bias)
            return theirs
        ours: Tensor = backend.run(call)
        return ours

    def _call(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> ConvolutionCall | None:
        layer, device = self.layer, x.device.type
        if not has_values() or not is_plain(layer, x):
            return None
        if torch.is_autocast_enabled(device):  # as torch's own convolution does
            if x.dtype == torch.float64:
                return None
            x = x.to(torch.get_autocast_dtype(device))
        assert not isinstance(layer.padding, str)
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        return ConvolutionCall(x, weight, bias, *how, learning=True)


def is_plain(layer: nn.Conv2d, x: Tensor) -> bool:
    """Return whether a call can say what a layer computes of an input, and the input has memory.

    >>> is_plain(nn.Conv2d(1, 1, 3, padding="same"), torch.zeros(1, 1, 4, 4))
    False
    """
    padded = not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    return padded and type(x) is Tensor and not x.is_meta


def is_learning(layer: nn.Module) -> bool:
    """Return whether a layer convolves faster now, for a training step.

    >>> conv = nn.Conv2d(16, 16, 3)
    >>> with convolving_faster(conv):
    ...     is_learning(conv)
    True
    """
    return isinstance(layer.__dict__.get(PLACE), Dense)


@contextmanager
def convolving_faster(*networks: nn.Module) -> Iterator[None]:
    """Let backends compute the dense convolutions of networks inside the context, for training.

    Layers keep class, parameters and hooks. In float32 on a CPU, 3x3 convolutions with a stride of
    1 and at least 16 channels take about half the time, and their gradients two fifths. Results
    differ from PyTorch's by up to about 2e-5 of the largest. In bfloat16 on a CPU with matrix units
    the weights of small images have their gradients in about half the time.

    >>> from torch.nn import functional as F
    >>> network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    >>> x = torch.randn(8, 16, 16, 16)
    >>> with convolving_faster(network):
    ...     y = network(x)
    >>> torch.allclose(y, network(x), atol=1e-4)
    True
    """
    modules = [module for network in networks for module in network.modules()]
    changed = [module for module in dict.fromkeys(modules) if _may_be_faster(module)]
    try:
        for module in changed:
            module.__dict__[PLACE] = Dense(module)
        yield
    finally:
        for module in changed:
            module.__dict__.pop(PLACE, None)


def _may_be_faster(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(module, nn.Conv2d) or PLACE in module.__dict__:
        return False
    return module.kernel_size == (3, 3) and calls_pytorchs(module)
