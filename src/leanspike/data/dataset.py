"""A data set as training sees it, and its description in one line."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from leanspike.data.split import Split, TaskName

NAMED = 4
"""Up to this number of channels the constants are shown in full."""


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for training.

    ``shape`` is (C, H, W) for images. For other tensors it is the shape of a sample, whose first
    axis has the channels. ``mean`` and ``std`` are per channel: in units of the full range [0, 1]
    for images, in the tensors' own units for others. ``val`` was held out from the training images
    and is disjoint from ``train``; it may be empty. ``frames`` is T where each sample is a sequence
    of T images of that shape, else None. ``notes`` say what was done to the images that a person
    should know. ``task`` is what the labels are of. Where it is "none", the targets are numbers and
    ``classes`` is empty.

    >>> from leanspike.data import load_dataset
    >>> data = load_dataset("synthetic_grey", validation=40)
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 28, 28), 600, 40, 160)
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    val: Split
    test: Split
    frames: int | None = None
    notes: tuple[str, ...] = ()
    task: TaskName = "multiclass"

    @property
    def of_images(self) -> bool:
        """Whether the samples are images, or sequences of images, in bytes."""
        return self.train.dtype == torch.uint8

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """The shape of what a network must give for a sample: K logits, one, or the targets' shape.

        >>> from leanspike.data import load_dataset
        >>> load_dataset("digits").answer_shape
        (10,)
        """
        if self.task == "multiclass":
            return (len(self.classes),)
        row = tuple(self.train.labels.shape[1:])
        return row or (1,)


def describe(data: Dataset) -> str:
    """Return a data set in one line: shape, classes, images, normalisation.

    >>> from leanspike.data import load_dataset
    >>> print(describe(load_dataset("digits")))
    digits: images of 1x8x8 (grey), 10 classes; 1,294 train, 144 validate, 359 test; ...
    """
    shape = "x".join(map(str, data.shape))
    kind = {1: " (grey)", 3: " (colour)"}.get(data.shape[0], "") if data.of_images else ""
    what = "images" if data.frames is None else f"sequences of {data.frames} images"
    asked = f"{len(data.classes)} {'labels' if data.task == 'multilabel' else 'classes'}"
    if data.task == "none":
        asked = f"targets of {'x'.join(map(str, data.answer_shape))}"
    counts = f"{len(data.train):,} train, {len(data.val):,} validate, {len(data.test):,} test"
    what = what if data.of_images else "tensors"
    return (
        f"{data.name}: {what} of {shape}{kind}, {asked}; {counts}; "
        f"mean {_numbers(data.mean)}, std {_numbers(data.std)}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    """Return the first few numbers as text, and how many there are."""
    shown = ", ".join(f"{value:.4g}" for value in values[:NAMED])
    return shown if len(values) <= NAMED else f"{shown}, ... ({len(values)} channels)"
