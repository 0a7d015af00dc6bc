"""CIFAR-10 from whatever parts it travelled in, laid out as leanspike reads it.

A part is a batch in the official binary layout (``data_batch_1.bin``: a label's byte and 3072
pixels' for each image), or one lossless picture of all its images, row by row, and a file of its
labels, a byte each (``data_batch_1.webp``, ``data_batch_1.labels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from leanspike.data.cifar import CIFAR10
from leanspike.errors import DataError

SIDE, IMAGES = 32, 10_000
RECORD = 1 + 3 * SIDE * SIDE


def collect(folders: Sequence[Path], target: Path) -> Path:
    """Lay all six batches out in ``target``, the root of the data set; what is there stays.

    Raises:
        DataError: for batches that are in none of the folders, or are damaged.
    """
    out = target / CIFAR10.binary
    out.mkdir(parents=True, exist_ok=True)
    names = [name.removesuffix(".bin") for name in (*CIFAR10.train, *CIFAR10.test)]
    wanted = [name for name in names if not (out / f"{name}.bin").is_file()]
    found = {name: source for name in wanted if (source := _source(name, folders)) is not None}
    if len(found) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in found)
        places = ", ".join(map(str, folders)) or "no folder"
        raise DataError(f"CIFAR-10 lacks {missing} in {places}; give --data for each part of it")
    with ThreadPoolExecutor() as pool:
        for name, records in zip(found, pool.map(_records, found.values()), strict=True):
            part = out / f".{name}.part"
            part.write_bytes(records.tobytes())
            part.replace(out / f"{name}.bin")
    return target


def _source(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that holds a batch's pixels, anywhere below one of the folders."""
    for ending in ("bin", "webp", "png"):
        for folder in folders:
            for path in sorted(folder.rglob(f"{name}.{ending}")):
                if ending == "bin" or path.with_suffix(".labels").is_file():
                    return path
    return None


def _records(path: Path) -> np.ndarray:
    """A batch in the official layout, uint8 ``[N, 3073]``."""
    if path.suffix == ".bin":
        content = np.fromfile(path, np.uint8)
        if content.size != IMAGES * RECORD:
            raise DataError(
                f"{path} has {content.size} bytes instead of {IMAGES * RECORD}; copy it again"
            )
        records = content.reshape(IMAGES, RECORD)
    else:
        labels = np.fromfile(path.with_suffix(".labels"), np.uint8)
        pixels = _pixels(path)
        if len(labels) != IMAGES or len(pixels) != IMAGES:
            raise DataError(
                f"{path} has {len(pixels)} images and {len(labels)} labels instead of {IMAGES} "
                "of each; copy both again"
            )
        records = np.concatenate([labels[:, None], pixels], axis=1)
    if records[:, 0].max() >= len(CIFAR10.classes):
        raise DataError(f"{path} has a label of {records[:, 0].max()}; CIFAR-10 has 0 to 9")
    return records


def _pixels(path: Path) -> np.ndarray:
    """The images of one picture, uint8 ``[N, 3072]``, channel by channel."""
    from PIL import Image

    with Image.open(path) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    tiles = sheet[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 1, 3)).reshape(-1, RECORD - 1)
