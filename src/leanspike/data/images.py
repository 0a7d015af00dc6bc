"""Data sets by name, each with its fixed split and its normalisation constants."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanspike.data.cifar import CIFAR10, CIFAR100, read_cifar
from leanspike.data.dataset import Dataset as Dataset
from leanspike.data.dataset import describe as describe
from leanspike.data.event_sets import (
    read_cifar10_dvs,
    read_dvs128_gesture,
    read_nmnist,
    read_sequential_mnist,
)
from leanspike.data.folder import read_image_folder
from leanspike.data.frames import FrameOptions
from leanspike.data.mnist import FASHION_MNIST, MNIST, read_mnist
from leanspike.data.shards import read_shards
from leanspike.data.small import read_digits, synthetic
from leanspike.data.split import SPLIT_SEED, Parts, Split, held_out
from leanspike.data.statistics import channel_statistics
from leanspike.data.tensors import read_tensors
from leanspike.errors import DataError, LeanspikeError
from leanspike.registry import Registry
from leanspike.section import section_of


@dataclass(frozen=True)
class Source:
    """One row of ``DATASETS``: how to read a data set, and what is known of it.

    ``read(root, image_size)`` gives all its images. ``validation`` is how many training images
    are held out unless the caller says otherwise (None: a tenth, at most 10,000).
    ``mean`` and ``std`` of the training images are computed from them where None.
    ``read_frames(root, image_size, options)`` is there for recordings of events only,
    ``read_channels(root, image_size, channels, skip_bad)`` for images in files, which may be read
    as grey or colour, and of which bad ones may be left out.
    ``has_files`` is False where no folder is read.

    >>> stripes = Source(lambda root, image_size: synthetic((1, 8, 8), classes=2), validation=64)
    >>> len(stripes.read(Path("data"), None).train)
    640
    """

    read: Callable[[Path, int | None], Parts]
    validation: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    read_frames: Callable[[Path, int | None, FrameOptions], Parts] | None = None
    read_channels: Callable[[Path, int | None, int | None, bool], Parts] | None = None
    has_files: bool = True


def _synthetic(channels: int, size: int, classes: int) -> Source:
    def read(_: Path, image_size: int | None) -> Parts:
        side = size if image_size is None else image_size
        return synthetic((channels, side, side), classes)

    return Source(read, has_files=False)


def _events(read: Callable[[Path, int | None, FrameOptions], Parts]) -> Source:
    return Source(
        lambda root, image_size: read(root, image_size, FrameOptions()),
        mean=(0.0, 0.0),
        std=(1 / 255, 1 / 255),  # the network sees the counts themselves
        read_frames=read,
    )


def _sequential_mnist(steps: int) -> Source:
    return Source(lambda root, _: read_sequential_mnist(root, steps), 5000, (0.1307,), (0.3081,))


MEASURED = 1000
"""Training images in files, of which mean and std are measured."""

DATASETS: dict[str, Source] = {
    "digits": Source(lambda *_: read_digits(), has_files=False),
    "mnist": Source(lambda root, _: read_mnist(root, MNIST), 5000, (0.1307,), (0.3081,)),
    "fashion_mnist": Source(
        lambda root, _: read_mnist(root, FASHION_MNIST), 5000, (0.2860,), (0.3530,)
    ),
    "cifar10": Source(
        lambda root, _: read_cifar(root, CIFAR10),
        validation=5000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Source(
        lambda root, _: read_cifar(root, CIFAR100),
        validation=5000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    "image_folder": Source(read_image_folder, read_channels=read_image_folder),
    "tensors": Source(lambda root, _: read_tensors(root)),
    "webdataset": Source(read_shards, read_channels=read_shards),
    "nmnist": _events(read_nmnist),
    "cifar10_dvs": _events(read_cifar10_dvs),
    "dvs128_gesture": _events(read_dvs128_gesture),
    "sequential_mnist": _sequential_mnist(steps=28),
    "sequential_mnist_pixels": _sequential_mnist(steps=784),
    "synthetic": _synthetic(channels=3, size=32, classes=10),
    "synthetic_100": _synthetic(channels=3, size=32, classes=100),
    "synthetic_grey": _synthetic(channels=1, size=28, classes=10),
}

datasets: Registry[Source] = Registry("data set", "leanspike.datasets", section_of)
"""Functions that give a :class:`Source`; their typed keyword arguments are its ``options``."""
datasets.register_rows(DATASETS)


def load_dataset(
    name: str,
    root: Path | None = None,
    *,
    validation: int | None = None,
    image_size: int | None = None,
    frames: FrameOptions | None = None,
    channels: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    skip_bad: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """The data set ``name``, a key of ``DATASETS``, with its fixed split.

    A package of your own may offer others, by entry points in the group ``leanspike.datasets``:
    functions that return a :class:`Source`. ``options`` are their keyword arguments.

    ``root`` is the folder that holds the data set's own folder (for ``image_folder`` and
    ``webdataset``: their ``train``, or what is in it; for ``tensors`` it may be a file); None means
    the environment variable LEANSPIKE_DATA, else ``data``.
    Nothing is downloaded. ``validation`` training images (None: the data set's default, or its own
    validation images) are held out, stratified by class, the same ones whatever the seed of a run.
    ``image_size`` (pixels) is for images in files, ``synthetic*`` and recordings of events; the
    others have their own.
    ``frames`` says how recordings become frames (None: 10 of equal time). ``channels``, 1 or 3, is
    for images in files (None: 1 if all are grey). So is ``skip_bad``: those that cannot be decoded
    are left out, and ``notes`` name them. ``mean`` and ``std`` replace the data
    set's own; those that are not known are measured, on at most 1,000 training images in files.

    Raises DataError, in one line with the way out, for an unknown name, files that are missing
    or damaged, or a number that does not fit.

    >>> data = load_dataset("digits")
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 8, 8), 1294, 144, 359)
    >>> load_dataset("cifar")
    Traceback (most recent call last):
    leanspike.errors.DataError: unknown data set 'cifar'; did you mean 'cifar10'? known: digits, ...
    """
    source = _source(name, options or {})
    if root is not None and not source.has_files:
        raise DataError(
            f"root is {root}, and {name} reads no files; leave data.root out, or name a data set "
            "that does (data.name=image_folder for images of your own)"
        )
    parts = _read(source, name, root or data_root(), image_size, frames, channels, skip_bad)
    shape = parts.train.shape
    if image_size not in (None, shape[-1]):
        own = "x".join(map(str, shape[1:])) or str(shape[0])
        raise DataError(
            f"image_size is {image_size}, but {name} has images of {own} pixels; leave it out"
        )
    mean, std = _constants(parts.train, mean or source.mean, std or source.std)
    train, val, notes = parts.train, parts.val, parts.notes
    if val is None or validation is not None:
        if val is not None:
            notes = (*notes, f"validation is {validation} training images; val is left out")
        kept, held = held_out(train.labels, _held_out(source, len(train), validation))
        train, val = train.select(kept), train.select(held)
    return Dataset(
        name,
        parts.classes,
        shape,
        mean,
        std,
        train,
        val,
        parts.test,
        parts.train.frames,
        notes,
        parts.task,
    )


def _constants(
    train: Split, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Those that are known, and those of the training images (of files a fixed sample)."""
    if mean is not None and std is not None:
        return mean, std
    if train.lazy and len(train) > MEASURED:
        drawn = np.random.RandomState(SPLIT_SEED).permutation(len(train))[:MEASURED]
        train = train.select(torch.from_numpy(np.sort(drawn)))
    measured = channel_statistics(train)
    if std is None and max(measured[1]) == 0:
        raise DataError(
            f"all {len(train)} training images that were measured are of one colour, without a "
            "difference; give other images, or data.mean and data.std"
        )
    return mean or measured[0], std or tuple(value or 1.0 for value in measured[1])


