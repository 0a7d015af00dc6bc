"""Dropout whose mask is drawn once for all timesteps."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError


@final
class TemporalDropout(nn.Module):
    """Dropout with one mask per forward pass, shared by all timesteps.

    A connection that is dropped stays dropped for the whole sequence (DIET-SNN's official code;
    independent masks would let every signal through within a few steps). In eval mode it passes
    its input on.

    Args:
        p: the probability in [0, 1] of dropping.
        channels: drop whole channels (axis 1 of ``[N, C, ...]``), as ``nn.Dropout2d`` does.

    Raises:
        LeanspikeError: for a probability outside its range.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> y_TN = TemporalDropout(0.5)(torch.ones(3, 1, 4))
    >>> bool((y_TN[0] == y_TN[1]).all() and (y_TN[0] == y_TN[2]).all())
    True
    """

    def __init__(self, p: float, channels: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise LeanspikeError(f"p is {p}; give a probability from 0 to 1")
        self.p = p
        self.channels = channels

    def forward(self, x_TN: Tensor) -> Tensor:
        """``[T, N, ...]`` in and out; scaled by 1/(1 − p) in training."""
        if not self.training or self.p == 0:
            return x_TN
        x_N = x_TN[0]
        shape = (*x_N.shape[:2], *[1] * (x_N.dim() - 2)) if self.channels else x_N.shape
        return x_TN * F.dropout(x_N.new_ones(shape), self.p)

    def extra_repr(self) -> str:
        """The settings, for ``print(network)``."""
        return f"p={self.p}, channels={self.channels}"
