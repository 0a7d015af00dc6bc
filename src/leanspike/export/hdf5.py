"""Reading NIR's HDF5 files without trusting them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leanspike.errors import LeanspikeError, one_line
from leanspike.optional import import_optional

DEEPEST = 16
"""The deepest nesting of groups. A graph in a graph needs three."""
UNPACKED = 1100
"""The best ratio that gzip can reach. A file that claims a higher one is hostile."""
SMALL = 1 << 20
"""The bytes that a file of any size may unpack to."""
MOST_TEXTS = 1000
"""The most texts in a data set. A node needs one for each fact."""
MOST = 100_000
"""The most groups and data sets. A layer has about ten."""


def read_graph(path: str | Path) -> Any:
    """Return the ``nir.NIRGraph`` in a file.

    Nothing outside the file is opened: links, external storage and virtual data sets are refused.
    Data sets larger than the file can hold, and objects with two names, are refused, too.

    Raises LeanspikeError, in one line, for a file that is missing, damaged or not NIR.
    """
    nir, h5py = import_optional("nir", "nir"), import_optional("h5py", "nir")
    path = Path(path)
    if not path.is_file():
        raise LeanspikeError(f"{path} is not a file; give one that holds NIR, as network.nir")
    try:
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            _check(h5py, file, path)
        graph = nir.read(path, type_check=False)
    except LeanspikeError:
        raise
    except Exception as error:  # h5py and nir may raise anything
        raise LeanspikeError(
            f"{path} is damaged or holds no NIR ({one_line(error) or type(error).__name__}); get "
            "it again from its author"
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise LeanspikeError(f"{path} holds a single {type(graph).__name__}; give a whole graph")
    return graph


def _check(h5py: Any, file: Any, path: Path) -> None:
    """Refuse objects that lead out of the file or claim to be larger than they can be."""
    size, limit = 0, max(SMALL, UNPACKED * path.stat().st_size)
    for name, value in _members(h5py, file, path, "", {_address(h5py, file)}):
        if not isinstance(value, h5py.Dataset):
            continue
        if value.external or value.is_virtual:
            raise _hostile(path, name, "lies in another file")
        size += _claimed(value)
        if size <= limit and h5py.check_vlen_dtype(value.dtype) is not None:
            if value.size > MOST_TEXTS:
                raise _hostile(path, name, f"is a list of more than {MOST_TEXTS:,} texts")
            size += _of_any_length(value, limit)
        if size > limit:
            raise LeanspikeError(
                f"{path} claims to hold {size:,} bytes of data, more than a file of "
                f"{path.stat().st_size:,} bytes can; get it again from its author"
            )


def _check_heaps(path: Path) -> None:
    """Raise ValueError for a heap of texts larger than the file, or one that traps HDF5's reader.

    A heap is a signature, a version, its size, and objects. An object is a number, two counts, a
    size and the data (HDF5 file format 3.0, section III.E). The number 0 is free space. Its size
    includes its head, so HDF5 never gets past free space of size 0.
    """
    content = path.read_bytes()
    for found in re.finditer(rb"GCOL\x01\0\0\0", content):
        head = content[found.start() + 8 : found.start() + 16]
        end = found.start() + int.from_bytes(head, "little")
        if end > len(content):
            raise ValueError("a heap of texts is larger than the file")
        at = found.start() + 16
        while at + 16 <= end:
            size = int.from_bytes(content[at + 8 : at + 16], "little")
            step = 16 + -(-size // 8) * 8 if any(content[at : at + 2]) else size
            if step < 16:
                raise ValueError("a heap of texts has no end")
            at += step


def _claimed(dataset: Any) -> int:
    """Return the bytes that reading a data set takes: its own, or those of a larger chunk."""
    if dataset.shape is None:
        return 0
    own = int(dataset.size) * int(dataset.dtype.itemsize)
    if dataset.chunks is None or not dataset.size:
        return own
    stored = (int(dataset.id.get_chunk_info(k).size) for k in range(dataset.id.get_num_chunks()))
    chunk = math.prod(map(int, dataset.chunks)) * int(dataset.dtype.itemsize)
    return max(own, chunk, *stored, 0)


def _of_any_length(dataset: Any, limit: int) -> int:
    """Return the bytes of texts. A text may be stored once and be referred to often."""
    size = 0
    for place in np.ndindex(dataset.shape):
        size += len(dataset[place])
        if size > limit:
            break
    return size


def _members(
    h5py: Any, group: Any, path: Path, at: str, seen: set[int]
) -> Iterator[tuple[str, Any]]:
    """Yield all groups and data sets, by hard links only, each under one name.

    A group with two names for one group inside would double the work at each level.
    """
    if at.count("/") > DEEPEST:
        raise _hostile(path, at, "is nested too deep")
    for name in group:
        place = f"{at}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _hostile(path, place, "is a link")
        value = group[name]
        if _address(h5py, value) in seen:
            raise _hostile(path, place, "is there under another name, too")
        seen.add(_address(h5py, value))
        if len(seen) > MOST:
            raise _hostile(path, place, f"is one of more than {MOST:,} parts")
        yield place, value
        if isinstance(value, h5py.Group):
            yield from _members(h5py, value, path, place, seen)


def _address(h5py: Any, value: Any) -> int:
    """Return the address of a group or data set in the file, whatever its name."""
    found: int = h5py.h5o.get_info(value.id).addr
    return found


def _hostile(path: Path, name: str, what: str) -> LeanspikeError:
    shown = name if name.isprintable() else repr(name)
    return LeanspikeError(f"{path}: {shown[:80]} {what}; get a plain file that holds its own data")
