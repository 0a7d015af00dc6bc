"""Recording, in a run's folder, how long its phases took, and what computed how much."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar, final

import torch
from pydantic import TypeAdapter, ValidationError

from leanspike.backends import watch_backends
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Macs
from leanspike.files import write_text

Found = TypeVar("Found")

SECONDS, BACKENDS, MACS = "seconds.json", "backends.json", "macs.json"
BEAT_SECONDS = 10.0
"""The seconds between two records of the time. A killed attempt loses no more than that."""


@final
class Clock:
    """Adds the time of a phase to the run's record, over all attempts, with killed ones.

    A thread writes the time so far every ``BEAT_SECONDS``. With ``dtype``, the number type of the
    phase, the backend is recorded, too. If there are several processes, the first one writes.
    """

    def __init__(
        self,
        folder: Path,
        phase: str,
        dtype: torch.dtype | None = None,
        group: Group = ALONE,
    ) -> None:
        self.folder, self.phase, self.dtype, self.group = folder, phase, dtype, group
        self.seconds, self.backends = read_seconds(folder), read_backends(folder)

    def __enter__(self) -> None:
        self.started = time.monotonic()
        self.watching = watch_backends()
        self.ran = self.watching.__enter__()
        self.over = Event()
        self.heart = Thread(target=self._beat, name=f"clock of {self.phase}", daemon=True)
        if self.group.first:
            self.heart.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.over.set()
        if self.group.first:
            self.heart.join()
        self.watching.__exit__(None, None, None)
        if self.group.first:
            with suppress(LeanspikeError) if kind is not None else nullcontext():
                self._keep()  # the error that ended the phase must not be hidden

    def _beat(self) -> None:
        while not self.over.wait(BEAT_SECONDS):
            with suppress(LeanspikeError):  # the training itself reports a full disk
                self._keep()

    def _keep(self) -> None:
        """Write the time of all attempts so far, and what computed them."""
        elapsed = time.monotonic() - self.started
        total = self.seconds.get(self.phase, 0.0) + elapsed
        write_seconds(self.folder, {**self.seconds, self.phase: total})
        if self.dtype is not None:
            dtype = str(self.dtype).removeprefix("torch.")
            words = ", ".join(filter(None, (dtype, self.ran.backend, self.ran.instructions)))
            computed = _with(self.backends.get(self.phase, ""), words)
            if computed != self.backends.get(self.phase):
                write_backends(self.folder, {**self.backends, self.phase: computed})


def _with(earlier: str, words: str) -> str:
    """Add the backend of an attempt to a record, once. Killed attempts may lack the backend.

    >>> _with("float32", "float32, native, avx2"), _with("float32, reference", "float32")
    ('float32, native, avx2', 'float32, reference')
    >>> _with("float32, native, avx2", "float32, reference")
    'float32, native, avx2; float32, reference'
    """
    parts = [part for part in earlier.split("; ") if part and not words.startswith(f"{part}, ")]
    told = any(part == words or part.startswith(f"{words}, ") for part in parts)
    return "; ".join(parts if told else [*parts, words])


def read_seconds(folder: Path) -> dict[str, float]:
    """Return the wall-clock seconds of each phase so far."""
    return _read(folder / SECONDS, TypeAdapter(dict[str, float]), "the time taken so far")


def write_seconds(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write the wall-clock seconds of each phase."""
    write_text(folder / SECONDS, json.dumps(seconds), make=False)


def read_backends(folder: Path) -> dict[str, str]:
    """Return what computed each phase so far, as "bfloat16, native, avx512"."""
    return _read(folder / BACKENDS, TypeAdapter(dict[str, str]), "what computed it so far")


def write_backends(folder: Path, backends: Mapping[str, str]) -> None:
    """Write what computed each phase."""
    write_text(folder / BACKENDS, json.dumps(backends), make=False)


def read_macs(folder: Path) -> dict[str, Macs]:
    """Return the multiply-accumulates of each phase that is over, if they were counted."""
    return _read(folder / MACS, TypeAdapter(dict[str, Macs]), "what was counted so far")


def write_macs(folder: Path, macs: Mapping[str, Macs]) -> None:
    """Write the multiply-accumulates of each phase."""
    text = json.dumps({phase: found.model_dump() for phase, found in macs.items()})
    write_text(folder / MACS, text, make=False)


def _read(path: Path, kind: TypeAdapter[Found], what: str) -> Found:
    text = path.read_text(errors="replace") if path.is_file() else "{}"
    try:
        return kind.validate_json(text)
    except ValidationError:
        raise LeanspikeError(f"{path} is damaged; remove it ({what} is lost)") from None
