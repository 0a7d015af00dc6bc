"""Random crop, flip and cutout of whole batches, on the pixels' bytes.

Shapes: B images of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from leanspike.data.device import send
from leanspike.distributed import drawn
from leanspike.errors import LeanspikeError


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images, drawn anew for each image of a batch.

    The three parts come in this order:

    - ``crop``: pad every side by this number of black pixels, then cut a random window of the old
      size (0: off).
    - ``flip``: mirror left to right with probability 1/2.
    - ``cutout``: blacken a random square of this number of pixels a side (0: off).

    ``augment(images, generator)`` takes and returns uint8 [B, C, H, W] and does not change the
    images given. The result is a function of the images and the state of the (CPU) generator alone.
    It is the same on every device.

    The centre of the square may lie anywhere in the image, so parts of the square may stick out
    (DeVries & Taylor 2017, arXiv 1708.04552, section 3.2). There the square is filled with the data
    set's mean, after normalisation; here it is black, as the padding.

    Raises:
        LeanspikeError: for a negative ``crop`` or ``cutout``.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> Augment(flip=True)(images, Generator().manual_seed(1)).flatten().tolist()[:4]
    [3, 2, 1, 0]
    >>> torch.equal(Augment()(images, Generator()), images)
    True
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if value < 0:
                raise LeanspikeError(f"{name} is {value}; give a number of pixels, or 0 for none")

    @property
    def by_sample(self) -> bool:
        """Whether what is drawn for an image depends on no other image of the batch."""
        return True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        if self.crop:
            images = random_crop(images, self.crop, generator)
        if self.flip:
            images = random_flip(images, generator)
        if self.cutout:
            images = random_cutout(images, self.cutout, generator)
        return images


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Cut windows of the images' own size at random places of the images padded with black.

    >>> random_crop(torch.ones(2, 1, 4, 4, dtype=torch.uint8), 4, Generator()).shape
    torch.Size([2, 1, 4, 4])
    """
    count, _, height, width = images.shape
    corners = drawn(
        (2, count), lambda shape: torch.randint(2 * padding + 1, shape, generator=generator), axis=1
    )
    top, left = send(corners, images.device)
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [B, C, top, left, H, W]
    return windows[torch.arange(count, device=images.device), :, top, left]


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    >>> random_flip(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Generator()).shape
    torch.Size([2, 1, 4, 4])
    """
    mirrored = drawn(
        (len(images), 1, 1, 1),
        lambda shape: torch.randint(2, shape, generator=generator, dtype=torch.bool),
    )
    return torch.where(send(mirrored, images.device), images.flip(3), images)


def random_cutout(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Put a black square of ``side`` pixels around a random pixel of each image.

    >>> white = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
    >>> random_cutout(white, 1, Generator()).eq(0).sum()
    tensor(1)
    """
    count, _, height, width = images.shape
    rows = _near_random_pixel(count, height, side, generator)
    columns = _near_random_pixel(count, width, side, generator)
    return images * send(~(rows[:, None, :, None] & columns[:, None, None, :]), images.device)


def _near_random_pixel(count: int, length: int, side: int, generator: Generator) -> Tensor:
    """Tell per image which positions lie in an interval of ``side``: bool [B, length]."""
    centre = drawn((count, 1), lambda shape: torch.randint(length, shape, generator=generator))
    first = centre - side // 2
    positions = torch.arange(length)
    return (positions >= first) & (positions < first + side)
