"""`leanspike report` with several runs: the page, the JSON, and mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from leanspike.cli import main
from leanspike.evaluation.result import Result
from leanspike.report import style


@pytest.fixture
def runs(
    tmp_path: Path, make_result: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder, made the current one, with the runs ``a`` and ``b`` in it, without logs."""
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        result = make_result(["relu"], seed=seed).model_dump_json()
        (tmp_path / name / "result.json").write_text(result, "utf-8")
    monkeypatch.setattr(style, "draw", lambda *_, **__: "<svg></svg>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*arguments: str) -> int:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    return int(stop.value.code or 0)


def test_two_runs_make_a_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("a", "b") == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out.splitlines()[-1])
    assert answer["comparison"] == "comparison.html"
    assert [run["name"] for run in answer["runs"]] == ["a", "b"]
    assert answer["runs"][0]["snn_accuracy"] == 0.967
    assert answer["notes"] == []
    assert "seconds" in printed.err
    assert sorted(path.name for path in runs.iterdir()) == ["a", "b", "comparison.html"]
    assert not (runs / "a" / "report.html").exists()


def test_out_and_fresh(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "page.html").write_text("mine")
    assert report("a", "b", "--out", "page.html") == 1
    assert "page.html is not a comparison of runs" in capsys.readouterr().err
    assert (runs / "page.html").read_text() == "mine"
    assert report("a", "b", "--out", "page.html", "--fresh") == 0
    assert "2 runs side by side" in (runs / "page.html").read_text("utf-8")


def test_one_run_writes_its_report(runs: Path) -> None:
    assert report("a") == 0
    assert (runs / "a" / "report.html").is_file()
    assert not (runs / "comparison.html").exists()
    assert report("a", "--out", "mine.html") == 0
    assert (runs / "mine.html").read_bytes() == (runs / "a" / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "a"], "a is given twice; name each run once"),
        (["a", "nowhere"], "no result at nowhere/result.json"),
        (["a", "damaged"], "damaged/result.json is not a leanspike result"),
        (["a", "b", "--robustness"], "--robustness is of one run; name one"),
        (["a", "--robustness"], "no robustness at a/robustness.json; measure it with"),
    ],
)
def test_a_mistake_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (runs / "damaged").mkdir()
    (runs / "damaged" / "result.json").write_text("{")
    assert report(*arguments) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
    assert not (runs / "comparison.html").exists()
