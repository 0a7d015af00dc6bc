"""Images where they lie: a file each, or a part of a tar file, read without reading the rest."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, final, overload

import numpy as np
from numpy.typing import NDArray

from leanspike.optional import import_optional

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow starts programs for some others

Integers = NDArray[np.int64]


class Member(NamedTuple):
    """``size`` bytes from ``offset`` on of the tar file at ``path``.

    Its text is the tar file's path and the name that `tar` shows for it.

    >>> str(Member("nowhere.tar", 512, 9))
    'nowhere.tar: 9 bytes at 512'
    """

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the bytes of this part.

        Raises:
            OSError: for a file that cannot be read, or has become shorter.
        """
        handle = os.open(self.path, os.O_RDONLY)
        try:
            content = os.pread(handle, self.size, self.offset)
        finally:
            os.close(handle)
        if len(content) < self.size:
            raise OSError(f"the file ends after {len(content)} of its {self.size} bytes")
        return content

    def __str__(self) -> str:
        try:
            header = Member(self.path, self.offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE).read()
            name = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (OSError, tarfile.TarError):
            name = f"{self.size} bytes at {self.offset}"
        return f"{self.path}: {printable(name)}"


def printable(name: str) -> str:
    """Return a name out of a file on one line, whatever it holds.

    >>> printable("a" + chr(10) + "b" + chr(0xDCFF))
    'a?b?'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in name)


Place = str | Member
"""Where an image lies: the path of its file, or the part of a tar file."""


@final
@dataclass(frozen=True, eq=False)
class Members(Sequence[Member]):
    """N parts of tar files, by number.

    Part n is the ``size[n]`` bytes from ``offset[n]`` on of ``files[file[n]]``. An image takes
    twenty bytes here, where a path takes a hundred.

    >>> parts = Members(("a.tar", "b.tar"), *np.array([[0, 1], [512, 1536], [9, 8]]))
    >>> parts[1], len(parts.at([1, 1, 0]))
    (Member(path='b.tar', offset=1536, size=8), 3)
    """

    files: tuple[str, ...]
    file: Integers
    offset: Integers
    size: Integers

    def __len__(self) -> int:
        return len(self.offset)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Members: ...
    def __getitem__(self, index: int | slice) -> Member | Members:
        if isinstance(index, slice):
            return self.at(range(*index.indices(len(self))))
        return Member(self.files[self.file[index]], int(self.offset[index]), int(self.size[index]))

    def at(self, indices: Sequence[int] | Integers) -> Members:
        """Return the parts at ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Members(self.files, self.file[chosen], self.offset[chosen], self.size[chosen])


Places = Sequence[str] | Members


def chosen(places: Places, indices: Sequence[int] | Integers) -> Places:
    """Return the places at ``indices``, in that order.

    >>> chosen(["a.png", "b.png"], [1])
    ['b.png']
    """
    if isinstance(places, Members):
        return places.at(indices)
    return [places[index] for index in indices]


@contextmanager
def opened(place: Place) -> Iterator[Any]:
    """Open the image there by Pillow, without decoding it; its format is known by its content."""
    pil = import_optional("PIL.Image", "vision")
    source = place if isinstance(place, str) else io.BytesIO(place.read())
    with pil.open(source, formats=FORMATS) as image:
        yield image
