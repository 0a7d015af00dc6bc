"""Dropout whose mask is drawn once for all timesteps."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class TemporalDropout(nn.Module):
    """Dropout with one mask per forward pass, shared by all timesteps.

    A connection that is dropped stays dropped for the whole sequence (DIET-SNN's official code;
    independent masks would let every signal through within a few steps). In eval mode it passes
    its input on.

    Args:
        p: the probability in [0, 1] of dropping.
        channels: drop whole channels, as ``nn.Dropout2d`` does.

    >>> _ = torch.manual_seed(0)
    >>> y_TN = TemporalDropout(0.5)(torch.ones(3, 1, 4))
    >>> bool((y_TN[0] == y_TN[1]).all() and (y_TN[0] == y_TN[2]).all())
    True
    """

    def __init__(self, p: float, channels: bool = False) -> None:
        super().__init__()
        self.p = p
        self.channels = channels

    def forward(self, x_TN: Tensor) -> Tensor:
        """``[T, N, ...]`` in and out; scaled by 1/(1 − p) in training."""
        if not self.training or self.p == 0:
            return x_TN
        like = x_TN[0, ..., :1, :1] if self.channels else x_TN[0]
        mask_N = F.dropout(torch.ones_like(like), self.p)
        return x_TN * mask_N

    def extra_repr(self) -> str:
        """The settings, for ``print(network)``."""
        return f"p={self.p}, channels={self.channels}"
