"""How many spikes lie under a graded signal: averages of spikes become sums over their windows.

Each function takes what is called (a module, a function, or what calls a method), the arguments,
with numbers of spikes in place of tensors, and the keyword arguments; it gives numbers of spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Follow = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Tensor]


def moved(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """What only moves, repeats or adds is applied to the numbers as it is.

    >>> moved(torch.flatten, (torch.tensor([[1, 2]]), 0), {})
    tensor([1, 2])
    """
    counts: Tensor = call(*args, **named)
    return counts


def summed(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:  # noqa: ARG001
    """A mean, or a sum, along axes.

    >>> summed(torch.mean, (torch.tensor([[1, 2]]), 1), {})
    tensor([3])
    """
    total: Tensor = torch.sum(*args, **named)
    return total


def average_pooled(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Sums over the windows of an average pool in two dimensions.

    >>> average_pooled(nn.AvgPool2d(2), (torch.ones(1, 1, 2, 2),), {})
    tensor([[[[4.]]]])
    """
    if isinstance(call, nn.Module):
        named = {
            name: getattr(call, name) for name in ("kernel_size", "stride", "padding", "ceil_mode")
        }
    return F.avg_pool2d(*args[:5], **{**named, "divisor_override": 1})


def adaptively_pooled(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Averages times the sizes of their windows, which differ where the sides do not divide.

    >>> adaptively_pooled(nn.AdaptiveAvgPool2d(2), (torch.ones(1, 1, 3, 3),), {})
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    averages: Tensor = call(*args, **named)
    sizes = []
    for length, parts in zip(args[0].shape[-2:], averages.shape[-2:], strict=True):
        begin = [index * length // parts for index in range(parts)]
        end = [-(-(index + 1) * length // parts) for index in range(parts)]
        sizes.append(torch.tensor(end) - torch.tensor(begin))
    return averages * (sizes[0][:, None] * sizes[1][None, :]).to(averages.device)
