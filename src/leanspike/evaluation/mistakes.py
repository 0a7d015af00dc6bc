"""Which samples an SNN and its ANN answer wrongly, and small pictures of some of them."""

from __future__ import annotations

import base64
import math
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from leanspike.evaluation.record import Record

SHOWN = 6
"""The most samples of a kind that are listed."""
SIDE = 48
"""The most pixels of a picture's longer side."""


class Picture(Record):
    """One image, small: its pixels [height, width, channels] of 0..255 as bytes, in base64."""

    height: int
    width: int
    channels: int
    pixels: str


class Mistake(Record):
    """A sample that is answered wrongly, by its place in the test set.

    ``snn`` is the SNN's answer after its last step, ``ann`` the ANN's (None: there is no ANN).
    """

    index: int
    label: int
    snn: int
    ann: int | None
    picture: Picture | None = None


class Mistakes(Record):
    """How many samples only the SNN, only the ANN, or both answer wrongly, and the first of each.

    Without an ANN all are counted as the SNN's only, and ``ann_only`` and ``both`` are None.

    >>> Mistakes(snn_only=3, ann_only=1, both=2, first=()).disagree
    4
    """

    snn_only: int
    ann_only: int | None
    both: int | None
    first: tuple[Mistake, ...]

    @property
    def disagree(self) -> int:
        """The number of samples that one of the two answers correctly and the other does not."""
        return self.snn_only + (self.ann_only or 0)


@final
class MistakeFinder:
    """Finds the mistakes, batch after batch.

    >>> finder = MistakeFinder()
    >>> finder.add(torch.tensor([0, 1, 2]), torch.tensor([0, 2, 1]), torch.tensor([1, 1, 1]))
    >>> found = finder.mistakes()
    >>> found.snn_only, found.ann_only, found.both, [mistake.index for mistake in found.first]
    (1, 1, 1, [1, 0, 2])
    """

    def __init__(self) -> None:
        self.seen = 0
        self.counts = [0, 0, 0]
        self.kinds: tuple[list[Mistake], ...] = ([], [], [])
        self.has_ann = False

    def add(self, labels: Tensor, snn: Tensor, ann: Tensor | None) -> None:
        """Take a batch: labels and answers, all int64 ``[N]``."""
        self.has_ann = ann is not None
        snn_wrong = snn != labels
        ann_wrong = torch.zeros_like(snn_wrong) if ann is None else ann != labels
        kinds = snn_wrong & ~ann_wrong, ann_wrong & ~snn_wrong, snn_wrong & ann_wrong
        for number, wrong in enumerate(kinds):
            self.counts[number] += int(wrong.sum())
            found = self.kinds[number]
            for at in wrong.nonzero().flatten().tolist()[: SHOWN - len(found)]:
                theirs = None if ann is None else int(ann[at])
                where, label = self.seen + at, int(labels[at])
                found.append(Mistake(index=where, label=label, snn=int(snn[at]), ann=theirs))
        self.seen += len(labels)

    @property
    def ann_right(self) -> int:
        """The number of samples that the ANN answers correctly."""
        return self.seen - self.counts[1] - self.counts[2]

    def mistakes(self) -> Mistakes:
        """Return what was found so far."""
        snn_only, ann_only, both = self.counts
        return Mistakes(
            snn_only=snn_only,
            ann_only=ann_only if self.has_ann else None,
            both=both if self.has_ann else None,
            first=tuple(mistake for kind in self.kinds for mistake in kind),
        )


def picture_of(pixels: Tensor) -> Picture:
    """Return a small picture of an image, uint8 ``[C, H, W]``, or of frames ``[T, C, H, W]``.

    >>> small = picture_of(torch.full((3, 96, 192), 7, dtype=torch.uint8))
    >>> small.height, small.width, small.channels, base64.b64decode(small.pixels)[:3]
    (24, 48, 3, b'\\x07\\x07\\x07')
    """
    image = portrait(pixels) if pixels.dim() == 4 else pixels
    if image.shape[0] != 3:
        image = image.float().mean(0, keepdim=True)
    height, width = image.shape[1:]
    shrink = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    small = adaptive_avg_pool2d(image.float(), size).round().to(torch.uint8).permute(1, 2, 0)
    data = base64.b64encode(small.contiguous().cpu().numpy().tobytes()).decode()
    return Picture(height=size[0], width=size[1], channels=small.shape[2], pixels=data)


def portrait(frames: Tensor) -> Tensor:
    """Return a sequence ``[T, C, H, W]`` as one picture ``[C, H, W]``, uint8.

    Where each frame is a row, the rows stand one under another. Other frames become all their
    events, dark on white.

    >>> portrait(torch.tensor([[[[0, 1]]], [[[0, 0]]]], dtype=torch.uint8).expand(2, 2, 1, 2))
    tensor([[[255,   0]]], dtype=torch.uint8)
    """
    if frames.shape[2] == 1 and frames.shape[1] == 1:
        pixels = frames.flatten()
        side = math.isqrt(len(pixels))
        return pixels.view(1, -1, side if side**2 == len(pixels) else frames.shape[3])
    counts = frames.sum((0, 1), dtype=torch.int64).unsqueeze(0)
    return 255 - (255 * counts / counts.max().clamp(min=1)).round().to(torch.uint8)
