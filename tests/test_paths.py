"""Whoever gives a path may give a string: every public function that takes one."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leanspike.data import load_dataset
from leanspike.errors import DataError, LeanspikeError
from leanspike.evaluation import load_result
from leanspike.run import Run, open_run
from leanspike.train import Checkpoints, Monitor, read_log, write_log

MODULES = (
    *(
        "leanspike",
        "leanspike.data",
        "leanspike.evaluation",
        "leanspike.models",
        "leanspike.report",
    ),
    *("leanspike.run", "leanspike.saved", "leanspike.studies", "leanspike.surgery"),
    *("leanspike.train", "leanspike_runtime"),
)
QUIET = Console(quiet=True)
INSIDE = {
    "export_run": "the command's, behind a run",
    "prove_run": "the command's, behind a run",
    "Source.__init__": "a reader is given a Path",
    "Finished.__init__": "what was read",
    "keep": "several places",
}
"""Whose paths are Paths, and why."""


def taking_paths() -> Iterator[tuple[str, str, str]]:
    """Function, parameter and annotation of each that takes a path."""
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            part = getattr(module, name)
            members: dict[str, Any] = {name: part}
            if inspect.isclass(part):
                members = {f"{name}.{key}": value for key, value in vars(part).items()}
            for called, function in members.items():
                function = getattr(function, "__func__", function)
                for parameter, annotation in getattr(function, "__annotations__", {}).items():
                    taken = inspect.isfunction(function) and parameter != "return"
                    if taken and "Path" in str(annotation):
                        yield called, parameter, str(annotation)


def test_a_string_will_do_wherever_a_path_is_asked_for() -> None:
    found = list(taking_paths())
    assert len(found) > 20
    wrong = [each for each in found if "str | Path" not in each[2] and each[0] not in INSIDE]
    assert not wrong


@pytest.mark.parametrize(
    "call",
    [
        lambda place: load_dataset("cifar10", root=place),
        load_result,
        lambda place: open_run(place, Monitor(QUIET)),
        lambda place: Run(open_run(place, Monitor(QUIET)).recipe, place, Monitor(QUIET)),
    ],
)
def test_a_string_leads_to_the_same_message(call: Callable[[Any], Any], tmp_path: Path) -> None:
    with pytest.raises((LeanspikeError, DataError, OSError)) as by_path:
        call(tmp_path / "none")
    with pytest.raises(type(by_path.value)) as by_string:
        call(str(tmp_path / "none"))
    assert str(by_string.value) == str(by_path.value)


def test_what_is_written_by_a_string_is_read_by_one(tmp_path: Path) -> None:
    write_log(str(tmp_path / "log.jsonl"), [{"epoch": 1}])
    assert read_log(str(tmp_path / "log.jsonl")) == [{"epoch": 1}]
    Checkpoints(str(tmp_path / "checkpoint.pt"), minutes=1).save({"stage": 0})
    assert Checkpoints(tmp_path / "checkpoint.pt", minutes=1).load() == {"stage": 0}
