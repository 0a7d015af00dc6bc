"""A folder of images per class: decoded when asked for, kept if they fit.

Layouts: ``ROOT/train/CLASS/**/IMAGE`` with ``ROOT/test``, ``ROOT/val`` or both of the same form
(ImageNet's), or without them; or ``ROOT/CLASS/**/IMAGE``.

What does not fit in memory is decoded anew in each epoch, unless the environment variable
LEANSPIKE_CACHE names a folder: decoded images are then kept there, over all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanspike.data.decoded import DecodedCache, open_cache
from leanspike.data.layout import list_parts
from leanspike.data.split import Parts, Split
from leanspike.data.survey import FORMATS, as_bytes, check_claim, no_image, survey
from leanspike.errors import DataError
from leanspike.optional import import_optional

KEEP_BYTES = 4 * 2**30  # a data set whose decoded images need no more stays in memory


@final
class FolderSplit(Split):
    """Images in files, decoded by a pool of threads when a batch asks for them.

    ``paths`` and ``labels`` (int64 [N]) go together; every image becomes grey (``channels`` 1) or
    RGB (3), ``image_size`` squared (see ``decode``). With ``keep`` a decoded image stays in memory;
    with ``cache`` on disk too, at its place in ``places`` (default: its index).
    """

    lazy = True

    def __init__(
        self,
        paths: Sequence[str],
        labels: Tensor,
        *,
        image_size: int,
        keep: bool,
        cache: DecodedCache | None = None,
        places: Sequence[int] | None = None,
        channels: int = 3,
        kept: dict[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        if len(paths) != len(labels):
            raise DataError(
                f"{len(paths)} paths, but {len(labels)} labels; give one label per path"
            )
        self.paths = paths
        self.labels = labels
        self.image_size = image_size
        self.keep = keep
        self.cache = cache
        self.places = range(len(paths)) if places is None else places
        self.channels = channels
        self._kept = {} if kept is None else kept  # by path; a part of this split shares it

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.image_size, self.image_size

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        wanted = indices.tolist()
        fresh = self._decode([index for index in wanted if self.paths[index] not in self._kept])
        # Filled by NumPy: this runs beside the training, whose cores torch's threads would take.
        pixels = np.empty((len(wanted), *self.shape), dtype=np.uint8)
        for row, index in enumerate(wanted):
            pixels[row] = fresh[index] if index in fresh else self._kept[self.paths[index]]
        return torch.from_numpy(pixels), self.labels[indices]

    def prepare(self) -> None:
        if self.keep:
            self._decode([n for n, path in enumerate(self.paths) if path not in self._kept])

    def _decode(self, indices: list[int]) -> dict[int, NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:
            images = dict(zip(indices, pool.map(self._image, indices), strict=True))
        if self.keep:
            self._kept.update((self.paths[index], image) for index, image in images.items())
        return images

    def select(self, indices: Tensor) -> FolderSplit:
        wanted = indices.tolist()
        return FolderSplit(
            [self.paths[index] for index in wanted],
            self.labels[indices],
            image_size=self.image_size,
            keep=self.keep,
            cache=self.cache,
            places=[self.places[index] for index in wanted],
            channels=self.channels,
            kept=self._kept,
        )

    def _image(self, index: int) -> NDArray[np.uint8]:
        """From the cache, or decoded and put there."""
        if self.cache is None:
            return decode(self.paths[index], self.image_size, self.channels)
        image = self.cache.read(self.places[index])
        if image is None:
            image = decode(self.paths[index], self.image_size, self.channels)
            self.cache.write(self.places[index], image)
        return image


def decode(path: str, size: int, channels: int = 3) -> NDArray[np.uint8]:
    """The image in ``path``, uint8 [channels, size, size]: its central square, resized.

    That is the resizing of the shorter side to ``size`` and a centre crop in one step, bilinear
    with antialiasing. (ImageNet's customary test crop is tighter: 7/8 of that side.) ``channels``
    is 1, grey, or 3, RGB; see ``leanspike.data.survey.as_bytes``.

    Raises DataError naming the file if it is no image, damaged, of 32 bits a channel, or has more
    pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` or than a file of its size can hold.

    >>> decode("nowhere.png", 8)
    Traceback (most recent call last):
    leanspike.errors.DataError: no image in nowhere.png (FileNotFoundError: ...); replace ...
    """
    pil = import_optional("PIL.Image", "vision")
    try:
        with pil.open(path, formats=FORMATS) as image:
            width, height = image.size
            limit = pil.MAX_IMAGE_PIXELS
            if limit and width * height > limit:  # PIL itself only warns below twice the limit
                raise ValueError(f"{width}x{height} pixels, the limit is {limit}")
            check_claim(path, image)
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            square = as_bytes(image, channels).resize(
                (size, size),
                pil.Resampling.BILINEAR,
                box=(left, top, left + side, top + side),
            )
            pixels = np.asarray(square, dtype=np.uint8).reshape(size, size, channels)
            return pixels.transpose(2, 0, 1)
    except Exception as error:  # what PIL raises on damaged files is an open-ended list
        raise no_image(path, error) from error


def read_image_folder(root: Path, image_size: int | None, channels: int | None = None) -> Parts:
    """List the images under ``root`` and look at their headers; nothing is decoded yet.

    Size and channels are the images' own unless given (see ``leanspike.data.survey``). The classes
    are the folders of ``ROOT/train``, else of ``ROOT``, in alphabetical order. The test images are
    those of ``ROOT/test`` if it has such folders, else of ``ROOT/val`` (ImageNet's test images have
    no labels), else a stratified fifth of all, always the same. Where ``ROOT/test`` and
    ``ROOT/val`` both have them, those of ``val`` validate.

    Raises DataError for a missing folder, one class only, a class without images, an unknown class,
    or a file that is no image.

    >>> read_image_folder(Path("nowhere"), None)
    Traceback (most recent call last):
    leanspike.errors.DataError: no folder nowhere; ...
    """
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size is {image_size}; give 1 or more")
    classes, listed, notes = list_parts(root)
    paths = [path for found, _ in listed for path in found]
    if image_size is None or channels is None:
        size, depth, more = survey(paths, image_size, channels)
    else:
        size, depth, more = image_size, channels, ()
    keep = len(paths) * depth * size**2 <= KEEP_BYTES
    train, test, *val = (
        FolderSplit(
            *part,
            image_size=size,
            keep=keep,
            cache=open_cache(part[0], size, depth),
            channels=depth,
        )
        for part in listed
    )
    return Parts(classes, train, test, val[0] if val else None, (*notes, *more))
