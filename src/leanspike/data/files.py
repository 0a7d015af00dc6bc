"""Reading the data sets' own files: with the right size and labels in range, or not at all."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanspike.errors import DataError


def read_exactly(path: Path, size: int, remedy: str) -> NDArray[np.uint8]:
    """Return the ``size`` bytes of ``path`` (or of ``path`` + ".gz"), uint8 [size].

    Raises:
        DataError: ending in ``remedy``, if neither file is there, or it cannot be read or is of
            another size.

    >>> read_exactly(Path("nowhere.bin"), 3, "download it")
    Traceback (most recent call last):
    leanspike.errors.DataError: no file nowhere.bin; download it
    """
    packed = path.with_name(path.name + ".gz")
    try:
        if path.is_file():
            found = path.stat().st_size
            data = path.read_bytes() if found == size else b""
        elif packed.is_file():
            with gzip.open(packed) as stream:
                data = stream.read(size + 1)  # one byte more shows that the file is longer
            found = len(data)
        else:
            raise DataError(f"no file {path}; {remedy}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    if found != size:
        raise DataError(f"{path} has {found} bytes instead of {size}: damaged; {remedy}")
    return np.frombuffer(data, dtype=np.uint8)


def checked_labels(labels: NDArray[np.uint8], classes: int, path: Path, remedy: str) -> Tensor:
    """Return the bytes ``labels`` [N] as int64 [N]; DataError unless all are in 0..classes-1.

    >>> checked_labels(np.array([0, 7], dtype=np.uint8), 10, Path("labels"), "")
    tensor([0, 7])
    """
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        raise DataError(
            f"{path}: label {labels[wrong[0]]} of image {wrong[0]} is not in 0..{classes - 1}: "
            f"damaged; {remedy}"
        )
    return torch.from_numpy(labels.astype(np.int64))
