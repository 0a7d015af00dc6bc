"""The runs in a study: one compact file each, without recipe and pictures."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation import Result, Robustness, load_result, load_robustness
from leanspike.evaluation.result_file import parse_result
from leanspike.files import checked_json, write_text
from leanspike.recipes.renamed_keys import take_old_keys
from leanspike.recipes.study import digest, is_kept, kept_at, kept_recipe
from leanspike.run import LOG, RESULT, ROBUSTNESS
from leanspike.section import Section
from leanspike.studies.packed import compact, packed, unpacked
from leanspike.train import read_log

History = list[dict[str, Any]]


class KeptRun(Section):
    """The content of a run's file, as plain data: the files of its folder, each by its name.

    ``recipe`` is the digest of the whole recipe, which the study holds. ``provenance.recipe`` is
    left out of ``result`` and ``robustness`` if it is that recipe. Pictures are always left out.
    ``calibration`` and ``robustness`` are None if the run has none.

    >>> KeptRun(recipe="5f", result={"n": 360}).log
    []
    """

    schema_version: Literal[1] = 1
    recipe: str
    result: dict[str, Any]
    log: History = Field(default_factory=list)
    calibration: dict[str, Any] | None = None
    robustness: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder, or its file in a study, its result, and its log.

    >>> Finished(Path("runs/digits"), Result.model_construct(), []).place.name
    'digits'
    """

    path: Path
    result: Result
    history: History

    @property
    def place(self) -> Path:
        """The folder, or the file in a study without its suffix, which identifies the run."""
        return self.path.with_suffix("") if is_kept(self.path) else self.path

    @property
    def comparable(self) -> Result:
        """The result, whose recipe has its keys where they stand now, whatever wrote it."""
        origin = self.result.provenance
        recipe = deepcopy(origin.recipe)
        take_old_keys(recipe, said=False)
        update = {"provenance": origin.model_copy(update={"recipe": recipe})}
        return self.result.model_copy(update=update)


def read_kept(path: str | Path) -> KeptRun:
    """Read the plain data of a run in a study, its recipe put back in.

    Args:
        path: ``VARIANT-SEED.json`` beside a ``study.yaml``.

    Raises:
        LeanspikeError: if it is no such file, or if the study's recipe is not the one that ran.

    >>> read_kept(Path("nowhere/base-0.json"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no study at nowhere/study.yaml; write one with ...
    """
    path = Path(path)
    recipe = kept_recipe(path)
    try:
        kept = KeptRun.model_validate(unpacked(json.loads(checked_json(path.read_text("utf-8")))))
        for part in (kept.result, kept.robustness):
            if part is not None:
                part["provenance"].setdefault("recipe", recipe)
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, error) from None
    return kept


def write_kept(path: Path, kept: KeptRun, recipe: dict[str, Any]) -> None:
    """Write a run of a study. ``recipe`` is the study's recipe for it."""
    data = kept.model_copy(update={"recipe": digest(recipe)}).model_dump(exclude_none=True)
    write_text(path, compact(packed(data)))


def load_kept(path: str | Path) -> Finished:
    """Read a run in a study, as it was measured.

    Raises:
        LeanspikeError: as `read_kept`, or if it holds no valid result.
    """
    path = Path(path)
    kept = read_kept(path)
    try:
        return Finished(path, parse_result(json.dumps(kept.result)), kept.log)
    except ValueError as error:
        raise _foreign(path, error) from None


def find_robustness(path: str | Path) -> Robustness:
    """Read the robustness of a run, by its folder, or by its file in a study.

    Raises:
        LeanspikeError: if none was measured, or it is damaged.

    >>> find_robustness(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no robustness at nowhere/robustness.json; measure it with ...
    """
    path = Path(path)
    if not is_kept(path):
        return load_robustness(path / ROBUSTNESS)
    kept = read_kept(path)
    if kept.robustness is None:
        raise LeanspikeError(f"{path} holds no robustness; it was not measured for that run")
    try:
        return Robustness.model_validate_json(json.dumps(kept.robustness))
    except ValueError as error:
        raise _foreign(path, error) from None


def _foreign(path: Path, error: Exception) -> LeanspikeError:
    return LeanspikeError(f"{path} is no run of a study ({one_line(error)})")


def load_finished(place: str | Path) -> list[Finished]:
    """Read all runs at a place: one of a run's folder or file, all that a study names.

    Raises:
        LeanspikeError: if there is no result, or a damaged one.

    >>> load_finished(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no result at nowhere/result.json; write one with ...
    """
    place = Path(place)
    if kept := kept_at(place):
        return [load_kept(path) for path in kept]
    return [Finished(place, load_result(place / RESULT), read_log(place / LOG))]
