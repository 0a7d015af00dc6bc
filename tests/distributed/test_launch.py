"""Several processes begin together, and what one of them fails at is said once."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from leanspike.cli import app
from leanspike.distributed import launch as launching
from leanspike.distributed import worker
from leanspike.distributed.launch import end_of, launch
from leanspike.errors import LeanspikeError

KILLED = "process 1 of 2 was ended by SIGKILL"


def ending(monkeypatch: pytest.MonkeyPatch, *ends: int | str) -> list[list[str]]:
    """Let launched processes end so, one attempt after the other; what they were given."""
    left, given = list(ends), []

    def run(command: Any, processes: int) -> int | str:
        assert processes == 2
        given.append(list(command))
        return left.pop(0)

    monkeypatch.setattr(launching, "_run", run)
    monkeypatch.setattr(launching.logging, "disable", lambda _: None)
    monkeypatch.setattr(launching.warnings, "simplefilter", lambda _: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return given


def test_a_killed_process_is_started_again_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, told = ending(monkeypatch, KILLED, KILLED, 0), list[str]()
    assert launch(["train", "digits", "--fresh"], 2, 3, told.append) == 0
    assert told == [f"{KILLED}; all resume from the last checkpoint ({n} of 3)" for n in (1, 2)]
    again = ["train", "digits"]
    assert given == [[*again, "--fresh"], again, again]  # what the first has come to stays


def test_no_restart_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, KILLED)
    with pytest.raises(LeanspikeError, match=f"{KILLED}; give the same command without --fresh to"):
        launch(["train", "digits"], 2, 0, print)


def test_a_mistake_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ending(monkeypatch, 1)
    assert launch(["train", "digits"], 2, 3, print) == 1
    assert len(given) == 1


def test_exit_codes_say_who_was_killed() -> None:
    term, kill = -signal.SIGTERM, -signal.SIGKILL
    assert end_of({0: term, 1: kill}, 2) == KILLED
    assert end_of({0: worker.LOST, 1: kill}, 2) == KILLED
    assert end_of({0: term, 1: term}, 2) == "process 0 of 2 was ended by SIGTERM"
    assert end_of({0: worker.LOST}, 2) == "a process of 2 was lost"
    assert end_of({0: term, 1: 1}, 2) == 1


def test_the_processes_get_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(launching, "launch", lambda *what: given.append(what[:3]) or 0)
    command = ["train", "digits", "seed=1", "--out", "a", "--fresh", "--trust", "--ann", "runs/b"]
    app([*command, "--processes", "2", "--restarts", "3"], standalone_mode=False)
    same = ["train", "digits", "seed=1", "--fresh", "--trust", "--out", "a", "--ann", "runs/b"]
    assert given == [(same, 2, 3)]


def test_torchrun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(LeanspikeError, match="leave --processes and --restarts out"):
        app(["train", "digits", "--processes", "2"], standalone_mode=False)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    made = TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=20))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(made.port))
    return made


class Ended(BaseException):
    """In the place of the end of the process."""


def work(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> tuple[int, list[str]]:
    """The exit status of a process whose work ends so, and what it says."""
    said: list[str] = []

    def end(status: int) -> None:
        raise Ended(status)

    def fail() -> None:
        print("at work")
        if error is not None:
            raise error

    monkeypatch.setattr(worker.os, "_exit", end)
    monkeypatch.setattr(worker, "join", lambda: None)
    with pytest.raises(Ended) as ended:
        worker.work_as_one(fail, said.append)
    return ended.value.args[0], said


def test_the_first_to_fail_says_why(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert store.port > 0
    assert work(monkeypatch, LeanspikeError("no data")) == (1, ["no data"])
    assert work(monkeypatch, LeanspikeError("no data")) == (1, [])  # another one, later
    assert work(monkeypatch, ZeroDivisionError("a bug")) == (1, [])
    assert "a bug" not in capsys.readouterr().err


def test_a_mistake_of_an_earlier_attempt_is_not_made_again(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    assert work(monkeypatch, LeanspikeError("no data"))[0] == 1
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert work(monkeypatch, None) == (1, [])
    store.delete_key(worker.REFUSED)
    assert work(monkeypatch, None) == (0, [])


def test_a_bug_has_its_traceback_and_a_lost_process_no_word(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed")
    assert work(monkeypatch, lost) == (worker.LOST, [])
    assert "Connection" not in capsys.readouterr().err
    assert work(monkeypatch, ZeroDivisionError("a bug")) == (1, [])
    assert capsys.readouterr().err.endswith("ZeroDivisionError: a bug\n")
    assert store.check([worker.REFUSED]) is False


def test_only_the_first_process_is_heard(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.port > 0
    monkeypatch.setenv("RANK", "0")
    assert work(monkeypatch, SystemExit(130)) == (130, [])
    assert capsys.readouterr().out == "at work\n"
    monkeypatch.setenv("RANK", "1")
    assert work(monkeypatch, None) == (0, [])
    assert capsys.readouterr().out == ""


def test_python_m_leanspike_is_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Path(launching.__file__).parents[1] / "__main__.py").is_file()
    called: list[bool] = []
    monkeypatch.setattr("leanspike.cli.main", lambda: called.append(True))
    import runpy

    runpy.run_module("leanspike", run_name="__main__")
    assert called == [True]
