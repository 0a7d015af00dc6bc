"""A folder of images per class, ImageNet's layout: decoded when asked for, kept if they fit.

Layout: ``ROOT/train/CLASS/**/IMAGE`` and ``ROOT/test`` or ``ROOT/val`` of the same form.

What does not fit in memory is decoded anew in each epoch, unless the environment variable
LEANSPIKE_CACHE names a folder: decoded images are then kept there, over all runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanspike.data.decoded import DecodedCache, open_cache
from leanspike.data.split import Parts, Split
from leanspike.errors import DataError
from leanspike.optional import import_optional

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content; others start programs
KEEP_BYTES = 4 * 2**30  # a data set whose decoded images need no more stays in memory


@final
class FolderSplit(Split):
    """Images in files, decoded by a pool of threads when a batch asks for them.

    ``paths`` and ``labels`` (int64 [N]) go together; every image becomes RGB, ``image_size``
    squared (see ``decode``). With ``keep`` a decoded image stays in memory; with ``cache`` on disk
    too, at its place in ``places`` (default: its index).
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
        self._kept: dict[int, NDArray[np.uint8]] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.image_size, self.image_size

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        wanted = indices.tolist()
        missing = [index for index in wanted if index not in self._kept]
        with ThreadPoolExecutor() as pool:
            fresh = dict(zip(missing, pool.map(self._image, missing), strict=True))
        if self.keep:
            self._kept.update(fresh)
        # Filled by NumPy: this runs beside the training, whose cores torch's threads would take.
        pixels = np.empty((len(wanted), *self.shape), dtype=np.uint8)
        for row, index in enumerate(wanted):
            pixels[row] = fresh[index] if index in fresh else self._kept[index]
        return torch.from_numpy(pixels), self.labels[indices]

    def select(self, indices: Tensor) -> FolderSplit:
        wanted = indices.tolist()
        return FolderSplit(
            [self.paths[index] for index in wanted],
            self.labels[indices],
            image_size=self.image_size,
            keep=self.keep,
            cache=self.cache,
            places=[self.places[index] for index in wanted],
        )

    def _image(self, index: int) -> NDArray[np.uint8]:
        """From the cache, or decoded and put there."""
        if self.cache is None:
            return decode(self.paths[index], self.image_size)
        image = self.cache.read(self.places[index])
        if image is None:
            image = decode(self.paths[index], self.image_size)
            self.cache.write(self.places[index], image)
        return image


def decode(path: str, size: int) -> NDArray[np.uint8]:
    """The image in ``path`` as RGB, uint8 [3, size, size]: its central square, resized.

    That is the resizing of the shorter side to ``size`` and a centre crop in one step, bilinear
    with antialiasing. (ImageNet's customary test crop is tighter: 7/8 of that side.)

    Raises DataError naming the file if it is no image, damaged, or has more pixels than
    ``PIL.Image.MAX_IMAGE_PIXELS`` (a small file can unpack to gigabytes).

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
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            square = image.convert("RGB").resize(
                (size, size),
                pil.Resampling.BILINEAR,
                box=(left, top, left + side, top + side),
            )
            return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)
    except Exception as error:  # what PIL raises on damaged files is an open-ended list
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"no image in {path} ({why}); replace or remove it") from error


def read_image_folder(root: Path, image_size: int | None) -> Parts:
    """List the images under ``root``; nothing is decoded yet. ``image_size`` is 224 if None.

    The classes are the folders of ``ROOT/train`` in alphabetical order. The test images are those
    of ``ROOT/test`` if it has such folders, else of ``ROOT/val`` (ImageNet's test images have no
    labels); validation images are always held out from the training ones.

    Raises DataError for a missing folder, a class without images or an unknown class.

    >>> read_image_folder(Path("nowhere"), None)
    Traceback (most recent call last):
    leanspike.errors.DataError: no class folders in nowhere/train; expected nowhere/train/CLASS/...
    """
    size = 224 if image_size is None else image_size
    if size < 1:
        raise DataError(f"image_size is {size}; give 1 or more")
    classes = _folders(root / "train")
    if not classes:
        raise DataError(
            f"no class folders in {root / 'train'}; expected {root}/train/CLASS/IMAGE and "
            f"{root}/val/CLASS/IMAGE: give that root, or set LEANSPIKE_DATA to it"
        )
    test_folder = _test_folder(root, classes)
    train, test = _list(root / "train", classes), _list(test_folder, classes)
    keep = (len(train[0]) + len(test[0])) * 3 * size**2 <= KEEP_BYTES
    train_split, test_split = (
        FolderSplit(*part, image_size=size, keep=keep, cache=open_cache(part[0], size))
        for part in (train, test)
    )
    return Parts(classes, train_split, test_split)


def _test_folder(root: Path, classes: tuple[str, ...]) -> Path:
    for folder in (root / "test", root / "val"):
        found = set(_folders(folder))
        if found & set(classes):
            unknown = sorted(found - set(classes))
            if unknown:
                raise DataError(
                    f"{folder / unknown[0]} is not a class of {root / 'train'}; remove it or add "
                    "training images of it"
                )
            return folder
    raise DataError(
        f"no test images: neither {root / 'test'} nor {root / 'val'} has a folder named after a "
        f"class of {root / 'train'}, such as {classes[0]}; add one"
    )


def _folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))


def _list(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], Tensor]:
    paths: list[str] = []
    labels: list[int] = []
    for name in _folders(folder):
        found = sorted(
            os.path.join(where, file)
            for where, _, files in os.walk(folder / name)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        if not found:
            raise DataError(
                f"no images in {folder / name}; put some there ({', '.join(SUFFIXES)}) "
                "or remove the folder"
            )
        paths += found
        labels += [classes.index(name)] * len(found)
    return paths, torch.tensor(labels)
