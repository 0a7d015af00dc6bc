"""Decoded samples in a file, so that each is decoded once and not once per epoch."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from leanspike.data.members import Members, Places
from leanspike.errors import DataError

CHECKSUM_BYTES = 4


@final
class DecodedCache:
    """uint8 arrays of one ``shape`` at places 0, 1, 2, ... of the file at ``path``.

    A record is the CRC-32 of the bytes (little-endian) and the bytes. A record that was never
    written, or only in part, fails the check and counts as missing. So a killed run or another run
    at the same time does no harm, and nothing needs to be locked.

    Raises:
        DataError: with the file's name, if it cannot be written, as on a full disk.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = DecodedCache(Path(folder) / "images", (1, 2, 2))
    ...     cache.write(5, np.ones((1, 2, 2), np.uint8))
    ...     cache.read(5).tolist(), cache.read(4)
    ([[[1, 1], [1, 1]]], None)
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape
        self.record_bytes = CHECKSUM_BYTES + math.prod(shape)

    def read(self, place: int) -> NDArray[np.uint8] | None:
        """Return the array at ``place`` (≥ 0), or None if it is not there whole."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(place * self.record_bytes)
                record = file.read(self.record_bytes)
        except OSError:
            return None
        checksum, content = record[:CHECKSUM_BYTES], record[CHECKSUM_BYTES:]
        if len(record) < self.record_bytes or checksum != _checksum(content):
            return None
        return np.frombuffer(content, dtype=np.uint8).reshape(self.shape)

    def write(self, place: int, array: NDArray[np.uint8]) -> None:
        """Put ``array`` at ``place`` (≥ 0). The file has holes where nothing was put."""
        content = array.tobytes()
        record = _checksum(content) + content
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                written = os.pwrite(handle, record, place * self.record_bytes)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._cannot(error.strerror or str(error)) from error
        if written < len(record):  # the disk has just become full
            raise self._cannot("no space left on it")

    def _cannot(self, why: str) -> DataError:
        return DataError(
            f"cannot keep decoded samples in {self.path} ({why}); set LEANSPIKE_CACHE to another "
            "folder, or to nothing"
        )


def open_cache(paths: Places, size: int, channels: int = 3) -> DecodedCache | None:
    """Return the cache of these images at ``size`` pixels, of 1 channel or 3: see :func:`cache_of`.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, LEANSPIKE_CACHE="caches"):
    ...     open_cache([__file__], 8).shape
    (3, 8, 8)
    """
    return cache_of("image", paths, (channels, size, size), key=f"{channels}x{size}")


def cache_of(what: str, paths: Places, shape: tuple[int, ...], *, key: str) -> DecodedCache | None:
    """Return the cache of what is decoded from these files, in the folder LEANSPIKE_CACHE.

    It is None where that environment variable names no folder. The file's name depends on the
    paths, on each file's size and time of change, and on ``key``. ``key`` stands for all else that
    the arrays depend on. So other files, changed files and other parameters get a file of their
    own. ``what`` each file holds ("image") is for the ending of its name, and for messages.

    Raises:
        DataError: if one of the files is not there.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, LEANSPIKE_CACHE="caches"):
    ...     cache_of("recording", [__file__], (2, 8, 8), key="binary").path
    PosixPath('caches/...-8.recordings')
    >>> with patch.dict(os.environ, LEANSPIKE_CACHE=""):
    ...     print(cache_of("recording", [__file__], (2, 8, 8), key="binary"))
    None
    """
    folder = os.environ.get("LEANSPIKE_CACHE")
    if not folder:
        return None
    name = f"{digest_of(paths, key, what)}-{shape[-1]}.{what}s"
    return DecodedCache(Path(folder).expanduser() / name, shape)


def digest_of(paths: Places, key: str, what: str = "image") -> str:
    """Return 16 hexadecimal digits of the paths, each file's size and time of change, and ``key``.

    For parts of tar files it also covers where the parts lie.

    Raises:
        DataError: if one of the files is not there.

    >>> len(digest_of([__file__], "")), digest_of([__file__], "a") == digest_of([__file__], "b")
    (16, False)
    """
    digest = hashlib.sha256(key.encode())
    for path in paths.files if isinstance(paths, Members) else paths:
        try:
            found = os.stat(path)
        except OSError as error:
            raise DataError(f"no {what} in {path} ({error.strerror}); remove it") from error
        digest.update(os.fsencode(os.path.abspath(path)))
        digest.update(f"\0{found.st_size} {found.st_mtime_ns}\0".encode())
    if isinstance(paths, Members):
        for column in (paths.file, paths.offset):
            digest.update(column.tobytes())
    return digest.hexdigest()[:16]


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")
