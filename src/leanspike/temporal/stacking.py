"""Time stacked into the batch: between neurons a tensor is ``[T*N, ...]``, step by step (T-major).

T timesteps, N samples. ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``; a name without a suffix
is stacked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def stack(x_TN: Tensor) -> Tensor:
    """Return ``[T, N, ...]`` as ``[T*N, ...]``.

    >>> stack(torch.zeros(5, 2, 3)).shape
    torch.Size([10, 3])
    """
    return x_TN.flatten(0, 1)


def unstack(x: Tensor, timesteps: int) -> Tensor:
    """Return ``[T*N, ...]`` as ``[T, N, ...]``, a view.

    >>> unstack(torch.zeros(10, 3), 5).shape
    torch.Size([5, 2, 3])
    """
    return x.view(timesteps, -1, *x.shape[1:])


def broadcast(x_N: Tensor, timesteps: int) -> Tensor:
    """Return ``[N, ...]`` as ``[T, N, ...]``, the same at every step: a view without a copy.

    >>> broadcast(torch.zeros(2, 3), 5).stride()
    (0, 3, 1)
    """
    x_TN: Tensor = _Broadcast.apply(x_N, timesteps)
    return x_TN


class _Broadcast(torch.autograd.Function):
    """``expand`` with a backward pass that keeps the layout and adds up equal steps at once.

    A neuron with a static input gives every step the same gradient, as a view like this one. The
    backward pass of ``expand`` would write all T of them out and lose channels_last.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x_N: Tensor, timesteps: int) -> Tensor:
        return x_N.unsqueeze(0).expand(timesteps, *x_N.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        # An older torch.compile cannot trace the question for strides here.
        if not torch.compiler.is_compiling() and grad_TN.stride(0) == 0:
            return grad_TN[0] * len(grad_TN), None
        return grad_TN.sum(0), None


def repeat(x_N: Tensor, timesteps: int) -> Tensor:
    """Return ``[N, ...]`` as stacked ``[T*N, ...]``, the same at every step; keeps channels_last.

    >>> repeat(torch.zeros(2, 3), 5).shape
    torch.Size([10, 3])
    """
    return torch.cat([x_N] * timesteps)
