"""The folder of a run: what belongs to it, whose it is, how long things took."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from filelock import BaseFileLock, FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from leanspike.backends import watch_backends
from leanspike.config import Recipe
from leanspike.distributed import joined
from leanspike.errors import LeanspikeError
from leanspike.files import said_where, write_text
from leanspike.recipes import dump, read_yaml, validate

Found = TypeVar("Found")

RECIPE, LOG, CHECKPOINT, CALIBRATION = (
    "recipe.yaml",
    "log.jsonl",
    "checkpoint.pt",
    "calibration.json",
)
RESULT, REPORT = "result.json", "report.html"
SECONDS, BACKENDS, DATA = "seconds.json", "backends.json", "data.json"
ROBUSTNESS, ROBUSTNESS_PAGE = "robustness.json", "robustness.html"
LOCK, HOLDER = ".lock", ".holder"


def check_free(folder: Path, recipe: Recipe) -> None:
    """That the folder is this recipe's, or nobody's.

    Raises:
        LeanspikeError: if it holds another recipe, or files that are not a run's.
    """
    path = folder / RECIPE
    if path.is_file():
        if not _holds(folder, recipe):
            raise LeanspikeError(
                f"{folder} holds a run of another recipe ({_difference(path, recipe)}); choose "
                "another --out, or --fresh to replace it"
            )
    elif not _is_empty(folder):
        raise LeanspikeError(f"{folder} is not empty and not a run; choose another --out")


def hold(folder: Path) -> BaseFileLock:
    """Keep other processes from training in the folder, as long as the lock is kept.

    It ends with the process at the latest, however that ends. A process may hold it several times.

    Raises:
        LeanspikeError: if another process holds it: it says which.
    """
    with said_where(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, is_singleton=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            holder = folder / HOLDER
            who = holder.read_text(errors="replace") if holder.is_file() else "another process"
            raise LeanspikeError(
                f"{folder} is in use by {who}; wait until that ends, or choose another --out"
            ) from None
    since = time.strftime("%Y-%m-%d %H:%M")
    write_text(folder / HOLDER, f"process {os.getpid()} of {socket.gethostname()}, since {since}")
    return lock


def claim(folder: Path, recipe: Recipe) -> None:
    """Make a free folder this recipe's."""
    if not (folder / RECIPE).is_file():
        write_text(folder / RECIPE, dump(recipe))


def check_removable(folder: Path, recipe: Recipe) -> None:
    """That the folder may be removed before this recipe runs in it.

    Raises:
        LeanspikeError: if it is no run, or holds weights or data that the recipe needs.
    """
    if _is_empty(folder):
        return
    if not (folder / RECIPE).is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike; --fresh does not remove it")
    teacher = recipe.teacher.model.weights if recipe.teacher is not None else None
    for needed in (recipe.model.weights, teacher, recipe.data.root):
        if needed and Path(needed).expanduser().resolve().is_relative_to(folder.resolve()):
            raise LeanspikeError(
                f"--fresh would remove {folder}, and with it {needed}, which this recipe needs; "
                "choose another --out"
            )


def clear(folder: Path) -> None:
    """Remove a run, and nothing that is not one; who holds its lock goes on holding it."""
    if (folder / RECIPE).is_file():
        for path in _content(folder):
            (shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink)(path)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        LeanspikeError: if there is none.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike (no {RECIPE} in it)")
    try:
        data = read_yaml(path.read_text())
    except ValueError:  # UnicodeDecodeError among them
        raise LeanspikeError(f"{path} is damaged; it should be YAML") from None
    return validate(data, str(path))


def _holds(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder's recipe is this one, which may lack keys that came later."""
    try:
        return read_recipe(folder) == recipe
    except LeanspikeError:
        return False


def _is_empty(folder: Path) -> bool:
    """Whether there is nothing, or a folder with nothing in it."""
    return not folder.exists() or (folder.is_dir() and not _content(folder))


def _content(folder: Path) -> list[Path]:
    """What is in a folder, but for its lock."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)]


def _difference(path: Path, recipe: Recipe) -> str:
    """The first key in which the recipe in the folder and this one differ."""
    new = _flat(recipe.model_dump(mode="json"))
    try:
        old = _flat(read_recipe(path.parent).model_dump(mode="json"))
    except LeanspikeError as error:
        return str(error)
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            return f"{key} is {old.get(key)!r} there and {new.get(key)!r} here"
    return "its recipe.yaml was changed"


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    flat: dict[str, Any] = {}
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, (dict, list)):
            flat.update(_flat(value, f"{name}."))
        else:
            flat[name] = value
    return flat


@final
class Clock:
    """Adds the time a phase took to the run's record, over all attempts that came to an end.

    With ``dtype``, the type that the phase computes in, what computed it is recorded, too. Of
    several processes the first one writes.
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
        if not joined().first:
            return
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
