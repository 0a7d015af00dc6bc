"""Writing files whole or not at all, and checking JSON for repeated keys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from leanspike.errors import LeanspikeError, one_line


@contextmanager
def atomic(path: Path, *, make: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to, which replaces ``path`` when the block succeeds.

    A reader finds the old file or the new one, even if the process is killed at any moment. A
    missing folder is made, unless ``make`` is False.

    Raises:
        LeanspikeError: if nothing can be written, as on a full disk. The old file stays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "a.txt"
    ...     with atomic(target) as part:
    ...         _ = part.write_text("whole")
    ...     target.read_text()
    'whole'
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with said_where(path):
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def said_where(place: Path) -> Iterator[None]:
    """Report a failure of writing in one line, with the place.

    >>> with said_where(Path("/nowhere")):
    ...     raise PermissionError("no")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: cannot write /nowhere (no); make room or give another place
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise LeanspikeError(
            f"cannot write {place} ({why}); make room or give another place"
        ) from error


def write_text(path: Path, text: str, *, make: bool = True) -> None:
    """Write a text file atomically, in UTF-8; see :func:`atomic`."""
    with atomic(path, make=make) as part:
        part.write_text(text, encoding="utf-8")


def checked_json(text: str) -> str:
    """Return the text. Raise ValueError if it is no JSON, repeats a key, or holds NaN.

    A reader would silently drop one of two values of a key.

    >>> checked_json('{"accuracy": 0.5, "accuracy": 0.9}')
    Traceback (most recent call last):
    ValueError: 'accuracy' stands there twice
    """
    try:
        json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return text


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands there twice")
        found[key] = value
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
