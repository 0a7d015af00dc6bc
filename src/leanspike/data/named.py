"""Data sets by name: how each is read, what is known of it, and the options that it owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from leanspike.data.cifar import CIFAR10, CIFAR100, read_cifar
from leanspike.data.event_sets import (
    read_cifar10_dvs,
    read_dvs128_gesture,
    read_nmnist,
    read_sequential_mnist,
)
from leanspike.data.folder import read_image_folder
from leanspike.data.frames import FrameOptions, FramesSection
from leanspike.data.mnist import FASHION_MNIST, MNIST, read_mnist
from leanspike.data.shards import read_shards
from leanspike.data.small import read_digits, synthetic
from leanspike.data.split import Parts
from leanspike.data.tensors import read_tensors
from leanspike.registry import Registry
from leanspike.section import Count, section_of


@dataclass(frozen=True)
class Source:
    """How to read a data set, and what is known of it.

    ``read(root)`` gives all its images. ``validation`` is how many training images are held out
    unless the caller says otherwise (None: a tenth, at most 10,000). ``mean`` and ``std`` of the
    training images are computed from them where None. ``has_files`` is False where no folder is
    read.

    >>> stripes = Source(lambda root: synthetic((1, 8, 8), classes=2), validation=64)
    >>> len(stripes.read(Path("data")).train)
    640
    """

    read: Callable[[Path], Parts]
    validation: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    has_files: bool = True


DATASETS: dict[str, Callable[..., Source]] = {}
"""The data sets that come with leanspike: functions as in :data:`datasets`."""

datasets: Registry[Source] = Registry("data set", "leanspike.datasets", section_of, table=DATASETS)
"""Functions that give a :class:`Source`; their typed keyword arguments are its ``options``."""

ImageSize = Annotated[Count | None, Field(description="Pixels per side; null: their own.")]
Channels = Annotated[
    Literal[1, 3] | None,
    Field(description="Read as grey (1) or colour (3); null: grey if all of them are."),
]
SkipBad = Annotated[
    bool,
    Field(description="Leave out images that cannot be decoded, by name; else they are refused."),
]
Frames = Annotated[
    FramesSection | None,
    Field(description="How recordings become frames; null: the section's defaults."),
]


@datasets.register("digits")
def _digits() -> Source:
    return Source(lambda _: read_digits(), has_files=False)


@datasets.register("mnist")
def _mnist() -> Source:
    return Source(lambda root: read_mnist(root, MNIST), 5000, (0.1307,), (0.3081,))


@datasets.register("fashion_mnist")
def _fashion_mnist() -> Source:
    return Source(lambda root: read_mnist(root, FASHION_MNIST), 5000, (0.2860,), (0.3530,))


@datasets.register("cifar10")
def _cifar10() -> Source:
    return Source(
        lambda root: read_cifar(root, CIFAR10),
        validation=5000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


@datasets.register("cifar100")
def _cifar100() -> Source:
    return Source(
        lambda root: read_cifar(root, CIFAR100),
        validation=5000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    )


@datasets.register("image_folder")
def _image_folder(
    image_size: ImageSize = None, channels: Channels = None, skip_bad: SkipBad = False
) -> Source:
    return Source(lambda root: read_image_folder(root, image_size, channels, skip_bad))


@datasets.register("tensors")
def _tensors() -> Source:
    return Source(read_tensors)


@datasets.register("webdataset")
def _webdataset(
    image_size: ImageSize = None, channels: Channels = None, skip_bad: SkipBad = False
) -> Source:
    return Source(lambda root: read_shards(root, image_size, channels, skip_bad))


def _events(
    read: Callable[[Path, int | None, FrameOptions], Parts],
    image_size: int | None,
    frames: FramesSection | None,
) -> Source:
    options = FrameOptions() if frames is None else frames.create()
    return Source(
        lambda root: read(root, image_size, options),
        mean=(0.0, 0.0),
        std=(1 / 255, 1 / 255),  # the network sees the counts themselves
    )


@datasets.register("nmnist")
def _nmnist(image_size: ImageSize = None, frames: Frames = None) -> Source:
    return _events(read_nmnist, image_size, frames)


@datasets.register("cifar10_dvs")
def _cifar10_dvs(image_size: ImageSize = None, frames: Frames = None) -> Source:
    return _events(read_cifar10_dvs, image_size, frames)


@datasets.register("dvs128_gesture")
def _dvs128_gesture(image_size: ImageSize = None, frames: Frames = None) -> Source:
    return _events(read_dvs128_gesture, image_size, frames)


@datasets.register("sequential_mnist")
def _sequential_mnist() -> Source:
    return _parts_of_mnist(steps=28)


@datasets.register("sequential_mnist_pixels")
def _sequential_mnist_pixels() -> Source:
    return _parts_of_mnist(steps=784)


def _parts_of_mnist(steps: int) -> Source:
    return Source(lambda root: read_sequential_mnist(root, steps), 5000, (0.1307,), (0.3081,))


def _synthetic_images(channels: int, size: int, classes: int) -> Source:
    return Source(lambda _: synthetic((channels, size, size), classes), has_files=False)


@datasets.register("synthetic")
def _synthetic(image_size: ImageSize = None) -> Source:
    return _synthetic_images(3, image_size or 32, classes=10)


@datasets.register("synthetic_100")
def _synthetic_100(image_size: ImageSize = None) -> Source:
    return _synthetic_images(3, image_size or 32, classes=100)


@datasets.register("synthetic_grey")
def _synthetic_grey(image_size: ImageSize = None) -> Source:
    return _synthetic_images(1, image_size or 28, classes=10)
