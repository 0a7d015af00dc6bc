"""``leanspike export nir``: a run's SNN in a file, and what its reader makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from leanspike import from_nir
from leanspike.cli import app, main
from leanspike.commands.export import NIRTarget
from leanspike.export.targets import TARGETS
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.train import Monitor

pytest.importorskip("nir")
RECIPE = [
    *("data.name=synthetic", "data.root=null", "data.mean=null", "data.std=null"),
    *("model.options={layers: [4, A, 4, A], head: [], pool: avg, dropout_conv: 0.0}",),
    *("ann=null", "snn=[]", "spike.timesteps=3", "spike.norm=keep"),
    *("spike.neuron.reset=hard", "spike.neuron.initial=zero", "spike.calibrate.images=16"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "synthetic"
    made = Run(load_recipe("digits", RECIPE), folder, Monitor(Console(quiet=True)))
    made.begin()
    made.train_ann()
    made.convert()
    made.train_snn()
    return folder


def answered(*arguments: str) -> tuple[dict, str]:
    done = CliRunner().invoke(app, ["export", "nir", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_file_is_written_and_read_back(run):
    pytest.importorskip("spikingjelly")
    answer, told = answered(str(run), "--target", "spikingjelly", "--verify", "--limit", "32")
    assert answer["file"] == str(run / "snn-spikingjelly.nir")
    assert answer["mismatches"] == 0
    assert answer["images"] == 32
    assert answer["accuracy"] == answer["target_accuracy"]
    assert "spikes that SpikingJelly computes otherwise" in told
    assert "features.relu1" in told
    assert from_nir(answer["file"]).timesteps == 3


def test_without_a_reader_it_says_so(run, tmp_path):
    answer, told = answered(str(run), "--target", "lava", "--out", str(tmp_path / "net.nir"))
    assert answer == {"file": str(tmp_path / "net.nir"), "target": "lava"}
    assert "not read back; read it with nir_to_lava.import_from_nir" in told


def test_where_no_reader_is_installed_the_cost_is_computed_by_the_rules(run, tmp_path):
    options = "--target", "speck", "--approximate", "--limit", "16"
    answer, told = answered(str(run), *options, "--out", str(tmp_path / "net.nir"))
    assert answer["by_rules"]
    assert (answer["images"], answer["target"]) == (16, "speck")
    assert answer["mismatches"] > 0
    assert "accuracy: leanspike" in told
    assert "Speck (by its rules, not read back)" in told
    assert "not read back; read it with sinabs.from_nir as above" in told


def test_what_the_target_lacks_is_refused_in_one_line(run, capsys):
    with pytest.raises(SystemExit):
        main(["export", "nir", str(run), "--target", "sinabs"])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert 'train with reset="soft" (spike.neuron.reset=soft), or write an approximation' in told
    assert not (run / "snn-sinabs.nir").exists()


def test_a_target_without_a_reader_here_cannot_be_verified(run, capsys):
    with pytest.raises(SystemExit):
        main(["export", "nir", str(run), "--target", "lava", "--verify"])
    told = capsys.readouterr().err
    assert told.startswith("error: no reader of Lava is on PyPI")
    assert "verify one of norse, spikingjelly, snntorch" in told
    with pytest.raises(SystemExit):
        main(["export", "nir", str(run), "--target", "sinabs", "--approximate", "--verify"])
    assert "sinabs wants an older nir than leanspike" in capsys.readouterr().err


def test_the_targets_of_the_command_are_those_of_the_table():
    assert {target.value for target in NIRTarget} == set(TARGETS)
