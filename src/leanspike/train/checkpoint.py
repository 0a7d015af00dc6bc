"""Checkpoints of a running training: written every few minutes, atomically, safe to read."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch

from leanspike.distributed import joined
from leanspike.errors import LeanspikeError, one_line
from leanspike.files import atomic


@final
class Checkpoints:
    """The one checkpoint file of a run.

    Args:
        path: the place of the file, which is written whole or not at all.
        minutes: the time between two writes.
    """

    def __init__(self, path: str | Path, minutes: float) -> None:
        path = Path(path)
        self.path = path
        self.seconds = 60 * minutes
        self._last = time.monotonic()

    def due(self) -> bool:
        """Tell whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, content: dict[str, Any]) -> None:
        """Write plain data and tensors; only the first of several processes writes."""
        if not joined().first:
            return
        whole = io.BytesIO()  # torch.save to a file would hide that the disk is full
        torch.save(content, whole)
        with atomic(self.path, make=False) as part:  # a run's folder that is gone stays gone
            part.write_bytes(whole.getbuffer())
        self._last = time.monotonic()

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Turn errors in the use of what :meth:`load` returned into one that names the file.

        Raises:
            LeanspikeError: if the checkpoint is not of this training.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise LeanspikeError(
                f"{self.path} does not fit this training ({one_line(error)}); remove it, or start "
                "over with --fresh"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None; reading runs no code (``weights_only``).

        Raises:
            LeanspikeError: if the file is damaged or not a checkpoint.

        >>> Checkpoints(Path("nowhere.pt"), minutes=1).load() is None
        True
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise LeanspikeError(
                f"{self.path} is damaged or not a checkpoint of leanspike "
                f"({type(error).__name__}); remove it, or start over with --fresh"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("stage"), int):
            raise LeanspikeError(f"{self.path} is not a checkpoint of leanspike; remove it")
        return content
