"""CIFAR-10-C and CIFAR-100-C: the test images under common corruptions, at five severities.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261); https://zenodo.org/records/2535967. A folder
holds ``labels.npy`` and one ``NAME.npy`` for each corruption, uint8 [50000, 32, 32, 3]. These are
the 10,000 test images in their order at severity 1, then at severity 2, and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanspike.data.corruptions import SEVERITIES
from leanspike.data.split import TensorSplit
from leanspike.errors import DataError

IMAGES = 10_000  # of one severity
_REMEDY = (
    "unpack https://zenodo.org/records/2535967 (CIFAR-10-C.tar) and give the folder with labels.npy"
)


def cifar_c_names(folder: str | Path) -> tuple[str, ...]:
    """Return the names of the corruptions that lie in a folder, in alphabetical order.

    Raises:
        DataError: if there are none, or no labels beside them.

    >>> cifar_c_names(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.DataError: no labels.npy in nowhere; unpack https://zenodo.org/...
    """
    folder = Path(folder)
    if not (folder / "labels.npy").is_file():
        raise DataError(f"no labels.npy in {folder}; {_REMEDY}")
    names = sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels")
    if not names:
        raise DataError(f"{folder} holds labels.npy alone; {_REMEDY}")
    return tuple(names)


def read_cifar_c(folder: str | Path, name: str, severity: int) -> TensorSplit:
    """Read the test images under one corruption: uint8 [10000, 3, 32, 32], in the test set's order.

    Only this corruption and severity are read. Files are opened without running code from them.

    Args:
        folder: with ``labels.npy`` and ``NAME.npy``.
        name: the corruption's, such as ``fog``: one of :func:`cifar_c_names`.
        severity: 1 (mild) to 5 (hard).

    Raises:
        DataError: for files that are missing, damaged or of another shape.

    >>> read_cifar_c(Path("nowhere"), "fog", 1)
    Traceback (most recent call last):
    leanspike.errors.DataError: no labels.npy in nowhere; unpack https://zenodo.org/...
    """
    folder = Path(folder)
    names = cifar_c_names(folder)
    if name not in names:
        raise DataError(f"no {name}.npy in {folder}; there are {', '.join(names)}")
    if severity not in SEVERITIES:
        raise DataError(f"severity is {severity!r}; give 1, 2, 3, 4 or 5")
    block = slice((severity - 1) * IMAGES, severity * IMAGES)
    images = _open(folder / f"{name}.npy", (32, 32, 3))[block]
    labels = _open(folder / "labels.npy", ())[block].astype(np.int64)
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return TensorSplit(torch.from_numpy(pixels), torch.from_numpy(labels))


def _open(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array in a file, not read yet: whole numbers, with that shape for each image."""
    expected = (len(SEVERITIES) * IMAGES, *shape)
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # never unpickles
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMEDY}") from error
    kind = np.uint8 if shape else np.integer
    if not np.issubdtype(array.dtype, kind) or array.shape != expected:
        raise DataError(
            f"{path} is {array.dtype} {list(array.shape)} instead of {kind.__name__} "
            f"{list(expected)}; {_REMEDY}"
        )
    return array
