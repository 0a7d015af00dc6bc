"""Splits whose images are corrupted when a batch asks for them.

Shapes: N images of a split, C channels, H rows, W columns.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self, final

import torch
from torch import Tensor

from leanspike.data.corruptions import corrupt, find_corruption
from leanspike.data.split import Split


class LazilyCorrupted(Split):
    """What splits have in common whose images are corrupted when a batch asks for them.

    ``positions`` are the positions of the split's images (default 0..N−1). A part that is selected
    keeps them, so an image is corrupted the same way in each part.
    """

    lazy = True

    def __init__(
        self,
        split: Split,
        name: str,
        severity: int,
        seed: int = 0,
        positions: Tensor | None = None,
    ) -> None:
        self.split = split
        self.labels = split.labels
        self.how = (name, severity, seed)
        self.positions = torch.arange(len(split)) if positions is None else positions
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise LeanspikeError for images, a name or a number that does not fit."""

    @abstractmethod
    def corrupt(self, images: Tensor, positions: Tensor) -> Tensor:
        """Return the images that stand at these positions corrupted, uint8 ``[N, C, H, W]``."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.split.shape

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self.split.batch(indices)
        return self.corrupt(images, self.positions[indices]), labels

    def select(self, indices: Tensor) -> Self:
        return type(self)(self.split.select(indices), *self.how, self.positions[indices])


@final
class CorruptedSplit(LazilyCorrupted):
    """A split whose images are corrupted when a batch asks for them, the same way each time.

    The arguments are those of :func:`corrupt`. ``positions`` are the positions of the split's
    images (default 0..N−1), and a part that is selected keeps them.

    >>> from leanspike.data import synthetic
    >>> split = CorruptedSplit(synthetic((1, 8, 8)).test, "gaussian", severity=3)
    >>> part = split.select(torch.tensor([5, 9]))
    >>> torch.equal(part.batch(torch.tensor([1]))[0], split.batch(torch.tensor([9]))[0])
    True
    """

    def check(self) -> None:
        find_corruption(*self.how[:2])

    def corrupt(self, images: Tensor, positions: Tensor) -> Tensor:
        return corrupt(images, *self.how, positions)
