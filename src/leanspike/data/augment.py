"""Random crop, flip and cutout of whole batches, on the pixels' bytes.

Shapes: B images of a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from leanspike.data.alternate import Flip, check_flip, mirrored_in
from leanspike.data.device import send
from leanspike.distributed import drawn
from leanspike.errors import LeanspikeError

Border = Literal["black", "reflect"]
"""What a crop meets beside the image."""
Augmentation = Callable[[Tensor, Generator], Tensor]
"""From a batch and the generator of its random numbers to a batch of the same shape."""


@runtime_checkable
class ByNumber(Protocol):
    """An augmentation that may depend on the images' numbers and the epoch.

    The loader asks it for the augmentation of each batch. It calls others directly.
    """

    def for_images(self, numbers: Tensor, epoch: int, seed: int) -> Augmentation:
        """Return the augmentation of a batch.

        ``numbers`` are the images' places in the split, int64 [B], on the CPU.
        """


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images, drawn anew for each image of a batch.

    The three parts come in this order:

    - ``crop``: pad every side by this number of pixels, then cut a random window of the old size
      (0: off). The pixels are black, or with ``border="reflect"`` the image's own, mirrored at its
      outermost row or column, which is there once.
    - ``flip``: mirror left to right with probability 1/2. With "alternate" an image is mirrored or
      not by a draw of its own in the first epoch, and is the other way round in each next one.
    - ``cutout``: blacken a random square of this number of pixels a side (0: off).

    ``augment(images, generator)`` takes and returns uint8 [B, C, H, W] and does not change the
    images given. The result is a function of the images and the state of the (CPU) generator alone.
    It is the same on every device. An alternating flip depends on the images' numbers and the
    epoch, too: :meth:`for_images` gives the augmentation of a batch, which the loader calls.

    The centre of the square may lie anywhere in the image, so parts of the square may stick out
    (DeVries & Taylor 2017, arXiv 1708.04552, section 3.2). There the square is filled with the data
    set's mean, after normalisation; here it is black, as the padding.

    Raises:
        LeanspikeError: for a negative ``crop`` or ``cutout``, another ``flip`` or ``border``, or a
            call of a flip that alternates without :meth:`for_images`. Also for images too small to
            be reflected.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> Augment(flip=True)(images, Generator().manual_seed(1)).flatten().tolist()[:4]
    [3, 2, 1, 0]
    >>> torch.equal(Augment()(images, Generator()), images)
    True
    >>> first, second = (
    ...     Augment(flip="alternate").for_images(torch.tensor([7]), epoch, seed=0)
    ...     for epoch in (0, 1)
    ... )
    >>> torch.equal(first(images, Generator()), second(images, Generator()).flip(3))
    True
    """

    crop: int = 0
    flip: Flip = False
    cutout: int = 0
    border: Border = "black"

    def __post_init__(self) -> None:
        check_flip(self.flip)
        if self.border not in ("black", "reflect"):
            raise LeanspikeError(f"border is {self.border!r}; give 'black' or 'reflect'")
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if value < 0:
                raise LeanspikeError(f"{name} is {value}; give a number of pixels, or 0 for none")

    def check_fits(self, height: int, width: int) -> None:
        """Raise LeanspikeError for images of a size that this cannot augment."""
        if self.border == "reflect" and self.crop:
            _check_reflects(self.crop, height, width)

    @property
    def by_sample(self) -> bool:
        """Whether what is drawn for an image depends on no other image of the batch."""
        return True

    def for_images(self, numbers: Tensor, epoch: int, seed: int) -> Augmentation:
        """Return the augmentation of a batch of these images, int64 [B], in an epoch."""
        if self.flip != "alternate":
            return self
        return partial(self._applied, mirrored=mirrored_in(numbers, epoch, seed))

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return self._applied(images, generator)

    def _applied(
        self, images: Tensor, generator: Generator, mirrored: Tensor | None = None
    ) -> Tensor:
        if self.crop:
            images = random_crop(images, self.crop, generator, self.border)
        images = flipped(images, self.flip, generator, mirrored)
        if self.cutout:
            images = random_cutout(images, self.cutout, generator)
        return images


def random_crop(
    images: Tensor, padding: int, generator: Generator, border: Border = "black"
) -> Tensor:
    """Cut windows of the images' own size at random places of the padded images.

    >>> random_crop(torch.ones(2, 1, 4, 4, dtype=torch.uint8), 4, Generator()).shape
    torch.Size([2, 1, 4, 4])
    """
    count, _, height, width = images.shape
    corners = drawn(
        (2, count), lambda shape: torch.randint(2 * padding + 1, shape, generator=generator), axis=1
    )
    top, left = send(corners, images.device)
    padded = F.pad(images, (padding,) * 4) if border == "black" else _reflected(images, padding)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [B, C, top, left, H, W]
    return windows[torch.arange(count, device=images.device), :, top, left]


def _reflected(images: Tensor, padding: int) -> Tensor:
    """Pad each side with the image, mirrored at its outermost row or column.

    >>> _reflected(torch.tensor([[[[1, 2, 3]] * 3]]), 2)[0, 0, 0].tolist()
    [3, 2, 1, 2, 3, 2, 1]
    """
    height, width = images.shape[2:]
    _check_reflects(padding, height, width)
    rows, columns = (
        send(_mirrored_positions(size, padding), images.device) for size in (height, width)
    )
    return images[:, :, rows][:, :, :, columns]  # F.pad reflects no bytes


def _mirrored_positions(size: int, padding: int) -> Tensor:
    last = size - 1
    return last - (last - torch.arange(-padding, size + padding).abs()).abs()


def _check_reflects(padding: int, height: int, width: int) -> None:
    if padding >= min(height, width):
        raise LeanspikeError(
            f"crop is {padding}, and an image of {height}x{width} reflects fewer pixels than its "
            f"sides; give a crop below {min(height, width)}, or border='black'"
        )


def flipped(
    images: Tensor, flip: Flip, generator: Generator, mirrored: Tensor | None = None
) -> Tensor:
    """Mirror images as ``flip`` says: where ``mirrored`` (bool [B]) is given, those.

    >>> flipped(torch.tensor([[[[1, 2]]]]), "alternate", Generator(), torch.tensor([True]))
    tensor([[[[2, 1]]]])
    """
    if mirrored is not None:
        return _mirror(images, mirrored.view(-1, 1, 1, 1))
    if flip == "alternate":
        raise LeanspikeError(
            "flip is 'alternate', which goes by the images' numbers; call what "
            "for_images(numbers, epoch, seed) returns, or give flip=True"
        )
    return random_flip(images, generator) if flip else images


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    >>> random_flip(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Generator()).shape
    torch.Size([2, 1, 4, 4])
    """
    mirrored = drawn(
        (len(images), 1, 1, 1),
        lambda shape: torch.randint(2, shape, generator=generator, dtype=torch.bool),
    )
    return _mirror(images, mirrored)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
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