def _source(name: str, options: Mapping[str, Any]) -> Source:
    if name in DATASETS and not options:
        return DATASETS[name]
    if name not in datasets:
        known = datasets.names()
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DataError(f"unknown data set '{name}'; {hint}known: {', '.join(known)}")
    try:
        source = datasets.create(name, options)
    except LeanspikeError as error:
        raise DataError(str(error)) from None
    if not isinstance(source, Source):
        raise DataError(
            f"data set {name} gave a {type(source).__name__}; its function must return a Source"
        )
    return source


def _read(
    source: Source,
    name: str,
    root: Path,
    image_size: int | None,
    frames: FrameOptions | None,
    channels: int | None,
    skip_bad: bool,
) -> Parts:
    if channels is not None and (source.read_channels is None or channels not in (1, 3)):
        raise DataError(
            f"channels is {channels}, for {name}; give 1 or 3 for image_folder, and for other data "
            "sets none"
        )
    if skip_bad and source.read_channels is None:
        raise DataError(
            f"skip_bad is for images in files (image_folder, webdataset), not {name}; leave it out"
        )
    if source.read_channels is not None and frames is None:
        return source.read_channels(root, image_size, channels, skip_bad)
    if frames is None:
        return source.read(root, image_size)
    if source.read_frames is None:
        raise DataError(f"frames are made of recordings of events, {name} has none; leave them out")
    return source.read_frames(root, image_size, frames)


def data_root() -> Path:
    """Where data sets lie unless the caller says otherwise: LEANSPIKE_DATA, else ``data``."""
    return Path(os.environ.get("LEANSPIKE_DATA") or "data")


def _held_out(source: Source, images: int, validation: int | None) -> int:
    if validation is None:
        validation = source.validation
    if validation is None:
        validation = min(round(images / 10), 10_000)
    if not 0 <= validation < images:
        raise DataError(
            f"validation is {validation}; give 0..{images - 1} of the {images} training images"
        )
    return validation
