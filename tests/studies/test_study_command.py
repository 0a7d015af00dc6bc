"""The files of a study on the command line: as runs, and as recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from leanspike.cli import main
from leanspike.recipes import dump, load_recipe
from leanspike.report import style

MakeRun = Callable[..., Path]


@pytest.fixture
def study(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """``results/length``, kept by the command."""
    monkeypatch.setattr(style, "draw", lambda *_, **__: "<svg></svg>")
    make_run("short-0", "snn.0.epochs=1", noise=True)
    make_run("long-0", "snn.0.epochs=9")
    answer = run(capsys, "study", "keep", "runs/short-0", "runs/long-0", "--out", "results/length")
    assert answer == {"study": "results/length/study.yaml", "runs": ["short-0", "long-0"]}
    return Path("results/length")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What a command that succeeds says to programs."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    assert not stop.value.code, printed.err
    return dict(json.loads(printed.out.splitlines()[-1]))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    assert stop.value.code == 1
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
    return printed.err


def test_the_page_of_a_run_is_built_of_its_file(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = run(capsys, "report", "results/length/short-0.json", "--out", "page.html")
    assert answer["report"] == "page.html"
    assert answer["snn_accuracy"] == 0.9
    page = Path("page.html").read_text("utf-8")
    assert "digits: At 2 timesteps" in page
    assert "epochs: 1" in page  # the recipe, and not that of another run
    assert run(capsys, "report", f"{study}/short-0.json")["report"] == "length-short-0.html"
    assert Path("length-short-0.html").read_text("utf-8") == page
    assert run(capsys, "report", "runs/short-0", "--out", "page.html")["report"] == "page.html"
    assert not Path("runs/short-0/report.html").exists()


def test_what_is_no_page_of_a_run_stays(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis.html").write_text("mine")
    arguments = "report", f"{study}/short-0.json", "--out", "thesis.html"
    assert "thesis.html is not a page of a run; choose another" in refused(capsys, *arguments)
    assert Path("thesis.html").read_text() == "mine"
    assert run(capsys, *arguments, "--fresh")["report"] == "thesis.html"
    assert "timesteps" in Path("thesis.html").read_text("utf-8")


def test_a_study_is_compared_whole(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, "report", str(study))
    assert answer["comparison"] == "comparison.html"
    assert [row["name"] for row in answer["runs"]] == ["short-0", "long-0"]  # type: ignore[attr-defined]
    assert "snn.0.epochs" in Path("comparison.html").read_text("utf-8")
    answer = run(capsys, "report", "results/length/long-0.json", "runs/long-0")
    assert [row["name"] for row in answer["runs"]] == ["length/long-0", "runs/long-0"]  # type: ignore[attr-defined]


def test_the_page_of_noise_is_built(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = f"{study}/short-0.json"
    assert run(capsys, "report", file, "--robustness") == {"page": "length-short-0-noise.html"}
    page = Path("length-short-0-noise.html").read_text("utf-8")
    assert "blur" in page
    assert run(capsys, "report", "runs/short-0", "--robustness") == {
        "page": "runs/short-0/robustness.html"
    }
    assert run(capsys, "report", file, "--robustness")["page"] == "length-short-0-noise.html"
    assert "--robustness is of one run; name one" in refused(
        capsys, "report", str(study), "--robustness"
    )


def test_a_file_is_a_recipe(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recipes", f"{study}/long-0.json"])
    Path("mine.yaml").write_text(capsys.readouterr().out)
    recipe = load_recipe("mine.yaml")
    assert recipe == load_recipe(study / "long-0.json") == load_recipe("digits", ["snn.0.epochs=9"])
    assert load_recipe(study / "long-0.json", ["seed=7"]).seed == 7


@pytest.mark.parametrize("place", ["results/length", "results/length/study.yaml"])
def test_a_study_is_no_recipe(study: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    line = refused(capsys, "train", place)
    assert f"{place} is a study; name one of its runs, as results/length/short-0.json" in line
    assert load_recipe(study / "short-0.json").snn[0].epochs == 1


def test_a_recipe_comes_before_a_study_of_its_name(study: Path) -> None:
    study.rename("digits")
    assert load_recipe("digits").snn[0].epochs != 1
    Path("study.yaml").write_text(dump(load_recipe("digits", ["seed=5"])))
    assert load_recipe("study.yaml").seed == 5


def test_a_changed_base_is_noticed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study / "study.yaml"
    text = path.read_text("utf-8")
    path.write_text(text.replace("learning_rate: 0.", "learning_rate: 0.9", 1), "utf-8")
    for command in ("train", "report"):
        line = refused(capsys, command, f"{study}/long-0.json")
        assert "results/length/study.yaml no longer gives the recipe that long-0.json ran" in line
    path.write_text(text, "utf-8")  # undone, as it says
    assert run(capsys, "report", f"{study}/long-0.json")["report"] == "length-long-0.html"


def test_a_study_without_one_of_its_files_says_which(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "long-0.json").unlink()
    line = refused(capsys, "report", str(study))
    assert "no run at results/length/long-0.json, though results/length/study.yaml names it" in line
    assert run(capsys, "study", "keep", f"{study}/short-0.json", "runs/long-0", "--out", str(study))
    assert run(capsys, "report", str(study))["comparison"] == "comparison.html"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no run of a study"),
        ("[]", "is no run of a study"),
        ('{"recipe": 3}', "no longer gives the recipe"),
        ('{"recipe": "DIGEST"}', "is no run of a study (result: Field required)"),
        ('{"recipe": "DIGEST", "result": {}}', "is no run of a study ('provenance')"),
        ('{"recipe": "DIGEST", "result": {"provenance": {}}}', "is no run of a study (name: Field"),
    ],
)
def test_a_damaged_file_is_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = study / "long-0.json"
    digest = json.loads(path.read_text())["recipe"]
    path.write_text(text.replace("DIGEST", digest))
    assert message in refused(capsys, "report", str(path))
