"""N-MNIST, CIFAR10-DVS and DVS128 Gesture from the usual folders; MNIST's images part by part."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from leanspike.data.cifar import CIFAR10
from leanspike.data.event_split import EventSplit, RecordedFrames, Recording
from leanspike.data.folder import KEEP_BYTES
from leanspike.data.frames import FrameOptions
from leanspike.data.mnist import MNIST, read_mnist
from leanspike.data.split import Parts, TensorSplit
from leanspike.errors import DataError

GESTURES = (
    *("hand clapping", "right hand wave", "left hand wave"),
    *("right arm clockwise", "right arm counter-clockwise"),
    *("left arm clockwise", "left arm counter-clockwise"),
    *("arm roll", "air drums", "air guitar", "other gestures"),
)


def read_nmnist(root: Path, image_size: int | None, options: FrameOptions) -> Parts:
    """Read N-MNIST, or any part of it: ``ROOT/NMNIST/{Train,Test}/DIGIT/*.bin``, 34x34 pixels.

    Source: G. Orchard and others, Converting Static Image Datasets to Spiking Neuromorphic Datasets
    Using Saccades, 2015 (https://doi.org/10.3389/fnins.2015.00437).

    >>> read_nmnist(Path("nowhere"), None, FrameOptions())
    Traceback (most recent call last):
    leanspike.errors.DataError: no .bin files in nowhere/NMNIST/Train/0; unpack https://...
    """
    folder = root / "NMNIST"
    remedy = _remedy("https://www.garrickorchard.com/datasets/n-mnist", folder)
    train, test = (
        [
            Recording(path, label)
            for label, digit in enumerate(MNIST.classes)
            for path in _files(folder / part / digit, (".bin",), remedy)
        ]
        for part in ("Train", "Test")
    )
    return _parts(MNIST.classes, train, test, 34, image_size, options)


def read_cifar10_dvs(root: Path, image_size: int | None, options: FrameOptions) -> Parts:
    """Read CIFAR10-DVS: ``ROOT/CIFAR10DVS/CLASS/*``, .aedat or .aedat4, 128x128 pixels.

    The set is published as .aedat. There is no official test set. The last tenth of each class's
    files, sorted by name as text, serves as one: 100 of 1,000 in the whole set. Figures by other
    splits are not comparable.

    Source: H. Li and others, CIFAR10-DVS: An Event-Stream Dataset for Object Classification, 2017
    (https://doi.org/10.3389/fnins.2017.00309).

    >>> read_cifar10_dvs(Path("nowhere"), None, FrameOptions())
    Traceback (most recent call last):
    leanspike.errors.DataError: no .aedat or .aedat4 files in nowhere/CIFAR10DVS/airplane; ...
    """
    folder = root / "CIFAR10DVS"
    remedy = _remedy("https://doi.org/10.6084/m9.figshare.4724671", folder)
    train: list[Recording] = []
    test: list[Recording] = []
    for label, name in enumerate(CIFAR10.classes):
        paths = _files(folder / name, (".aedat", ".aedat4"), remedy)
        kept = len(paths) - math.ceil(len(paths) / 10)
        if not kept:
            raise DataError(f"only one recording in {folder / name}, none to test; {remedy}")
        train += [Recording(path, label) for path in paths[:kept]]
        test += [Recording(path, label) for path in paths[kept:]]
    return _parts(CIFAR10.classes, train, test, 128, image_size, options)


def read_dvs128_gesture(root: Path, image_size: int | None, options: FrameOptions) -> Parts:
    """Read DVS128 Gesture with its official test set, other people's gestures; 128x128 pixels.

    - ``ROOT/DvsGesture/*`` is the data set as published. ``trials_to_train.txt`` and
      ``trials_to_test.txt`` name .aedat files, whose ``*_labels.csv`` cut them into 1,176 and 288
      gestures.
    - ``ROOT/DVSGesture/ibmGesture{Train,Test}/PERSON/LABEL.npy`` is read where the former is not
      there. The package tonic prepares these 1,077 and 264 gestures, with times in whole
      milliseconds.

    Source: A. Amir and others, A Low Power, Fully Event-Based Gesture Recognition System, 2017
    (https://doi.org/10.1109/CVPR.2017.781).

    >>> read_dvs128_gesture(Path("nowhere"), None, FrameOptions())
    Traceback (most recent call last):
    leanspike.errors.DataError: neither nowhere/DvsGesture/trials_to_train.txt nor nowhere/...
    """
    published, prepared = root / "DvsGesture", root / "DVSGesture"
    if (published / "trials_to_train.txt").is_file():
        train, test = (_trials(published / f"trials_to_{part}.txt") for part in ("train", "test"))
    else:
        train, test = (_prepared(prepared / f"ibmGesture{part}") for part in ("Train", "Test"))
    if not train or not test:
        raise DataError(
            f"neither {published}/trials_to_train.txt nor {prepared}/ibmGestureTrain/*/*.npy with "
            f"gestures; {_remedy('https://research.ibm.com/interactive/dvsgesture/', published)}"
        )
    return _parts(GESTURES, train, test, 128, image_size, options)


