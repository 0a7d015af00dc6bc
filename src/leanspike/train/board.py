"""Curves for TensorBoard, written at once.

So an error of a write is raised where it happens. TensorBoard's own writer has a thread, whose
error would be a traceback beside the run's.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, final
from weakref import finalize

from leanspike.errors import LeanspikeError
from leanspike.files import said_where


@final
class Board:
    """One file of curves in a folder.

    Raises:
        LeanspikeError: with the file's name, where it cannot be written.
        ImportError: where TensorBoard is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board = Board(Path(folder))
    ...     board.add("ann/loss", 0.5, 10)
    ...     board.close()
    ...     board.path.stat().st_size > 60
    True

    Raises LeanspikeError, by the file, where it cannot be written; ImportError where TensorBoard is
    not installed.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        with said_where(self.path):
            folder.mkdir(exist_ok=True)  # without parents: a run's folder that is gone stays gone
            self._file = self.path.open("ab", buffering=0)
        finalize(self, self._file.close)  # a run that failed does not close its board
        self._records = RecordWriter(_Whole(self._file, self.path))
        self._write(file_version="brain.Event:2")

    def add(self, tag: str, value: float, step: int) -> None:
        """Write one point of the curve ``tag``."""
        point = self._summary.Value(tag=tag, simple_value=value)
        self._write(step=step, summary=self._summary(value=[point]))

    def close(self) -> None:
        """Close the file, which is then complete."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)  # the time is only shown
        with said_where(self.path):
            self._records.write(event.SerializeToString())


@final
class _Whole:
    """Writes all that is given, or raises: an unbuffered file may take a part of it."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path

    def write(self, data: bytes) -> None:
        if self.file.write(data) < len(data):
            raise LeanspikeError(
                f"cannot write {self.path} (no space left); make room or give another place"
            )
