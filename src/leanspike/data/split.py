"""Labelled samples by index, and how a part of them is held out.

Shapes: N samples of a split, B of a batch, T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from leanspike.errors import DataError

TaskName = Literal["multiclass", "binary", "multilabel", "none"]
"""What labels are of, as in torchmetrics; "none": targets that are no labels, or no targets."""
SPLIT_SEED = 0  # every held-out part belongs to the data set, never to a run and its seed


class Split(ABC):
    """N labelled samples: ``labels`` (of images int64 [N]) at hand, the pixels on request.

    ``lazy`` says that ``batch`` does slow work (reading, decoding) that is worth doing ahead.
    ``frames`` is T where each sample is a sequence of T images, None where it is one image.
    ``dtype`` is uint8 for images, float32 for other tensors.
    """

    labels: Tensor
    lazy: bool
    frames: int | None = None
    dtype: torch.dtype = torch.uint8

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether its samples stay in memory once they were read."""
        return not self.lazy

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image, or the shape of every other sample."""

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels (int64 [B]) at ``indices`` (int64 [B]).

        Images are uint8 [B, C, H, W], sequences of images [B, T, C, H, W]. Other samples are
        float32 [B, ...].
        """

    def prepare(self) -> None:
        """Do work now whose result can be kept, so that damaged samples are found at once.

        By default there is none.
        """
        return

    @abstractmethod
    def select(self, indices: Tensor) -> Split:
        """Return the part of this split at ``indices`` (int64 [B]), in that order."""


class Parts(NamedTuple):
    """A data set as it is read: class names, all training images, all test images.

    ``val`` is there where the data set has validation images of its own. ``notes`` say in words
    what a person should know of how it was read. ``task`` says what the labels are of, where each
    is not the number of a class.

    >>> split = TensorSplit(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    >>> parts = Parts(("cat", "dog"), train=split, test=split)
    >>> parts.classes, parts.train.shape
    (('cat', 'dog'), (1, 4, 4))
    """

    classes: tuple[str, ...]
    train: Split
    test: Split
    val: Split | None = None
    notes: tuple[str, ...] = ()
    task: TaskName = "multiclass"


@final
class TensorSplit(Split):
    """Images held in memory: ``images`` uint8 [N, C, H, W], ``labels`` int64 [N].

    Sequences of images are [N, T, C, H, W]. Other samples are float32 [N, ...]. A sample may also
    have a row or a picture of labels ([N, ...]), and labels may be floats. Such labels are several
    labels, labels of pixels, or targets of a regression.

    >>> split = TensorSplit(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    >>> images, labels = split.batch(torch.tensor([3, 0]))
    >>> images.shape, labels.tolist()
    (torch.Size([2, 1, 2, 2]), [1, 0])
    """

    lazy = False

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        floats = images.dtype == torch.float32 and images.dim() > 1
        if not floats and (images.dtype != torch.uint8 or images.dim() not in (4, 5)):
            raise DataError(
                f"images are {images.dtype} {list(images.shape)}; give torch.uint8 [N, C, H, W], "
                "sequences [N, T, C, H, W], or torch.float32 [N, ...]"
            )
        whole = labels.dtype == torch.int64 or labels.dtype.is_floating_point
        if not whole or labels.shape[:1] != images.shape[:1]:
            raise DataError(
                f"labels are {labels.dtype} {list(labels.shape)}; give torch.int64 [{len(images)}]"
                f", or floats: a row for each sample, [{len(images)}, ...]"
            )
        self.images = images
        self.labels = labels
        self.dtype = images.dtype
        self.frames = images.shape[1] if images.dim() == 5 and not floats else None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1 if self.frames is None else 2 :])

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images.index_select(0, indices), self.labels[indices]

    def select(self, indices: Tensor) -> TensorSplit:
        return TensorSplit(*self.batch(indices))


def held_out(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return what :func:`stratified` does, also for labels that are no classes.

    For such labels the samples are drawn at random, the same ones for ever.

    >>> kept, held = held_out(torch.tensor([0.1, 0.2, 0.3]), 1)
    >>> len(kept), len(held)
    (2, 1)
    """
    classes = labels.dim() == 1 and not labels.is_floating_point()
    return stratified(labels if classes else torch.zeros(len(labels), dtype=torch.int64), count)


def stratified(labels: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    """Return indices to keep and indices to hold out, both ascending; the same ones for ever.

    Every class gives its share of the ``held_out`` samples to within one sample (largest
    remainder), drawn at random with one fixed seed. ``labels`` is int64 [N], ``held_out`` in 0..N.

    Raises:
        DataError: for labels that are not one class each.

    >>> kept, held = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3)
    >>> len(kept), len(held), held.tolist() == sorted(held.tolist())
    (3, 3, True)
    """
    if labels.dim() != 1 or labels.is_floating_point():
        raise DataError(
            f"labels are {labels.dtype} {list(labels.shape)}; samples are drawn alike from all "
            "classes: give torch.int64 [N], one class each"
        )
    # NumPy promises never to change what RandomState draws; torch makes no such promise.
    random = np.random.RandomState(SPLIT_SEED)
    targets = labels.numpy()
    counts = np.bincount(targets)
    quota = held_out * counts / max(1, len(targets))
    share = np.floor(quota).astype(np.int64)
    for label in np.argsort(share - quota, kind="stable")[: held_out - share.sum()]:
        share[label] += 1
    held = np.zeros(len(targets), dtype=bool)
    for label, size in enumerate(share):
        held[random.permutation(np.flatnonzero(targets == label))[:size]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))
