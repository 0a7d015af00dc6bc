"""The command line as a user meets it: every command, every recipe shortened, every mistake."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from leanspike import native
from leanspike.cli import main
from leanspike.data import load_dataset
from leanspike.evaluation import load_result, picture_of
from leanspike.models import create_model
from leanspike.recipes import load_recipe, recipes

SHORT = [
    *("data.name=synthetic", "data.root=null", "data.mean=null", "data.std=null"),
    *("data.validation=null", "data.train_images=null"),
    *("ann.epochs=1", "ann.batch_size=32"),
    *("spike.timesteps=2", "spike.calibrate.images=16"),
]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str) -> Done:
    """Run a command line in this process."""
    code = 0
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def shortened(name: str, folder: Path) -> list[str]:
    """Overrides that make a recipe small: synthetic images, a narrow network, one epoch."""
    recipe = load_recipe(name)
    changes = [c for c in SHORT if recipe.ann is not None or not c.startswith("ann.")]
    for number in range(len(recipe.snn)):
        changes += [f"snn.{number}.epochs=1", f"snn.{number}.batch_size=64"]
    if recipe.data.name in ("mnist", "digits"):
        changes[0] = "data.name=synthetic_grey"
    if recipe.model.name == "cifar_resnet20":
        torch.save(create_model("cifar_resnet20", 10).state_dict(), folder / "weights.pt")
        changes.append(f"model.weights={folder / 'weights.pt'}")
    else:
        changes.append("model.options.width=0.125")
    return changes


OTHERS = ("diet_", "bntt_", "kdsnn_", "taught_")
"""Theirs is tests/test_recipes.py: the papers', and those whose teacher is no run of ours."""


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("name", [name for name in recipes() if not name.startswith(OTHERS)])
def test_every_recipe_runs_shortened(name: str, tmp_path: Path) -> None:
    done = command("train", name, *shortened(name, tmp_path), "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert {"ann_accuracy", "snn_accuracy", "timesteps", "energy_ratio", "report"} <= set(answer)
    assert 0 <= answer["snn_accuracy"] <= 1
    assert answer["timesteps"] == 2
    ratios = ("energy_ratio", "formula_energy_ratio", "bntt_formula_energy_ratio")
    assert all(answer[ratio] > 0 for ratio in ratios)
    assert Path(answer["report"]).read_text().startswith("<!DOCTYPE html>")
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    done = command(
        *("train", "digits", "ann.epochs=2", "snn.0.epochs=1", "model.options.width=0.25"),
        *("--out", str(folder)),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_finished_run_is_not_trained_again(run: Path) -> None:
    before = (run / "snn" / "model.safetensors").stat().st_mtime_ns
    done = command(
        *("train", "digits", "ann.epochs=2", "snn.0.epochs=1", "model.options.width=0.25"),
        *("--out", str(run)),
    )
    assert "is complete" in done.stderr
    assert json.loads(done.stdout)["snn_accuracy"] > 0.2
    assert (run / "snn" / "model.safetensors").stat().st_mtime_ns == before


def test_evaluate_and_report_give_the_same_answer_again(run: Path) -> None:
    first = json.loads((run / "result.json").read_text())
    (run / "report.html").unlink()
    written = command("report", str(run))
    assert (run / "report.html").is_file()
    (run / "result.json").unlink()
    again = command("evaluate", str(run))
    before, after = json.loads(written.stdout), json.loads(again.stdout)
    for batch in ("time_ratio_batch_1", "time_ratio_batch_64"):  # times are measured anew
        assert before.pop(batch) > 0
        assert after.pop(batch) > 0
    assert before == after
    second = json.loads((run / "result.json").read_text())
    for key in ("accuracy", "ann_accuracy", "neurons", "energy", "operations", "mistakes"):
        assert first[key] == second[key]


def test_evaluate_measures_times_and_the_report_shows_them(run: Path) -> None:
    done = command("evaluate", str(run))
    assert "timing SNN and ANN on this machine" in done.stderr
    assert "What it costs and brings, T = 5" in done.stderr
    assert "arithmetic only: no memory traffic, no static power; no chip was" in done.stderr
    result = load_result(run / "result.json")
    assert result.times is not None
    assert [row.batch for row in result.times.batches] == [1, 64]
    answer = json.loads(done.stdout)
    for row in result.times.batches:
        assert row.ratio is not None
        assert answer[f"time_ratio_batch_{row.batch}"] == round(row.ratio.median, 3)
        assert 0 < row.snn_ms.low <= row.snn_ms.median <= row.snn_ms.high
    command("report", str(run))
    page = (run / "report.html").read_text()
    for words in ("Time of 64 images, measured", "as long on this CPU", "no chip was measured"):
        assert words in page
    assert "times" in result.provenance.seconds


def test_a_run_shows_what_it_gets_wrong(run: Path) -> None:
    result = load_result(run / "result.json")
    found = result.mistakes
    assert found is not None
    assert found.both is not None
    assert found.snn_only + found.both == round((1 - result.accuracy[-1]) * result.n)
    test = load_dataset("digits").test
    for mistake in found.first:
        assert mistake.picture is not None
        pixels, label = test.batch(torch.tensor([mistake.index]))
        assert mistake.label == int(label)
        assert mistake.picture == picture_of(pixels[0])
    page = (run / "report.html").read_text()
    assert "What they get wrong" in page
    assert f"Only the SNN is wrong: {found.snn_only} image" in page


def test_a_result_says_what_trained_it_and_what_evaluated_it(run: Path) -> None:
    result = load_result(run / "result.json")
    origin = result.provenance
    assert (result.split, origin.seed) == ("test", 0)
    assert str(origin.command).startswith("leanspike ")
    assert origin.backend == ("native" if native.is_built() else "reference")
    assert list(origin.backends) == ["train ann", "calibrate", "train snn T=5"]
    dtype, *_ = origin.backends["train ann"].split(", ")  # convolutions may be native, too
    assert dtype in ("float32", "bfloat16")
    words = filter(None, (dtype, origin.backend, origin.instructions))
    assert origin.backends["train snn T=5"] == ", ".join(words)
    assert origin.versions["scikit-learn"]  # which the data came from


@pytest.mark.usefixtures("unrendered")
def test_convert_shows_the_thresholds_and_leaves_the_ann_alone(run: Path, tmp_path: Path) -> None:
    done = command(
        *("convert", "digits", "ann.epochs=2", "model.options.width=0.25"),
        *("--ann", str(run / "ann"), "--out", str(tmp_path / "converted")),
    )
    assert done.returncode == 0, done.stderr
    assert "features.relu1" in done.stderr
    assert "thresholds (scale" in done.stderr
    ours = json.loads(done.stdout.splitlines()[-1])
    assert ours["ann_accuracy"] == json.loads((run / "result.json").read_text())["ann_accuracy"]


@pytest.mark.usefixtures("unrendered")
def test_train_begins_with_an_ann_that_is_there(run: Path, tmp_path: Path) -> None:
    done = command(
        *("train", "digits", "model.options.width=0.25", "snn.0.epochs=0"),
        *("--ann", str(run / "ann"), "--out", str(tmp_path / "again")),
    )
    assert done.returncode == 0, done.stderr
    ours = json.loads((tmp_path / "again" / "result.json").read_text())
    assert "train ann" not in ours["provenance"]["seconds"]
    assert ours["provenance"]["recipe"]["model"]["weights"] == str(run / "ann")
    assert ours["ann_accuracy"] == json.loads((run / "result.json").read_text())["ann_accuracy"]


@pytest.mark.usefixtures("unrendered")
def test_train_takes_over_the_ann_of_a_run_by_its_folder(run: Path, tmp_path: Path) -> None:
    line = ("digits", "ann.epochs=2", "model.options.width=0.25", "--ann", str(run))
    done = command("train", *line, "snn.0.epochs=0", "--out", str(tmp_path / "taken"))
    assert done.returncode == 0, done.stderr
    ours, theirs = (load_result(folder / "result.json") for folder in (tmp_path / "taken", run))
    assert ours.provenance.ann_from == str(run)
    assert ours.provenance.seconds["train ann"] == theirs.provenance.seconds["train ann"]
    assert ours.ann_accuracy == theirs.ann_accuracy
    refused = command("convert", *line, "seed=1", "--out", str(tmp_path / "other"))
    assert refused.returncode == 1
    assert "has not the ANN of this recipe: seed is 0 there and 1 here" in refused.stderr


def test_evaluate_measures_leaving_early(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    rules = ["--early-exit", "margin", "--early-exit", "entropy", "--max-drop", "1"]
    done = command("evaluate", str(tmp_path / "run"), *rules)
    assert done.returncode == 0, done.stderr
    exits = json.loads(done.stdout.splitlines()[-1])["early_exit"]
    assert list(exits) == ["margin", "entropy"]
    assert all(1 <= found["mean_steps"] <= 5 for found in exits.values())
    assert "Early exit, measured on" in done.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Leaving early" in page
    assert "Who leaves when, by margin" in page
    result = load_result(tmp_path / "run" / "result.json")
    assert [early.max_drop for early in result.early_exit] == [0.01, 0.01]
    assert result.early_exit[0].validation_n == 144


@pytest.mark.usefixtures("unrendered")
def test_evaluate_without_the_recipes_early_exit(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("early_exit: []", "early_exit: [margin]"))
    assert "early_exit" in json.loads(command("evaluate", str(tmp_path / "run")).stdout)
    done = command("evaluate", str(tmp_path / "run"), "--early-exit", "none")
    assert done.returncode == 0, done.stderr
    assert load_result(tmp_path / "run" / "result.json").early_exit == ()


def test_robustness_is_measured_beside_other_runs(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "taught")
    done = command(
        *("robustness", str(tmp_path / "taught"), "--limit", "20"),
        *("--beside", str(run)),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert list(answer["clean"]) == ["ANN", "taught", "run"]
    errors = answer["mean_corruption_error"]["leanspike"]
    assert errors["taught"] == errors["run"]
    assert answer["corruptions"] == {"leanspike": 10}
    assert len(answer["attacks"]["fgsm"]["ANN"]) == 4
    page = Path(answer["page"]).read_text()
    assert "Mean corruption error" in page
    assert page.count("<svg") == 2
    done = command("robustness", str(run), "--common")
    assert "images are [1, 8, 8]; the common corruptions take [3, H, W] of at least" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digit"], "no recipe 'digit'; did you mean 'digits'?"),
        (["train", "digits", "sed=1"], "unknown key sed; did you mean 'seed'?"),
        (["train", "digits", "model.name=vgg99"], "no model 'vgg99'; did you mean 'vgg9'?"),
        (["train", "digits", "device=tpu"], "device 'tpu' is not available"),
        (["train", "cifar10", "data.root=nowhere"], "nowhere"),
        (["train", "digits", "spike.encode=frames"], "digits has images; set spike.encode to"),
        (["train", "digits", "data.augment.drop=0.1"], "digits has images; shift and drop are"),
        (["train", "digits", "snn.0.objective=[]"], "name at least one of cross_entropy, tet"),
        (["evaluate", "nowhere"], "nowhere is not a run of leanspike (no recipe.yaml in it)"),
        (["report", "nowhere"], "no result at nowhere/result.json"),
        (["convert", "digits", "--ann", "nowhere"], "no weights at nowhere; train that network"),
        (["train", "digits", "evaluate.early_exit=[gamma]"], "digits: early exit by gamma goes by"),
        (["train", "digits", "--ann", "."], "no model in ."),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


NOTHING = ("digits", "ann=null", "model.options.width=0.25", "snn=[]")


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("train", (), "(no ann to train, no model.weights, no stage of snn); give --ann FOLDER"),
        ("convert", (), "(no ann to train, no model.weights, no stage of snn); give --ann FOLDER"),
        (
            "train",
            ("ann={epochs: 0}", "snn=[{epochs: 0}]"),
            "(ann.epochs is 0, no model.weights, no",
        ),
        (
            "train",
            ("spike.start=scratch",),
            "scratch, no stage of snn); set spike.start=ann with a",
        ),
    ],
)
def test_nothing_that_is_untrained_is_measured_unasked(
    name: str, changes: tuple[str, ...], why: str, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "untrained"
    done = command(name, *NOTHING, *changes, "--out", str(folder))
    assert done.returncode == 1
    assert "nothing is trained" in done.stderr
    assert why in done.stderr
    assert done.stderr.endswith("or --untrained to measure it so\n")
    assert not folder.exists()
    ann = ("--ann", str(run / "ann"), "spike.start=ann")  # as the message says
    done = command(name, *NOTHING, *changes, *ann, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert "nothing was trained" not in done.stderr


def test_what_is_untrained_says_so_and_promises_no_energy(tmp_path: Path) -> None:
    folder = tmp_path / "untrained"
    done = command("train", *NOTHING, "--untrained", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, command("evaluate", str(folder)).stderr):
        assert "nothing was trained (no ann to train, no model.weights, no stage of snn)" in text
        words = " ".join(text.split())
        assert "correctly, which is at chance: guessing gives 1" in words
        assert "× less" not in words
    assert json.loads(done.stdout.splitlines()[-1])["at_chance"] is True
    page = (folder / "report.html").read_text()
    assert "says nothing: the accuracy is at chance" in page
    assert "Energy, counted" not in page
    assert "× less" not in page


def test_fresh_replaces_a_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    done = command("train", "digits", "--out", str(tmp_path), "--fresh")
    assert done.returncode == 1
    assert "--fresh does not remove it" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("name", ["train", "convert", "evaluate", "report", "recipes"])
def test_each_help_teaches(name: str) -> None:
    assert name in command("--help").stdout
    page = command(name, "--help").stdout
    assert len(page.splitlines()) > 8


def test_the_installed_command_runs() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("leanspike"), "recipes"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "digits" in json.loads(done.stdout)
    assert "Quickstart" in done.stderr


def test_recipes_says_what_each_key_takes() -> None:
    told = command("recipes", "--keys")
    keys = json.loads(told.stdout)
    assert len(told.stdout.splitlines()) == 1
    assert keys["snn.N.learning_rate"]["type"] == "number > 0"
    assert "ann, snn.N" in told.stderr
    wrong = command("recipes", "digits", "--keys")
    assert wrong.returncode == 1
    assert wrong.stderr == "error: --keys lists the keys of every recipe; leave digits out\n"


def test_recipes_lists_and_prints(tmp_path: Path) -> None:
    listed = command("recipes")
    assert set(json.loads(listed.stdout)) == set(recipes())
    path = tmp_path / "mine.yaml"
    path.write_text(command("recipes", "digits").stdout)
    assert load_recipe(path) == load_recipe("digits")


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("leanspike.run.Run.train", stopped)
    done = command("train", "digits", "--out", str(tmp_path / "run"))
    assert done.returncode == 130
    assert "stopped; the same command, without --fresh, resumes the run" in done.stderr


def test_ctrl_c_promises_nothing_of_commands_that_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("leanspike.cli._work", stopped)
    done = command("recipes")
    assert done.returncode == 130
    assert done.stderr.strip() == "stopped"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--beside", "RUN", "--limit", "5"), "--limit 5"),
        (("--robustness", "--common"), "robustness is a command of its own: leanspike robustness"),
        (("--metric", "calibration"), "did you mean 'calibration_error'?"),
        (("--max-drop", "1"), "but there is no early exit; name a rule"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    arguments: tuple[str, ...], why: str, run: Path
) -> None:
    done = command("evaluate", str(run), *(a.replace("RUN", str(run)) for a in arguments))
    assert done.returncode == 1
    assert why in done.stderr
