"""How long the phases of a run took, and what computed them, in its folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TypeVar, final

import torch
from pydantic import TypeAdapter, ValidationError

from leanspike.backends import watch_backends
from leanspike.errors import LeanspikeError
from leanspike.files import write_text

Found = TypeVar("Found")

SECONDS, BACKENDS = "seconds.json", "backends.json"


@final
class Clock:
    """Adds the time a phase took to the run's record, over all attempts that came to an end.

    With ``dtype``, the type that the phase computes in, what computed it is recorded, too.
    """

    def __init__(self, folder: Path, phase: str, dtype: torch.dtype | None = None) -> None:
        self.folder, self.phase, self.dtype = folder, phase, dtype
        self.seconds, self.backends = read_seconds(folder), read_backends(folder)

    def __enter__(self) -> None:
        self.started = time.monotonic()
        self.watching = watch_backends()
        self.ran = self.watching.__enter__()

    def __exit__(self, *_: object) -> None:
        self.watching.__exit__(None, None, None)
        elapsed = time.monotonic() - self.started
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + elapsed
        write_text(self.folder / SECONDS, json.dumps(self.seconds))
        if self.dtype is not None:
            self._record(str(self.dtype).removeprefix("torch."))

    def _record(self, dtype: str) -> None:
        words = ", ".join(filter(None, (dtype, self.ran.backend, self.ran.instructions)))
        earlier = self.backends.get(self.phase)
        if earlier is None or words not in earlier.split("; "):
            self.backends[self.phase] = words if earlier is None else f"{earlier}; {words}"
            write_text(self.folder / BACKENDS, json.dumps(self.backends))


def read_seconds(folder: Path) -> dict[str, float]:
    """Wall-clock seconds by phase, as far as the run has come."""
    return _read(folder / SECONDS, TypeAdapter(dict[str, float]), "the time taken so far")


def read_backends(folder: Path) -> dict[str, str]:
    """What computed each phase, as far as the run has come: "bfloat16, native, avx512"."""
    return _read(folder / BACKENDS, TypeAdapter(dict[str, str]), "what computed it so far")


def _read(path: Path, kind: TypeAdapter[Found], what: str) -> Found:
    text = path.read_text(errors="replace") if path.is_file() else "{}"
    try:
        return kind.validate_json(text)
    except ValidationError:
        raise LeanspikeError(f"{path} is damaged; remove it ({what} is forgotten)") from None
