"""Files that claim to hold more than they can: refused before room is made for it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from leanspike.data import read_events
from leanspike.data.folder import decode
from leanspike.errors import DataError

pytest.importorskip("scipy.io")  # its modules are no claim of a file's
EVENTS = np.array(
    [(1, 2, 3, True)] * 9, dtype=[("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]
)


def written(write: Callable[..., object], *content: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    write(file, *content, **named)
    return file.getvalue()


def refused(path: Path, match: str, read: Callable[[Path], object] = read_events) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def png(width: int, height: int) -> bytes:
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_an_image_of_more_pixels_than_its_file_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(9000, 9000))
    with pytest.raises(DataError, match="9000x9000 pixels are more than such a file can hold"):
        decode(str(path), 8)
    Image.new("L", (3000, 3000)).save(path)  # of one colour, as small as a file can be
    assert decode(str(path), 8, 1).shape == (1, 8, 8)


@pytest.mark.parametrize("shape", ["(99999999999,)", "(99999, 99999)", "(9,) * 99"])
def test_an_array_of_more_values_than_follow(shape: str, tmp_path: Path) -> None:
    content = written(np.save, EVENTS)
    start = content.index(b"(9,), }")
    end = content.index(b"\n")
    header = (content[:start] + f"{shape}, }}".encode()).ljust(end)
    (tmp_path / "a.npy").write_bytes(header + content[end:])
    refused(tmp_path / "a.npy", "no events in")


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x03\x00", b"\xff\x00"])
def test_a_header_longer_than_its_file(version: bytes, tmp_path: Path) -> None:
    content = written(np.save, EVENTS)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + version + b"\xff\xff\xff\x7f" + content[10:])
    refused(tmp_path / "a.npy", "its header is damaged")


def test_a_packed_array_of_more_than_gzip_gives(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "xytp":
            file.create_dataset(name, (10**9,), dtype="u1", chunks=(1000,))
    refused(tmp_path / "a.h5", r"4,000,000,000 bytes of arrays are more than [\d,]+ can hold")


@pytest.mark.parametrize("packed", [False, True])
def test_an_element_of_mat_longer_than_its_file(packed: bool, tmp_path: Path) -> None:
    name = struct.pack("<2I", 1, 2**31 - 1) + b"spiketrain"  # int8, so many
    inside = struct.pack("<2I", 6, 8) + bytes(8) + name
    matrix = struct.pack("<2I", 14, len(inside)) + inside
    if packed:
        small = zlib.compress(matrix)
        matrix = struct.pack("<2I", 15, len(small)) + small
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(header + matrix)
    refused(tmp_path / "a.mat", "it ends within a matrix")


def test_mat_that_unpacks_without_end(tmp_path: Path) -> None:
    small = zlib.compress(bytes(10**7))[:500]
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<2I", 15, len(small)) + small)
    refused(tmp_path / "a.mat", "no events in")
