"""Random numbers for images that depend on the seed and each image's position alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

from leanspike.data.loader import generator_for
from leanspike.errors import LeanspikeError


@final
class Draws:
    """Random numbers for a batch: each image's are a function of (seed, its position) alone.

    Every call gives the same numbers; another ``stream`` (≥ 0) gives unrelated ones.

    >>> both, second = Draws(0, [7, 8]), Draws(0, [8])
    >>> torch.equal(both.uniform(3)[1:], second.uniform(3))
    True
    """

    def __init__(self, seed: int, positions: Iterable[int], stream: int = 0) -> None:
        if seed < 0:
            raise LeanspikeError(f"seed is {seed}; give 0 or more")
        self.keys = [(seed, stream, int(position)) for position in positions]

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1): float32 [B, *shape]."""
        return torch.stack([torch.rand(shape, generator=generator_for(*key)) for key in self.keys])

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers: float32 [B, *shape]."""
        return torch.stack([torch.randn(shape, generator=generator_for(*key)) for key in self.keys])
