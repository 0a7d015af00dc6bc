"""Events in files of arrays: .npy, .npz and .h5.

A damaged or hostile file may claim any size, so each claim is checked before memory is asked for.
``event_columns`` makes the arrays into events.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from leanspike.data.event_columns import ArrayForm, events_of, named_parts, unclear
from leanspike.data.event_formats import Raw, UnsaidError, Values
from leanspike.optional import import_optional

MOST_BYTES = 2**33
"""The most bytes of arrays in a compressed file, unpacked: a damaged file may claim any size."""
UNPACKED, SMALL = 1100, 1 << 20
"""Bytes that gzip unpacks from one byte at most, and bytes that any file may unpack to."""


def read_npy(path: Path, form: ArrayForm) -> Raw:
    """Read an array of NumPy: with fields x, y, t and p, or plain, [N, 4]."""
    with path.open("rb") as file:
        _check_claim(file, path.stat().st_size)
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise UnsaidError("it goes on behind its first array; write one file for each")
        return events_of({"": array}, form)


def read_npz(path: Path, form: ArrayForm) -> Raw:
    """Read arrays x, y, t and p, as SpikingJelly writes them, or one array as in .npy."""
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(member.file_size for member in archive.infolist()), path)
        for member in (each for each in archive.infolist() if each.filename.endswith(".npy")):
            with archive.open(member) as file:
                _check_claim(file, member.file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return events_of(arrays, form)


def read_h5(path: Path, form: ArrayForm) -> Raw:
    """Read HDF5: a group of arrays x, y, t and p, wherever it is, or one array as in .npy.

    ``t_offset`` above them, as in DSEC's files, is added to the times.
    """
    h5py = import_optional("h5py", "events")
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item}))
        sets = {name: item for name, item in found.items() if isinstance(item, h5py.Dataset)}
        groups = {name.rpartition("/")[0] for name in sets}
        whole = {group: named for group in groups if (named := named_parts(_inside(sets, group)))}
        if len(whole) == 1:
            ((group, named),) = whole.items()
            return events_of(_loaded(named, path), form, _offset(sets, group))
        tables = {name: item for name, item in sets.items() if item.dtype.names or item.ndim == 2}
        if whole or len(tables) != 1:
            several = sorted(whole) or sorted(tables) or sorted(sets)
            raise UnsaidError(unclear(several))
        return events_of(_loaded(tables, path), form)


def _inside(sets: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {
        name.rpartition("/")[2]: item
        for name, item in sets.items()
        if name.rpartition("/")[0] == group
    }


def _loaded(sets: Mapping[str, Any], path: Path) -> dict[str, Values]:
    for name, item in sets.items():
        if item.shape is None or item.external or item.is_virtual:
            raise ValueError(f"{name[:80]} holds no data in this file")
    _check_size(sum(item.size * item.dtype.itemsize for item in sets.values()), path)
    return {name: item[()] for name, item in sets.items()}


def _offset(sets: Mapping[str, Any], group: str) -> int:
    """Return ``t_offset`` in the group or above it; 0 where there is none."""
    for place in (group, group.rpartition("/")[0]):
        item = sets.get(f"{place}/t_offset".lstrip("/"))
        if item is not None:
            if item.dtype.kind not in "iu":
                raise ValueError(f"t_offset is {item.dtype}, not an integer")
            return int(item[()])
    return 0


def _check_claim(file: IO[bytes], size: int) -> None:
    """Raise ValueError where an array of .npy claims to be larger than all that follows.

    NumPy makes room for the claimed size before it reads.
    """
    version = np.lib.format.read_magic(file)
    known = version in ((1, 0), (2, 0), (3, 0))
    width = 2 if version == (1, 0) else 4  # bytes of the header's length
    if not known or int.from_bytes(file.read(width), "little") > size:
        raise ValueError("its header is damaged")
    file.seek(np.lib.format.MAGIC_LEN)
    one, two = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    shape, _, dtype = (one if width == 2 else two)(file)
    if math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError(f"{list(shape)} values of {dtype} are more than it holds")
    file.seek(0)


def _check_size(size: int, path: Path) -> None:
    """Raise where a compressed file claims more than it, or memory, can hold."""
    packed = path.stat().st_size
    if size > max(SMALL, UNPACKED * packed):
        raise ValueError(f"{size:,} bytes of arrays are more than {packed:,} can hold")
    if size > MOST_BYTES:
        raise UnsaidError(
            f"its arrays have {size:,} bytes, more than {MOST_BYTES:,}; cut it into parts"
        )
