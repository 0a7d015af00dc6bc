"""A folder of images per class: decoded when asked for, kept if they fit.

The layout is ``ROOT/train/CLASS/**/IMAGE``, with or without ``ROOT/test`` and ``ROOT/val`` of the
same form (ImageNet's); or ``ROOT/CLASS/**/IMAGE``.

Images that do not fit in memory are decoded anew in each epoch. If the environment variable
LEANSPIKE_CACHE names a folder, decoded images are kept there, over all runs.
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
from torch.utils.data import get_worker_info

from leanspike.data.decoded import DecodedCache, open_cache
from leanspike.data.layout import Listed, list_parts
from leanspike.data.members import Members, Place, Places, chosen, opened
from leanspike.data.sound import without_bad
from leanspike.data.split import Parts, Split
from leanspike.data.survey import as_bytes, check_claim, check_pixels, no_image, survey
from leanspike.errors import DataError
from leanspike.optional import import_optional

KEEP_BYTES = 4 * 2**30  # the largest data set whose decoded images stay in memory


@final
class FolderSplit(Split):
    """Images in files, or parts of tar files, decoded by threads when a batch asks for them.

    ``paths`` and ``labels`` (int64 [N]) go together. Every image becomes grey (``channels`` 1) or
    RGB (3), and a square of ``image_size`` pixels a side (see ``decode``). With ``keep`` a decoded
    image stays in memory. With ``cache`` it also stays on disk, at its place in ``places``
    (default: its index). In a worker process of PyTorch's DataLoader one thread decodes.
    """

    lazy = True

    def __init__(
        self,
        paths: Places,
        labels: Tensor,
        *,
        image_size: int,
        keep: bool,
        cache: DecodedCache | None = None,
        places: Sequence[int] | NDArray[np.int64] | None = None,
        channels: int = 3,
        kept: dict[Place, NDArray[np.uint8]] | None = None,
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
        self.places = np.arange(len(paths)) if places is None else np.asarray(places)
        self.channels = channels
        self._kept = {} if kept is None else kept  # by path; a part of this split shares it

    @property
    def in_memory(self) -> bool:
        return self.keep

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.image_size, self.image_size

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        wanted = indices.tolist()
        fresh = self._decode([index for index in wanted if self.paths[index] not in self._kept])
        # NumPy fills the array, as torch's threads would take cores from the training.
        pixels = np.empty((len(wanted), *self.shape), dtype=np.uint8)
        for row, index in enumerate(wanted):
            pixels[row] = fresh[index] if index in fresh else self._kept[self.paths[index]]
        return torch.from_numpy(pixels), self.labels[indices]

    def prepare(self) -> None:
        if self.keep:
            self._decode([n for n, path in enumerate(self.paths) if path not in self._kept])

    def _decode(self, indices: list[int]) -> dict[int, NDArray[np.uint8]]:
        if get_worker_info() is not None:  # other workers keep the other cores busy
            images = {index: self._image(index) for index in indices}
        else:
            with ThreadPoolExecutor() as pool:
                images = dict(zip(indices, pool.map(self._image, indices), strict=True))
        if self.keep:
            self._kept.update((self.paths[index], image) for index, image in images.items())
        return images

    def select(self, indices: Tensor) -> FolderSplit:
        wanted = indices.numpy()
        return FolderSplit(
            chosen(self.paths, wanted),
            self.labels[indices],
            image_size=self.image_size,
            keep=self.keep,
            cache=self.cache,
            places=self.places[wanted],
            channels=self.channels,
            kept=self._kept,
        )

    def _image(self, index: int) -> NDArray[np.uint8]:
        """Return an image from the cache, or decode it and put it there."""
        if self.cache is None:
            return decode(self.paths[index], self.image_size, self.channels)
        place = int(self.places[index])
        image = self.cache.read(place)
        if image is None:
            image = decode(self.paths[index], self.image_size, self.channels)
            self.cache.write(place, image)
        return image


def decode(path: Place, size: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return the central square of an image, resized: uint8 [channels, size, size].

    ``path`` is that of a file, or a part of a tar file. The shorter side is resized to ``size`` and
    a centre crop is taken in one step, bilinear with antialiasing. (ImageNet's customary test crop
    is tighter: 7/8 of that side.) ``channels`` is 1, grey, or 3, RGB; see
    ``leanspike.data.survey.as_bytes``.

    Raises:
        DataError: with the file's name, if it is no image, damaged, or of 32 bits a channel. Also
            if it has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or than a file of its size
            can hold.

    >>> decode("nowhere.png", 8)
    Traceback (most recent call last):
    leanspike.errors.DataError: no image in nowhere.png (FileNotFoundError: ...); replace ...
    """
    pil = import_optional("PIL.Image", "vision")
    try:
        with opened(path) as image:
            check_pixels(image)
            width, height = image.size
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


def read_image_folder(
    root: Path, image_size: int | None, channels: int | None = None, skip_bad: bool = False
) -> Parts:
    """List the images under ``root`` and look at their headers; nothing is decoded yet.

    Size and channels are the images' own unless given (see ``leanspike.data.survey``). The classes
    are the folders of ``ROOT/train``, or else of ``ROOT``, in alphabetical order.

    The test images are those of ``ROOT/test`` if it has such folders. Without them they are those
    of ``ROOT/val``, as ImageNet's test images have no labels. Without both they are a stratified
    fifth of all, always the same. Where ``ROOT/test`` and ``ROOT/val`` both have such folders,
    those of ``val`` validate. With ``skip_bad`` all images are decoded once, and those that fail
    are left out (see ``leanspike.data.sound``).

    Raises:
        DataError: for a missing folder, one class only, a class without images, an unknown class,
            or a file that is no image.

    >>> read_image_folder(Path("nowhere"), None)
    Traceback (most recent call last):
    leanspike.errors.DataError: no folder nowhere; ...
    """
    check_size(image_size)
    return to_parts(root, *list_parts(root), image_size, channels, skip_bad)


def check_size(image_size: int | None) -> None:
    """Raise DataError for an image without a pixel."""
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size is {image_size}; give 1 or more")


def to_parts(
    root: Path,
    classes: tuple[str, ...],
    listed: Sequence[Listed],
    notes: tuple[str, ...],
    image_size: int | None,
    channels: int | None,
    skip_bad: bool,
) -> Parts:
    """Return splits of the training, test and perhaps validation images that were listed."""
    if skip_bad:
        listed, found = without_bad(listed, classes, root)
        notes = (*notes, *found)
    size, depth = image_size, channels
    if size is None or depth is None:
        size, depth, more = survey(_joined([places for places, _ in listed]), size, depth)
        notes = (*notes, *more)
    keep = sum(len(places) for places, _ in listed) * depth * size**2 <= KEEP_BYTES
    train, test, *val = (
        FolderSplit(
            places,
            labels,
            image_size=size,
            keep=keep,
            cache=open_cache(places, size, depth),
            channels=depth,
        )
        for places, labels in listed
    )
    return Parts(classes, train, test, val[0] if val else None, notes)


def _joined(parts: Sequence[Places]) -> Places:
    """Return all places as one list; those in tar files are all drawn from the same files."""
    members = [part for part in parts if isinstance(part, Members)]
    if members:
        columns = ([getattr(m, name) for m in members] for name in ("file", "offset", "size"))
        return Members(members[0].files, *(np.concatenate(column) for column in columns))
    return [path for part in parts for path in part if isinstance(path, str)]
