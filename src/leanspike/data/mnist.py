"""MNIST and the data sets of its form, read from IDX files in torchvision's layout.

The format (http://yann.lecun.com/exdb/mnist/) has a magic number, the dimensions and the bytes. The
magic number is 32 bits, big-endian: 0x08 for bytes, then the number of dimensions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from leanspike.data.files import checked_labels, read_exactly
from leanspike.data.split import Parts, TensorSplit
from leanspike.errors import DataError


@dataclass(frozen=True)
class Idx:
    """One data set of 28x28 grey images in ``ROOT/folder/raw``, plain or gzipped."""

    folder: str
    classes: tuple[str, ...]
    url: str
    train: int = 60000
    test: int = 10000


MNIST = Idx(
    folder="MNIST",
    classes=tuple("0123456789"),
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
)
FASHION_MNIST = Idx(
    folder="FashionMNIST",
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)


def read_mnist(root: Path, idx: Idx) -> Parts:
    """Read all images of ``idx`` under ``root``, uint8 [N, 1, 28, 28].

    Raises:
        DataError: for files that are missing or damaged.

    >>> read_mnist(Path("nowhere"), MNIST)
    Traceback (most recent call last):
    leanspike.errors.DataError: no file nowhere/MNIST/raw/train-images-idx3-ubyte; put the ...
    """
    raw = root / idx.folder / "raw"
    return Parts(
        idx.classes,
        train=_read_part(raw, "train", idx.train, idx),
        test=_read_part(raw, "t10k", idx.test, idx),
    )


def _read_part(raw: Path, prefix: str, count: int, idx: Idx) -> TensorSplit:
    pixels = _read_idx(raw / f"{prefix}-images-idx3-ubyte", (count, 28, 28), idx)
    path = raw / f"{prefix}-labels-idx1-ubyte"
    labels = checked_labels(
        _read_idx(path, (count,), idx).numpy(), len(idx.classes), path, _remedy(raw, idx)
    )
    return TensorSplit(pixels.view(count, 1, 28, 28), labels)


def _read_idx(path: Path, shape: tuple[int, ...], idx: Idx) -> torch.Tensor:
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    remedy = _remedy(path.parent, idx)
    size = len(header) + torch.Size(shape).numel()
    content = read_exactly(path, size, remedy)
    if content[: len(header)].tobytes() != header:
        raise DataError(
            f"{path} does not start as an IDX file of {list(shape)} bytes: damaged; {remedy}"
        )
    return torch.from_numpy(content[len(header) :].copy()).view(shape)


def _remedy(raw: Path, idx: Idx) -> str:
    return f"put the files of {idx.url} in {raw}, or set LEANSPIKE_DATA to where they are"
