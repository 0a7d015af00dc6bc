"""ST-MNIST's MAT files, by SciPy, after a check of the lengths that a file claims.

SciPy makes room for any length.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np

from leanspike.data.event_formats import Raw
from leanspike.optional import import_optional

HEADER = 128
MATRIX, COMPRESSED = 14, 15
UNPACKED = 1100
"""Bytes that zlib unpacks from one byte at most."""
DEEPEST = 8
"""The deepest elements in elements: a matrix in what is compressed needs three."""


def read_mat(path: Path) -> Raw:
    """Read ST-MNIST's MAT: a matrix ``spiketrain`` with a column for each moment.

    A column has 100 rows for the 10x10 pixels (1 ON, −1 OFF, 0 nothing), row by row, and the time
    in seconds.
    """
    loadmat = import_optional("scipy.io", "events").loadmat
    content = path.read_bytes()
    if len(content) > HEADER and 0 not in content[:4]:  # version 5; version 4 claims no lengths
        _check_lengths(content[HEADER:], "<" if content[126:128] == b"IM" else ">", 0)
    found = loadmat(io.BytesIO(content))
    train = np.asarray(found.get("spiketrain", ()), dtype=np.float64)
    if train.ndim != 2 or len(train) != 101 or not np.isfinite(train).all():
        raise ValueError("it has no matrix 'spiketrain' of 101 rows, as those of ST-MNIST")
    train = train[:, np.argsort(train[-1], kind="stable")]
    moment, place = train[:-1].T.nonzero()  # in order of time
    t = np.round(train[-1, moment] * 1e6).astype(np.int64)
    return Raw(place % 10, place // 10, t, train[place, moment] > 0, (10, 10))


def _check_lengths(data: bytes, order: str, depth: int) -> None:
    """Raise ValueError for an element that is longer than what holds it.

    An element is behind its type and its length, 32 bits each. A small element has both in 32 bits,
    and 32 bits of data.
    """
    start = 0
    while start + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}2I", data, start)
        start += 8
        if kind >> 16:
            continue
        if size > len(data) - start or depth > DEEPEST:
            raise ValueError("it ends within a matrix")
        inside = data[start : start + size]
        if kind == COMPRESSED:
            _check_lengths(_unpacked(inside), order, depth + 1)
        elif kind == MATRIX:
            _check_lengths(inside, order, depth + 1)
        start += size if kind == COMPRESSED else size + -size % 8


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(data, UNPACKED * len(data) + 1)
    if unpacking.unconsumed_tail:
        raise ValueError("it unpacks to more than it can hold")
    return found