def read_sequential_mnist(root: Path, steps: int) -> Parts:
    """Read MNIST's images in ``steps`` parts, one after another.

    The result is uint8 [N, steps, 1, 1, 784 / steps]. 28 steps are row by row, 784 are pixel by
    pixel; from the left, from the top.

    >>> read_sequential_mnist(Path("nowhere"), 28)
    Traceback (most recent call last):
    leanspike.errors.DataError: no file nowhere/MNIST/raw/train-images-idx3-ubyte; put the ...
    """
    found = read_mnist(root, MNIST)
    parts = []
    for split in (found.train, found.test):
        images, labels = split.batch(torch.arange(len(split)))
        parts.append(TensorSplit(images.view(len(images), steps, 1, 1, -1), labels))
    train, test = parts
    return Parts(found.classes, train, test)


def _parts(
    classes: tuple[str, ...],
    train: list[Recording],
    test: list[Recording],
    sensor: int,
    image_size: int | None,
    options: FrameOptions,
) -> Parts:
    """Return the recordings of a square sensor of ``sensor`` pixels a side, as frames."""
    side = sensor if image_size is None else image_size
    if not 1 <= side <= sensor:
        raise DataError(
            f"image_size is {side}, but the recordings have {sensor}x{sensor} pixels; "
            f"give 1..{sensor}"
        )
    keep = (len(train) + len(test)) * options.timesteps * 2 * side**2 <= KEEP_BYTES
    train_split, test_split = (
        EventSplit(RecordedFrames(part, (sensor, sensor), (side, side), options, keep=keep))
        for part in (train, test)
    )
    return Parts(classes, train_split, test_split)


def _files(folder: Path, suffixes: tuple[str, ...], remedy: str) -> list[str]:
    """Return the recordings in a folder, sorted by name; all of one kind."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not paths:
        raise DataError(f"no {' or '.join(suffixes)} files in {folder}; {remedy}")
    if len({path.suffix.lower() for path in paths}) > 1:
        raise DataError(f"{' and '.join(suffixes)} files in {folder}; keep those of one kind")
    return [str(path) for path in paths]


def _trials(names: Path) -> list[Recording]:
    """Return the gestures in the recordings that a list names.

    Tables beside the recordings tell where the gestures are.
    """
    found = []
    place = names
    try:
        for name in names.read_text("utf-8").split():
            recording = names.with_name(name)
            place = names.with_name(f"{recording.stem}_labels.csv")
            for line in filter(str.strip, place.read_text("utf-8").splitlines()[1:]):
                label, start, stop = (int(value) for value in line.split(","))
                found.append(_gesture(recording, label - 1, (start, stop)))
    except (OSError, ValueError) as error:
        raise DataError(f"{place} cannot be read ({error}); unpack the data set again") from error
    return found


def _prepared(folder: Path) -> list[Recording]:
    found = []
    for path in sorted(folder.glob("*/*.npy")):
        if not path.stem.isdecimal():
            raise DataError(f"{path} is not named after a label 0..10; remove it")
        found.append(_gesture(path, int(path.stem), None)._replace(unit="ms", columns="xypt"))
    return found


def _gesture(path: Path, label: int, span: tuple[int, int] | None) -> Recording:
    if not 0 <= label < len(GESTURES):
        raise DataError(f"{path}: gesture {label} is not in 0..{len(GESTURES) - 1}; remove it")
    return Recording(str(path), label, span)


def _remedy(url: str, folder: Path) -> str:
    return f"unpack {url} in {folder}, or set LEANSPIKE_DATA to the folder that holds it"
