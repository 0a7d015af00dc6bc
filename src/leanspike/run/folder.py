"""The folder of a run: what belongs to it, whose it is, how long things took."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import yaml

from leanspike.config import Recipe
from leanspike.errors import LeanspikeError
from leanspike.files import write_text
from leanspike.recipes import dump, validate

RECIPE, LOG, CHECKPOINT, CALIBRATION = (
    "recipe.yaml",
    "log.jsonl",
    "checkpoint.pt",
    "calibration.json",
)
RESULT, REPORT, SECONDS = "result.json", "report.html", "seconds.json"
ROBUSTNESS, ROBUSTNESS_PAGE = "robustness.json", "robustness.html"


def claim(folder: Path, recipe: Recipe) -> None:
    """Make the folder this recipe's, or find that it is already.

    Raises:
        LeanspikeError: if it holds another recipe, or files that are not a run's.
    """
    path = folder / RECIPE
    if path.is_file():
        if path.read_text() != dump(recipe):
            raise LeanspikeError(
                f"{folder} holds a run of another recipe ({_difference(path, recipe)}); choose "
                "another --out, or --fresh to replace it"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise LeanspikeError(f"{folder} is not empty and not a run; choose another --out")
    write_text(path, dump(recipe))


def clear(folder: Path) -> None:
    """Remove a run, and nothing that is not one."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / RECIPE).is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike; --fresh does not remove it")
    shutil.rmtree(folder)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        LeanspikeError: if there is none.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise LeanspikeError(f"{folder} is not a run of leanspike (no {RECIPE} in it)")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        raise LeanspikeError(f"{path} is damaged; it should be YAML") from None
    return validate(data, str(path))


def _difference(path: Path, recipe: Recipe) -> str:
    """The first key in which the recipe in the folder and this one differ."""
    with suppress(yaml.YAMLError):
        old, new = _flat(yaml.safe_load(path.read_text())), _flat(recipe.model_dump(mode="json"))
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
    """Adds the time a phase took to the run's record, over all attempts that came to an end."""

    def __init__(self, folder: Path, phase: str) -> None:
        self.path, self.seconds, self.phase = folder / SECONDS, read_seconds(folder), phase

    def __enter__(self) -> None:
        self.started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        elapsed = time.monotonic() - self.started
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + elapsed
        write_text(self.path, json.dumps(self.seconds))


def read_seconds(folder: Path) -> dict[str, float]:
    """Wall-clock seconds by phase, as far as the run has come."""
    path = folder / SECONDS
    seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    return seconds
