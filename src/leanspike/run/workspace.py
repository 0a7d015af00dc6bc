"""The folder of a run: its files, its recipe, and the process that works in it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from filelock import BaseFileLock, FileLock, Timeout

from leanspike.config import Recipe
from leanspike.data import Dataset
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Macs
from leanspike.files import said_where, write_text
from leanspike.recipes import dump, read_yaml, validate
from leanspike.run.clock import Clock, read_macs, write_macs
from leanspike.run.seen import check_seen, keep_seen
from leanspike.train import Checkpoints, read_log

RECIPE, LOG, CHECKPOINT, CALIBRATION = (
    "recipe.yaml",
    "log.jsonl",
    "checkpoint.pt",
    "calibration.json",
)
RESULT, REPORT = "result.json", "report.html"
ROBUSTNESS, ROBUSTNESS_PAGE = "robustness.json", "robustness.html"
LOCK, HOLDER = ".lock", ".holder"


@final
class Workspace:
    """The folder of a run. Each of its files appears whole or not at all.

    Args:
        folder: the folder, which may not exist yet.
        checkpoint_minutes: the time between two checkpoints.
        group: the processes that work in it together. The first one writes, all see the same.
    """

    def __init__(self, folder: Path, checkpoint_minutes: float, group: Group = ALONE) -> None:
        self.folder, self.group = folder, group
        self.checkpoints = Checkpoints(folder / CHECKPOINT, checkpoint_minutes)

    @cached_property
    def _made(self) -> Path:
        """The folder, made at its first use only: if it is removed, it stays removed."""
        with said_where(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of the log so far."""
        return read_log(self.folder / LOG)

    def rewind(self, stage: str) -> None:
        """Remove the log's rows of a stage that begins anew, and all rows after these.

        No checkpoint holds the epochs of these rows, so they are run again.
        """
        begun = [number for number, row in enumerate(self.history) if row.get("stage") == stage]
        if begun:
            del self.history[begun[0] :]

    def check(self, recipe: Recipe, data: Dataset, fresh: bool, ann_of: Path | None = None) -> None:
        """Check that the recipe may run here on these data, or, if ``fresh``, replace the folder.

        Raises:
            LeanspikeError: for a folder of another recipe or of other images, and for a folder to
                be replaced that holds what this run needs.
        """
        if fresh:
            check_removable(self.folder, recipe, ann_of)
        else:
            check_free(self.folder, recipe)
            check_seen(self.folder, data)

    def take(self, recipe: Recipe, data: Dataset, fresh: bool) -> None:
        """Claim the folder for this recipe, and keep other runs out of it until the run's end."""
        self.group.wait()  # all have seen the folder as it was
        if self.group.first:
            self._lock = hold(self._made)
            if fresh:
                clear(self.folder)
            claim(self.folder, recipe)
            keep_seen(self.folder, data)
        self.group.wait()

    def has(self, name: str) -> bool:
        """Return whether a file or folder of the run exists, as the first process sees it."""
        return self.group.agreed((self.folder / name).exists())

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a folder that appears whole: ``write`` fills it elsewhere, then it is renamed.

        Raises:
            LeanspikeError: if nothing can be written, or the run's folder is gone.
        """
        if self.group.first:
            part = self._made / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            with said_where(self.folder / name):
                part.mkdir()
                write(part)
                part.rename(self.folder / name)
        self.group.wait()

    def write(self, name: str, text: str) -> None:
        """Write a file of the run. If the run's folder was removed, it is not made again."""
        write_text(self._made / name, text, make=False)

    def keep_macs(self, phase: str, macs: Macs | None) -> None:
        """Write the multiply-accumulates of a phase; None: they are not known."""
        if self.group.first:
            others = {name: of for name, of in read_macs(self._made).items() if name != phase}
            write_macs(self._made, others if macs is None else {**others, phase: macs})

    def clock(self, phase: str, dtype: torch.dtype | None = None) -> Clock:
        """Return a clock that adds the time of a phase to the run's record, see :class:`Clock`."""
        folder = self._made if self.group.first else self.folder
        return Clock(folder, phase, dtype, self.group)


