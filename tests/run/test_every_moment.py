"""A run that is stopped anywhere ends as one that was not: the same bits, each epoch once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from rich.console import Console

from leanspike.recipes import load_recipe
from leanspike.run import LOG, Run, clock
from leanspike.run.clock import Clock, read_macs, read_seconds
from leanspike.run.workspace import Workspace
from leanspike.train import Checkpoints, Monitor, monitor

CHANGES = (
    *("model.options.layers=[4, A]", "model.options.head=[]", "data.train_images=64"),
    *("ann.epochs=2", "ann.batch_size=32", "spike.calibrate.images=32"),
    "snn=[{epochs: 2, timesteps: 2, batch_size: 32}, {epochs: 1, timesteps: 1, batch_size: 64}]",
    *("device=cpu", "precision=float32"),
)
EPOCHS = [("ann", 1), ("ann", 2), ("snn T=2", 1), ("snn T=2", 2), ("snn T=1", 1)]
NEVER, ALWAYS = 1000.0, 1e-6
WRITES: tuple[tuple[Any, str], ...] = (
    *((monitor, "write_log"), (Checkpoints, "save")),
    *((Workspace, "put"), (Workspace, "keep_macs"), (Clock, "_keep")),
)


class Killed(BaseException):
    """Nothing in leanspike catches it."""


@contextmanager
def moments(at: int | None = None) -> Iterator[list[str]]:
    """Counts what is written; after that write the run is stopped.

    What it computes between two writes leaves no trace, so there are no other moments.
    """
    passed: list[str] = []

    def watched(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: Any, **options: Any) -> object:
            found = function(*args, **options)
            passed.append(name)
            if len(passed) - 1 == at:
                raise Killed(name)
            return found

        return call

    with ExitStack() as patches:
        for place, name in WRITES:
            patches.enter_context(patch.object(place, name, watched(name, getattr(place, name))))
        yield passed


def attempt(folder: Path, minutes: float, at: int | None = None) -> list[str]:
    """Go on with the run in the folder until that moment; all moments that it came to."""
    folder.mkdir(exist_ok=True)  # as begin does
    recipe = load_recipe("digits", [*CHANGES, f"checkpoint_minutes={minutes}"])
    run = Run(recipe, folder, Monitor(Console(quiet=True), folder))
    with moments(at) as passed:
        run.train_ann()
        run.convert()
        run.train_snn()
    return passed


def left(folder: Path) -> dict[str, object]:
    """What a run leaves: weights, thresholds, and its log without the seconds."""
    files = [*folder.glob("*/model.safetensors"), folder / "calibration.json"]
    found: dict[str, object] = {
        str(file.relative_to(folder)): file.read_bytes() for file in sorted(files)
    }
    rows = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return {**found, "log": [{**row, "seconds": None} for row in rows]}


def epochs(folder: Path) -> list[tuple[str, int]]:
    rows = map(json.loads, (folder / LOG).read_text().splitlines())
    return [(row["stage"], row["epoch"]) for row in rows]


@pytest.mark.parametrize("minutes", [NEVER, ALWAYS], ids=["without checkpoints", "with"])
def test_stopped_after_any_write_no_epoch_is_logged_twice(
    minutes: float, tmp_path: Path, new_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_tensorboard", lambda _: None)
    monkeypatch.setattr(clock, "BEAT_SECONDS", 1e6)  # so that writes keep their numbers
    writes = attempt(tmp_path / "whole", minutes)
    whole = left(tmp_path / "whole")
    assert epochs(tmp_path / "whole") == EPOCHS
    assert writes.count("write_log") == len(EPOCHS)
    assert (writes.count("save") > len(EPOCHS)) == (minutes == ALWAYS)
    numbers = range(len(writes))
    for number in numbers if minutes == NEVER else random.Random(new_seed).sample(numbers, 8):
        folder = tmp_path / str(number)
        with pytest.raises(Killed, match=writes[number]):
            attempt(folder, minutes, number)
        attempt(folder, minutes)
        assert left(folder) == whole, f"stopped after write {number}, {writes[number]}"
        assert read_seconds(folder).keys() == read_seconds(tmp_path / "whole").keys()
        assert read_macs(folder) == read_macs(tmp_path / "whole")


KILLED_AFTER_A_ROW = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, str(Path({here!r})))
import test_every_moment as here
from leanspike.run import clock
from leanspike.train import monitor

clock.BEAT_SECONDS = 0.01
monitor._tensorboard = lambda _: None
write, rows = monitor.write_log, []

def killed(*args):
    write(*args)
    rows.append(args)
    if len(rows) == {rows}:
        time.sleep(0.5)  # a few beats
        os.kill(os.getpid(), signal.SIGKILL)

monitor.write_log = killed
here.attempt(Path({folder!r}), {minutes})
"""


def test_killed_between_a_row_and_its_checkpoint_epoch_and_seconds_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_tensorboard", lambda _: None)
    folder = tmp_path / "killed"
    how = {"here": str(Path(__file__).parent), "folder": str(folder), "rows": 3, "minutes": NEVER}
    code = KILLED_AFTER_A_ROW.format(**how)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert done.returncode == -9, done.stderr.decode()
    assert epochs(folder) == EPOCHS[:3]
    before = read_seconds(folder)
    assert before["train snn T=2"] > 0.1
    attempt(folder, NEVER)
    attempt(tmp_path / "whole", NEVER)
    assert epochs(folder) == EPOCHS
    assert left(folder) == left(tmp_path / "whole")
    after = read_seconds(folder)
    assert after["train snn T=2"] > before["train snn T=2"]
    assert after["train ann"] == before["train ann"]
