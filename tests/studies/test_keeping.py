"""Runs become a study, and come back out of it as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from leanspike.errors import LeanspikeError
from leanspike.evaluation import load_result
from leanspike.recipes import load_recipe
from leanspike.recipes.study import read_study
from leanspike.studies import find_robustness, keep, load_finished, load_kept, read_kept
from leanspike.train import read_log

MakeRun = Callable[..., Path]

OUT = Path("results/length")


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    """Two seeds of a short training, one longer, and one that was only converted."""
    return [
        make_run("length-short-0", "snn.0.epochs=1"),
        make_run("length-short-1", "snn.0.epochs=1", "seed=1"),
        make_run("length-long-0", "snn.0.epochs=9", "model.options.width=0.5", noise=True),
        make_run("converted", "snn=[]", "model={name: mlp, options: {inputs: 64}}"),
    ]


def test_a_study_says_in_what_the_runs_differ(runs: list[Path]) -> None:
    study = keep(runs, OUT, "Longer and shorter")
    assert study == read_study(OUT)
    assert study.title == "Longer and shorter"
    assert study.base == load_recipe(runs[0] / "recipe.yaml").model_dump(mode="json")
    assert study.runs == ["short-0", "short-1", "long-0", "converted-0"]
    assert [study.variants[name].changes for name in ("short", "long")] == [
        (),
        ("model.options.width=0.5", "snn.0.epochs=9"),
    ]
    assert study.variants["short"].seeds == {0: (), 1: ()}
    assert study.repeats("long-0", OUT) == "leanspike train results/length/long-0.json"
    assert study.repeats("converted-0", OUT).startswith("leanspike convert results/")
    names = [path.name for path in sorted(OUT.iterdir())]
    assert names == [
        "converted-0.json",
        "long-0.json",
        "short-0.json",
        "short-1.json",
        "study.yaml",
    ]


def test_recipes_results_and_logs_are_what_they_were(runs: list[Path]) -> None:
    keep(runs, OUT)
    for folder, run in zip(runs, read_study(OUT).runs, strict=True):
        path = OUT / f"{run}.json"
        assert load_recipe(path) == load_recipe(folder / "recipe.yaml")
        found, before = load_kept(path), load_result(folder / "result.json")
        assert found.history == read_log(folder / "log.jsonl")
        assert found.result.example is None
        assert found.result.mistakes is not None
        assert found.result.mistakes.first[0].picture is None
        same = {"example": None, "mistakes": found.result.mistakes}
        assert found.result == before.model_copy(update=same)
        calibration = folder / "calibration.json"
        kept = read_kept(path).calibration
        assert kept == (json.loads(calibration.read_text()) if calibration.is_file() else None)


def test_a_file_is_smaller_than_the_runs_and_says_no_recipe(runs: list[Path]) -> None:
    keep(runs, OUT)
    text = (OUT / "long-0.json").read_text("utf-8")
    assert '"recipe":{' not in text
    files = [path for path in runs[2].iterdir() if path.suffix != ".html"]
    assert len(text) < 0.7 * sum(path.stat().st_size for path in files)


def test_noise_is_kept_without_its_picture(runs: list[Path]) -> None:
    keep(runs, OUT)
    found, before = find_robustness(OUT / "long-0.json"), find_robustness(runs[2])
    assert found == before.model_copy(update={"sample": None})
    with pytest.raises(LeanspikeError, match=r"short-0.json holds no robustness; it was not"):
        find_robustness(OUT / "short-0.json")


def test_seeds_may_differ_in_more_than_the_seed(make_run: MakeRun) -> None:
    runs = [
        make_run(f"splits-{seed}", f"data.cross_validation=[{seed + 1}, 5]", f"seed={seed}")
        for seed in (0, 1)
    ]
    study = keep(runs, Path("results/splits"))
    assert study.variants["base"].seeds == {0: (), 1: ("data.cross_validation=[2, 5]",)}
    assert "    seeds:\n      0: []\n      1:\n      - data.cross_validation=[2, 5]\n" in (
        Path("results/splits/study.yaml").read_text("utf-8")
    )


def test_the_run_called_as_the_study_is_the_base(make_run: MakeRun) -> None:
    runs = [make_run("digits-short", "snn.0.epochs=1"), make_run("digits", "snn.0.epochs=9")]
    study = keep(runs, Path("results/digits"))
    assert study.base["snn"][0]["epochs"] == 9
    assert study.variants["short"].changes == ("snn.0.epochs=1",)


def test_a_recipe_of_before_stays_in_the_result(make_run: MakeRun) -> None:
    folder = make_run("old")
    text = (folder / "result.json").read_text()
    data = json.loads(text)
    data["provenance"]["recipe"]["distill"] = {"weight": 0.5}
    (folder / "result.json").write_text(json.dumps(data))
    keep([folder], OUT)
    kept = load_kept(OUT / "old-0.json").result
    assert kept.provenance.recipe == data["provenance"]["recipe"]
    assert kept.provenance == load_result(folder / "result.json").provenance


def test_more_runs_join_a_study_whose_words_stay(runs: list[Path], make_run: MakeRun) -> None:
    keep(runs[:2], OUT, "Length")
    before = (OUT / "short-0.json").read_bytes()
    path = OUT / "study.yaml"
    text = path.read_text("utf-8").replace("train {run}", "train mine seed={seed}")
    path.write_text("notes: |\n  One.\n\n  Two: three.\n" + text, "utf-8")
    with pytest.raises(LeanspikeError, match=r"also keeps short-0; name results/length among"):
        keep([runs[2]], OUT)
    study = keep([OUT, runs[2], make_run("length-short-2", "snn.0.epochs=1", "seed=2")], OUT)
    assert study == read_study(OUT)
    assert (study.title, study.notes) == ("Length", "One.\n\nTwo: three.\n")
    assert study.runs == ["short-0", "short-1", "short-2", "long-0"]
    assert study.repeats("short-2", OUT) == "leanspike train mine seed=2"
    assert (OUT / "short-0.json").read_bytes() == before
    assert len(load_finished(OUT)) == len(load_finished(path)) == 4


@pytest.mark.parametrize("name", ["1e5", "null", "a b+c", "-.hidden", "größer"])
def test_any_folder_makes_a_variant(make_run: MakeRun, name: str) -> None:
    study = keep([make_run("first"), make_run(name, "name=1e-4x", "description='x: 1e-4'")], OUT)
    assert study == read_study(OUT)
    (variant,) = [variant for variant in study.variants if variant != "first"]
    assert variant == re.sub(r"[ +]", "-", name).lstrip("-.")
    assert load_recipe(OUT / f"{variant}-0.json").description == "x: 1e-4"


@pytest.mark.parametrize("value", ["null", "[a", "a: b", "2", " x", "two\nlines", "=", ""])
def test_any_text_comes_back(make_run: MakeRun, value: str) -> None:
    """As a change of a base, and as the base."""
    change = f"description={json.dumps(value)}"
    keep([make_run("first", "description=other"), make_run("second", change)], OUT)
    assert load_recipe(OUT / "second-0.json").description == value
    keep([Path("runs/second")], Path("results/alone"))
    assert load_recipe("results/alone/second-0.json").description == value


def test_two_runs_of_one_name_are_told_apart_by_nobody(make_run: MakeRun) -> None:
    runs = [make_run("a"), make_run("a-0")]
    with pytest.raises(
        LeanspikeError, match=r"^runs/a and runs/a-0 are both a-0; rename one folder$"
    ):
        keep(runs, OUT)
    assert not OUT.exists()
    runs[1].rename("runs/b")
    assert keep([runs[0], Path("runs/b")], OUT).runs == ["a-0", "b-0"]


def test_what_is_no_study_is_not_written_into(make_run: MakeRun) -> None:
    run = make_run("a")
    with pytest.raises(LeanspikeError, match=r"^runs/a is not empty, but not a study; choose"):
        keep([run], run)
    assert not (run / "study.yaml").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("result.json", None, r"no result at runs/a/result.json"),
        ("calibration.json", "[1", r"^runs/a/calibration.json is damaged \(.*\); remove it$"),
        ("calibration.json", "3", r"^runs/a/calibration.json is damaged \(.*\); remove it$"),
        ("robustness.json", "{}", r"robustness.json holds no robustness"),
        ("recipe.yaml", None, r"runs/a is not a run of leanspike"),
    ],
)
def test_a_damaged_run_is_not_kept(
    make_run: MakeRun, name: str, text: str | None, message: str
) -> None:
    path = make_run("a") / name
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(LeanspikeError, match=message):
        keep([Path("runs/a")], OUT)
    assert not OUT.exists()
