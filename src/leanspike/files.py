"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from leanspike.errors import LeanspikeError, one_line


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of ``path`` when the block succeeds.

    A reader, or a process that is killed at any moment, finds the old file or the new one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "a.txt"
    ...     with atomic(target) as part:
    ...         _ = part.write_text("whole")
    ...     target.read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


@contextmanager
def said_where(place: Path) -> Iterator[None]:
    """Writing whose failure is said in one line, by the place.

    >>> with said_where(Path("/nowhere")):
    ...     raise PermissionError("no")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: cannot write to /nowhere (no); give another place
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise LeanspikeError(
            f"cannot write to {place} ({one_line(error)}); give another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
