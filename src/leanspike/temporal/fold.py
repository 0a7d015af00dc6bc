"""Time and batch: between neurons a tensor is ``[T*N, ...]``, step by step (T-major).

T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``, no suffix is folded.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fold(x_TN: Tensor) -> Tensor:
    """``[T, N, ...]`` to ``[T*N, ...]``.

    >>> fold(torch.zeros(5, 2, 3)).shape
    torch.Size([10, 3])
    """
    return x_TN.flatten(0, 1)


def unfold(x: Tensor, timesteps: int) -> Tensor:
    """``[T*N, ...]`` to ``[T, N, ...]``, a view.

    >>> unfold(torch.zeros(10, 3), 5).shape
    torch.Size([5, 2, 3])
    """
    return x.view(timesteps, -1, *x.shape[1:])


def broadcast(x_N: Tensor, timesteps: int) -> Tensor:
    """The same ``[N, ...]`` at every step as ``[T, N, ...]``, a view without a copy.

    >>> broadcast(torch.zeros(2, 3), 5).stride()
    (0, 3, 1)
    """
    return x_N.unsqueeze(0).expand(timesteps, *x_N.shape)


def repeat(x_N: Tensor, timesteps: int) -> Tensor:
    """The same ``[N, ...]`` at every step as folded ``[T*N, ...]``; keeps channels_last.

    >>> repeat(torch.zeros(2, 3), 5).shape
    torch.Size([10, 3])
    """
    return torch.cat([x_N] * timesteps)
