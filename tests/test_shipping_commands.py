"""``leanspike export onnx`` and ``leanspike neurobench``, of a small run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from leanspike.cli import app
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.train import Monitor

RECIPE = [
    *("data.name=synthetic", "data.root=null", "data.mean=null", "data.std=null"),
    *("model.options={layers: [4, A, 4, A], head: [], dropout_conv: 0.0}", "ann=null", "snn=[]"),
    *("spike.timesteps=2", "spike.calibrate.images=16"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "synthetic"
    made = Run(load_recipe("digits", RECIPE), folder, Monitor(Console(quiet=True)))
    made.begin()
    made.train_ann()
    made.convert()
    made.train_snn()
    return folder


def answered(*arguments: str) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_neurobench_and_leanspike_stand_side_by_side(run: Path) -> None:
    found, told = answered("neurobench", str(run), "--limit", "10")
    assert (found["samples"], found["timesteps"]) == (10, 2)
    assert found["neurobench"]["accuracy"] == pytest.approx(found["leanspike"]["accuracy"])
    assert "NeuroBench" in told
    assert "activation sparsity" in told


@pytest.mark.slow
@pytest.mark.parametrize("one_step", [False, True])
def test_the_file_is_proven_on_test_images_and_says_what_it_needs(
    run: Path, one_step: bool, tmp_path: Path
) -> None:
    path = tmp_path / "snn.onnx"
    form = ["--one-step"] if one_step else []
    found, told = answered("export", "onnx", str(run), "--out", str(path), *form)
    assert (found["verified"], found["samples"], found["mismatching_spikes"]) == (True, 64, 0)
    assert found["file"] == str(path)
    assert "verified on 64 images: 0 of" in told
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert len(json.loads(about["classes"])) == 10
    assert len(json.loads(about["mean"])) == len(json.loads(about["std"])) == 3
    assert about["form"] == ("one_step" if one_step else "whole_sequence")


@pytest.mark.slow
def test_the_samples_may_be_fixed_and_the_proof_left_out(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "snn.onnx"
    options = "--batch", "3", "--timesteps", "1", "--no-verify"
    found, told = answered("export", "onnx", str(run), "--out", str(path), *options)
    assert (found["inputs"], found["outputs"]) == (
        {"input": [3, 3, 32, 32]},
        {"logits": [1, 3, 10]},
    )
    assert not found["verified"]
    assert "not verified" in told
