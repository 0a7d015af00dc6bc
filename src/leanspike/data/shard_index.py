"""Where each sample of tar files lies, read once and kept: offsets, sizes and labels.

A sample is a run of members that share a key, as in the package webdataset. The key is the name up
to its first dot. KEY.jpg (or another image) stands beside KEY.cls or KEY.json. KEY.cls holds the
number or name of the image's class, KEY.json says it under "label" or "cls".
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from leanspike.data.decoded import digest_of
from leanspike.data.layout import SUFFIXES
from leanspike.data.members import Members, printable
from leanspike.errors import DataError, LeanspikeError
from leanspike.files import atomic

VERSION = 1
LARGEST_LABEL = 2**20  # bytes of a .cls or .json: a larger file is no label
LABELS = ("label", "cls")  # keys in a .json that hold the label


@final
@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The images of tar files, and their labels as they stand there.

    The label of image n is ``texts[text[n]]``.
    """

    members: Members
    text: NDArray[np.int64]
    texts: tuple[str, ...]


def index_of(paths: Sequence[str], folder: Path) -> ShardIndex:
    """Return the index of these tar files: the one kept in ``folder``, or a new one.

    A new one is kept there. Nothing is kept in a folder that cannot be written.

    Raises:
        DataError: with the file's name, and what is wrong in it.
    """
    path = folder / f".leanspike-{digest_of(paths, f'index {VERSION}', 'tar file')}.npz"
    with suppress(Exception):  # zipfile raises anything on damage; the index is then read anew
        return _kept(path, tuple(paths))
    rows, found = [], dict[str, int]()
    for number, shard in enumerate(paths):
        for begin, length, label in read_shard(shard):
            rows.append((number, begin, length, found.setdefault(label, len(found))))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T.copy()
    texts = np.array(list(found), dtype=np.str_)
    with suppress(LeanspikeError), atomic(path) as part, part.open("wb") as stream:
        np.savez(stream, columns=columns, texts=texts)
    file, offset, size, text = columns
    return ShardIndex(Members(tuple(paths), file, offset, size), text, tuple(found))


def _kept(path: Path, paths: tuple[str, ...]) -> ShardIndex:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
        file, offset, size, text = kept["columns"]
        texts = tuple(map(str, kept["texts"]))
    for column, end in ((file, len(paths)), (text, len(texts))):
        if column.min() < 0 or column.max() >= end:
            raise ValueError(f"{path} is of other files")
    return ShardIndex(Members(paths, file, offset, size), text, texts)


def read_shard(path: str) -> Iterator[tuple[int, int, str]]:
    """Return offset and size of each image in a tar file, with its label as it stands there.

    Raises:
        DataError: for a file that is missing or damaged, or a sample without a label.

    >>> list(read_shard("nowhere.tar"))
    Traceback (most recent call last):
    leanspike.errors.DataError: nowhere.tar cannot be read (No such file or directory); ...
    """
    try:
        with tarfile.open(path, "r:") as archive:
            sample = _Sample(path, "")
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
                key, ending = _key(member.name)
                if not member.isreg() or member.issparse() or ending is None:
                    continue
                if key != sample.key:
                    yield from sample.whole()
                    sample = _Sample(path, key)
                sample.add(archive, member, ending)
            _check_end(path, archive.offset)
            yield from sample.whole()
    except tarfile.TarError as error:
        packed = " or packed; unpack it (gunzip), or" if _is_packed(path) else ";"
        raise DataError(f"{path} is damaged{packed} copy it again ({error})") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"{path} cannot be read ({why}); copy it again, or remove it") from error


@final
class _Sample:
    """What is known of a sample, member by member."""

    def __init__(self, path: str, key: str) -> None:
        self.path, self.key, self.shown = path, key, printable(key)
        self.image: tuple[int, int] | None = None
        self.label: str | None = None

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> None:
        if ending in ("cls", "json"):
            if ending == "json" and self.label is not None:
                return  # KEY.cls goes before KEY.json
            stream = archive.extractfile(member) if member.size <= LARGEST_LABEL else None
            content = b"" if stream is None else stream.read()
            label = _label(content, ending)
            if label is None and ending == "cls":
                raise DataError(
                    f"{self.path}: {printable(member.name)} is no label; put the number or name of "
                    "a class there"
                )
            self.label = label
            return
        if self.image is not None:
            raise DataError(
                f"{self.path}: {self.shown} has two images, the second is "
                f"{printable(member.name)}; give each a key of its own (its name up to the first "
                "dot)"
            )
        self.image = member.offset_data, member.size

    def whole(self) -> Iterator[tuple[int, int, str]]:
        """Return the sample if it has an image; samples without images are passed over."""
        if self.image is None:
            return
        if self.label is None:
            raise DataError(
                f"{self.path}: {self.shown} has an image and no label; put {self.shown}.cls beside "
                f'it, with the number or name of its class, or {self.shown}.json with a "label"'
            )
        yield *self.image, self.label


def _key(name: str) -> tuple[str, str | None]:
    """Return a member's key, and its ending if it is an image or a label, without the dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    ending = ending.lower()
    known = f".{ending}" in SUFFIXES or ending in ("cls", "json")
    return folder + slash + stem, ending if stem and known else None


def _label(content: bytes, ending: str) -> str | None:
    """Return the label in a member; None where there is none."""
    with suppress(ValueError, RecursionError):  # the content is no UTF-8 or no JSON
        text = content.decode().strip()
        if ending == "cls":
            return text or None
        found = json.loads(text)
        for name in LABELS if isinstance(found, dict) else ():
            value = found.get(name)
            if isinstance(value, (int, str)) and not isinstance(value, bool):
                return str(value)
    return None


def _check_end(path: str, offset: int) -> None:
    """Raise unless the reader stopped at the mark of the end, not at a damaged header."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end at byte {offset}")


def _is_packed(path: str) -> bool:
    with suppress(OSError), open(path, "rb") as stream:
        return stream.read(6).startswith(
            (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
        )
    return False
