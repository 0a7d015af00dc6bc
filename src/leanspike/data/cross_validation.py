"""Cross-validation: all images of a small data set take their turn as test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from leanspike.data.images import Dataset
from leanspike.data.split import SPLIT_SEED, Split, held_out
from leanspike.errors import DataError


@final
class JoinedSplit(Split):
    """Several splits of the same shape as one, in their order.

    >>> from leanspike.data.small import synthetic
    >>> parts = synthetic((1, 4, 4), classes=2, train=4, test=2)
    >>> joined = JoinedSplit([parts.train, parts.test])
    >>> len(joined), joined.batch(torch.tensor([5, 0]))[0].shape
    (6, torch.Size([2, 1, 4, 4]))
    """

    def __init__(self, parts: Sequence[Split]) -> None:
        self.parts = list(parts)
        self.labels = torch.cat([part.labels for part in parts])
        self.lazy = any(part.lazy for part in parts)
        self.frames = parts[0].frames
        self.dtype = parts[0].dtype
        self.ends = np.cumsum([len(part) for part in parts])

    @property
    def in_memory(self) -> bool:
        return all(part.in_memory for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        owners = torch.from_numpy(np.searchsorted(self.ends, indices.numpy(), side="right"))
        found: list[Tensor] = []
        places: list[Tensor] = []
        for number, part in enumerate(self.parts):
            mine = (owners == number).nonzero().flatten()
            if len(mine):
                begin = int(self.ends[number]) - len(part)
                found.append(part.batch(indices[mine] - begin)[0])
                places.append(mine)
        if not found:
            return self.parts[0].batch(indices)
        images = torch.cat(found)
        return images[torch.cat(places).argsort()], self.labels[indices]

    def prepare(self) -> None:
        for part in self.parts:
            part.prepare()

    def select(self, indices: Tensor) -> Split:
        owners = np.searchsorted(self.ends, indices.numpy(), side="right")
        if (np.diff(owners) < 0).any():
            raise DataError("the indices of a joined split must ascend")
        parts = []
        for number, part in enumerate(self.parts):
            mine = indices[torch.from_numpy(owners == number)]
            parts.append(part.select(mine - (int(self.ends[number]) - len(part))))
        return JoinedSplit(parts)


def cross_validation_split(data: Dataset, number: int, splits: int) -> Dataset:
    """Return the data set whose test images are the ``number``-th of ``splits`` equal parts.

    ``number`` counts from 1. All images, training and test, are shared out always in the same way,
    each class alike. As many of the others are held out for validation as before.

    Raises:
        DataError: for numbers out of range.

    >>> from leanspike.data.images import load_dataset
    >>> data = cross_validation_split(load_dataset("digits"), 1, 5)
    >>> len(data.train), len(data.val), len(data.test)
    (1289, 144, 364)
    """
    joined = JoinedSplit([data.train, data.val, data.test])
    if not 2 <= splits <= len(joined) or not 1 <= number <= splits:
        raise DataError(
            f"the split is {number} of {splits}; give at least 2 splits, at most one for each of "
            f"{len(joined)} samples, and a number from 1 on"
        )
    random = np.random.RandomState(SPLIT_SEED)
    labels = joined.labels.numpy() if data.task == "multiclass" else np.zeros(len(joined))
    part = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        its = random.permutation(np.flatnonzero(labels == label))
        part[its] = np.arange(len(its)) % splits
    test = torch.from_numpy(np.flatnonzero(part == number - 1))
    rest = torch.from_numpy(np.flatnonzero(part != number - 1))
    kept, held = held_out(joined.labels[rest], min(len(data.val), len(rest) - 1))
    return replace(
        data,
        train=joined.select(rest[kept]),
        val=joined.select(rest[held]),
        test=joined.select(test),
    )
