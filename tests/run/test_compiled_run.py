"""``leanspike compile`` on a run: the file answers as the SNN does, in whole numbers nearly so."""

from __future__ import annotations

import json

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from leanspike.cli import app
from leanspike.data import Loader
from leanspike.errors import LeanspikeError
from leanspike.execute import readout
from leanspike.recipes import load_recipe
from leanspike.run import Run, open_run
from leanspike.run.compiled import compile_run
from leanspike.train import Monitor
from leanspike_runtime import load

SMALL = [
    *("model.options.layers=[16, A, 32, A]", "model.options.head=[]"),
    *("ann.epochs=10", "snn.0.epochs=1"),
]
QUIET = Monitor(Console(quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of digits, small and short."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    run = Run(load_recipe("digits", SMALL), folder, QUIET)
    run.begin()
    run.train_ann()
    run.convert()
    run.train_snn()
    return folder


def accuracies(run, engine):
    """Of the SNN and of the engine, on the whole test set; and how many answers are alike."""
    data = run.data
    loader = Loader(data.test, batch_size=512, mean=data.mean, std=data.std, seed=0, train=False)
    ((images, labels),) = list(loader)
    with torch.no_grad():
        both = [readout(net(images), "sum")[-1].argmax(1) for net in (run.load("snn"), engine)]
    right = [(answers == labels).double().mean().item() for answers in both]
    return *right, (both[0] == both[1]).double().mean().item()


def test_float32_answers_as_the_network_and_whole_numbers_nearly_so(folder):
    run = open_run(folder, QUIET)
    snn, exact, alike = accuracies(run, compile_run(run).engine)
    assert snn > 0.4  # it has learnt something
    assert alike >= 0.997  # one of 359, where rounding flips a spike
    assert abs(snn - exact) < 0.003
    for weights, lost in (("int8", 0.02), ("int6", 0.04)):
        _, whole, alike = accuracies(run, compile_run(run, weights).engine)
        assert whole > snn - lost
        assert alike > 0.9


def test_the_command_writes_one_file_and_says_what_stayed(folder, tmp_path):
    out = tmp_path / "mine.leanspike"
    line = ["compile", str(folder), "--weights", "int8", "--out", str(out), "--explain"]
    told = CliRunner().invoke(app, line)
    assert told.exit_code == 0, told.output
    summary = json.loads(told.stdout.splitlines()[-1])
    assert summary["file"] == str(out)
    assert summary["bytes"] == out.stat().st_size
    assert summary["same_answers"] > 0.9 * summary["of"]
    assert "share of work" in told.stderr
    program = load(out)
    assert program.input.classes == tuple("0123456789")
    assert program.input.std is not None
    assert program.readout == "sum"
    told = CliRunner().invoke(app, ["compile", str(folder)])
    assert (folder / "digits.leanspike").is_file()


def test_a_run_without_an_snn_is_refused(tmp_path):
    bare = Run(load_recipe("digits", SMALL), tmp_path / "bare", QUIET)
    bare.begin()
    with pytest.raises(
        LeanspikeError, match="holds no trained SNN; finish it with leanspike train"
    ):
        compile_run(open_run(tmp_path / "bare", QUIET))