def check_free(folder: str | Path, recipe: Recipe) -> None:
    """Raise LeanspikeError unless the folder is this recipe's, or nobody's.

    Raises:
        LeanspikeError: if it holds another recipe, or files that are not a run's.
    """
    folder = Path(folder)
    path = folder / RECIPE
    if path.is_file():
        if not _holds(folder, recipe):
            raise LeanspikeError(
                f"{folder} holds a run of another recipe ({_difference(path, recipe)}); choose "
                "another --out, or give --fresh to replace it"
            )
    elif not _is_empty(folder):
        raise LeanspikeError(f"{folder} is not empty, but not a run; choose another --out")


def hold(folder: Path) -> BaseFileLock:
    """Lock the folder, so that no other process trains in it while the lock is held.

    The lock ends with the process at the latest, however that ends. A process may hold it several
    times.

    Raises:
        LeanspikeError: if another process holds it, with the name of that process.
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
    """Write the recipe into a free folder."""
    if not (folder / RECIPE).is_file():
        write_text(folder / RECIPE, dump(recipe))


def check_removable(folder: Path, recipe: Recipe, ann_of: Path | None = None) -> None:
    """Check that the folder may be removed before this recipe, with ``ann_of``, runs in it.

    Raises:
        LeanspikeError: if it is not a run, or holds weights or data that are needed.
    """
    if _is_empty(folder):
        return
    if not (folder / RECIPE).is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike; --fresh does not remove it")
    teacher = recipe.teacher.model.weights if recipe.teacher is not None else None
    for needed in (recipe.model.weights, teacher, recipe.data.root, ann_of):
        if needed and Path(needed).expanduser().resolve().is_relative_to(folder.resolve()):
            raise LeanspikeError(
                f"--fresh would remove {folder}, and with it {needed}, which this run needs; "
                "choose another --out"
            )


def clear(folder: Path) -> None:
    """Remove the content of a run's folder, but not its lock. Do nothing to another folder."""
    if (folder / RECIPE).is_file():
        for path in _content(folder):
            (shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink)(path)


def read_recipe(folder: str | Path) -> Recipe:
    """Return the recipe of a run.

    Raises:
        LeanspikeError: if there is none.
    """
    folder = Path(folder)
    path = folder / RECIPE
    if not path.is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike (no {RECIPE} in it)")
    try:
        data = read_yaml(path.read_text())
    except ValueError:  # UnicodeDecodeError among them
        raise LeanspikeError(f"{path} is damaged; bring back the YAML file") from None
    return validate(data, str(path))


def _holds(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds this recipe. Keys of later versions may be missing there."""
    try:
        return read_recipe(folder) == recipe
    except LeanspikeError:
        return False


def _is_empty(folder: Path) -> bool:
    """Whether the folder does not exist or is empty."""
    return not folder.exists() or (folder.is_dir() and not _content(folder))


def _content(folder: Path) -> list[Path]:
    """Return the content of a folder, without its lock."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)]


def _difference(path: Path, recipe: Recipe) -> str:
    """Return the first key in which the folder's recipe and this one differ, in words."""
    try:
        theirs = read_recipe(path.parent).model_dump(mode="json")
    except LeanspikeError as error:
        return str(error)
    found = first_difference(theirs, recipe.model_dump(mode="json"))
    return found or "its recipe.yaml was changed"


def first_difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Return the first key in which sections of two recipes differ, in words.

    >>> first_difference({"ann": {"epochs": 2}}, {"ann": {"epochs": 3}})
    'ann.epochs is 2 there and 3 here'
    """
    old, new = _flat(there), _flat(here)
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            return f"{key} is {old.get(key)!r} there and {new.get(key)!r} here"
    return None


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
