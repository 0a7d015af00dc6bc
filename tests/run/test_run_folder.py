"""What a run records of its phases, and whose its folder is."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from unittest.mock import patch

import pytest
import torch

from leanspike import native
from leanspike.errors import LeanspikeError
from leanspike.files import write_text
from leanspike.neuron import LIF
from leanspike.recipes import load_recipe
from leanspike.run import clock
from leanspike.run.clock import Clock, read_backends, read_seconds
from leanspike.run.workspace import HOLDER, LOCK, Workspace, check_free, claim, clear, hold
from leanspike.train.board import Board

X_TN = torch.rand(2, 3)


def test_a_phase_without_neurons_records_its_type_only(tmp_path: Path) -> None:
    with Clock(tmp_path, "train ann", torch.bfloat16):
        pass
    with Clock(tmp_path, "evaluate"):
        LIF()(X_TN)
    assert read_backends(tmp_path) == {"train ann": "bfloat16"}
    assert list(read_seconds(tmp_path)) == ["train ann", "evaluate"]


@pytest.mark.skipif(not native.is_built(), reason="the native library is not built")
def test_attempts_with_different_code_are_all_recorded(tmp_path: Path) -> None:
    for kernel in ("native", "native", "reference"):
        how = {"LEANSPIKE_BACKEND": kernel, "LEANSPIKE_INSTRUCTIONS": "plain"}
        with patch.dict(os.environ, how), Clock(tmp_path, "train snn", torch.float32):
            LIF()(X_TN)
    assert read_backends(tmp_path) == {"train snn": "float32, native, plain; float32, reference"}


def test_an_attempt_that_failed_is_recorded_too(tmp_path: Path) -> None:
    def stop() -> None:
        with Clock(tmp_path, "train snn", torch.float32):
            LIF()(X_TN.double())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert read_backends(tmp_path) == {"train snn": "float32, reference"}


def test_the_time_so_far_is_written_while_a_phase_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "BEAT_SECONDS", 0.01)
    seen: list[dict[str, float]] = []
    for _ in range(2):
        with Clock(tmp_path, "train snn", torch.float32):
            LIF()(X_TN.double())
            until = time.monotonic() + 60
            told = {"train snn": "float32, reference"}
            before = seen[-1] if seen else {}
            while read_seconds(tmp_path) == before or read_backends(tmp_path) != told:
                assert time.monotonic() < until
                time.sleep(0.01)
        seen.append(read_seconds(tmp_path))
    assert 0.01 <= seen[0]["train snn"] < seen[1]["train snn"]
    assert not any(thread.name == "clock of train snn" for thread in threading.enumerate())


def test_a_disk_that_is_full_for_a_while_stops_no_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = Event()

    def full(*_: object, **__: object) -> None:
        tries.set()
        raise LeanspikeError("cannot write")

    monkeypatch.setattr(clock, "BEAT_SECONDS", 0.01)
    with monkeypatch.context() as patched, Clock(tmp_path, "evaluate"):
        patched.setattr(clock, "write_text", full)
        assert tries.wait(60)
        patched.undo()
    assert list(read_seconds(tmp_path)) == ["evaluate"]


@pytest.mark.parametrize("write", ["clock", "beat", "folder", "file", "curves"])
def test_a_folder_that_was_removed_is_not_made_anew(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    workspace = Workspace(folder, 1)
    workspace.write("calibration.json", "{}")

    def clock_alone() -> None:
        with workspace.clock("evaluate"):
            shutil.rmtree(folder)
            time.sleep(0.1 if write == "beat" else 0)

    writers: dict[str, Callable[[], object]] = {
        "clock": clock_alone,
        "beat": clock_alone,
        "folder": lambda: workspace.put("ann", lambda part: write_text(part / "a", "a")),
        "file": lambda: workspace.write("calibration.json", "{}"),
        "curves": lambda: Board(folder / "tensorboard"),
    }
    if write == "beat":
        monkeypatch.setattr(clock, "BEAT_SECONDS", 0.01)
    elif write != "clock":
        shutil.rmtree(folder)
    if write == "curves":
        pytest.importorskip("tensorboard")
    with pytest.raises(LeanspikeError, match=r"cannot write \S*/run/\S+ \(No such file or dir"):
        writers[write]()
    assert not folder.exists()


def test_what_ends_a_phase_is_told_and_not_that_its_time_cannot_be_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    def stop() -> None:
        with Clock(folder, "evaluate"):
            folder.rmdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()


def hold_until_killed(folder: Path, held: Connection) -> None:
    lock = hold(folder)
    held.send(lock.is_locked)
    signal.pause()


def test_a_second_process_in_the_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("fork")
    ours, theirs = forks.Pipe()
    other = forks.Process(target=hold_until_killed, args=(tmp_path / "run", theirs))
    other.start()
    try:
        assert ours.poll(60)
        assert ours.recv() is True
        who = rf"run is in use by process {other.pid} of .*, since .*; wait until that ends, or"
        with pytest.raises(LeanspikeError, match=who):
            hold(tmp_path / "run")
        hold(tmp_path / "another")
    finally:
        other.kill()
        other.join()
    locks = [hold(tmp_path / "run"), hold(tmp_path / "run")]  # a process may come back to it
    assert all(lock.is_locked for lock in locks)


def test_a_run_holds_its_folder_and_a_fresh_one_too(tmp_path: Path) -> None:
    recipe = load_recipe("digits")
    lock = hold(tmp_path)
    check_free(tmp_path, recipe)  # nothing but a lock lies there
    claim(tmp_path, recipe)
    (tmp_path / "ann").mkdir()
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [HOLDER, LOCK]
    assert lock.is_locked
