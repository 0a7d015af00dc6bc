"""The SNN of another run, trained further by stages that the other run lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import LOG, Run, continued
from leanspike.run.clock import read_backends, read_macs, read_seconds
from leanspike.train import Checkpoints, Monitor, read_log

SMALL = (
    *("model.options.layers=[4, A]", "model.options.head=[]", "data.train_images=64"),
    *("ann.epochs=1", "ann.batch_size=32", "spike.calibrate.images=32", "device=cpu"),
    *("snn.0.epochs=2", "snn.0.batch_size=32", "evaluate.early_exit=[]"),
)
MORE = "snn.1={epochs: 2, batch_size: 16, learning_rate: 0.01, weights: int6, select: last}"


def make(folder: Path, *changes: str, snn_of: Path | None = None) -> Run:
    recipe = load_recipe("digits", [*SMALL, *changes])
    return Run(recipe, folder, Monitor(Console(quiet=True), folder), snn_of=snn_of)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    make(folder).train()
    return folder


def state(folder: Path) -> dict[str, torch.Tensor]:
    run = make(folder, MORE)
    return run.load("snn").state_dict()


def test_it_ends_with_the_bits_of_one_run_through_all_stages(first: Path, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", MORE).train()
    further = make(tmp_path / "further", MORE, snn_of=first).train()
    wanted, found = (state(tmp_path / name) for name in ("whole", "further"))
    assert list(wanted) == list(found)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    before = make(first).load("snn").state_dict()
    assert not all(torch.equal(before[name], found[name]) for name in before)
    assert further.accuracy == whole.accuracy
    assert further.energy == whole.energy
    assert further.provenance.macs == whole.provenance.macs
    stages = [
        [row["stage"] for row in read_log(tmp_path / name / LOG)] for name in ("whole", "further")
    ]
    assert stages[0] == stages[1] == ["ann", "snn T=5", "snn T=5", "snn T=5 (2)", "snn T=5 (2)"]
    phase = "train snn T=5"
    for read in (read_seconds, read_backends, read_macs):
        assert read(tmp_path / "further")[phase] == read(first)[phase]


@pytest.mark.parametrize("broken", ["write_seconds", "write_macs", "write_log", "save"])
def test_an_attempt_that_was_stopped_while_it_took_over_is_made_good(
    broken: str, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    run = make(tmp_path, MORE, snn_of=first)
    run.begin()
    run.train_ann()
    run.convert()
    with monkeypatch.context() as patched:
        patched.setattr(
            *((Checkpoints, "save") if broken == "save" else (continued, broken)), stopped
        )
        with pytest.raises(KeyboardInterrupt):
            run.train_snn()
    again = make(tmp_path, MORE, snn_of=first)
    again.begin()
    again.train_snn()
    rows = [row["stage"] for row in read_log(tmp_path / LOG)]
    assert rows == ["ann", "snn T=5", "snn T=5", "snn T=5 (2)", "snn T=5 (2)"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["seed=1"], "has not the SNN of this recipe: seed is 0 there and 1 here; leave --snn out"),
        (["spike.timesteps=3"], "spike.timesteps is 5 there and 3 here; leave --snn out"),
        (["snn.0.epochs=3"], r"another stage: snn\.0\.epochs is 2 there and 3 here; .*snn\.1="),
    ],
)
def test_another_snn_is_refused_by_its_first_difference(
    changes: list[str], why: str, first: Path, tmp_path: Path
) -> None:
    run = make(tmp_path / "run", *changes, MORE, snn_of=first)
    with pytest.raises(LeanspikeError, match=why):
        run.begin()
    assert not (tmp_path / "run").exists()


def test_without_one_more_stage_there_is_nothing_to_do(first: Path, tmp_path: Path) -> None:
    with pytest.raises(
        LeanspikeError, match=r"has trained all stages of this recipe; add one.*snn\.1="
    ) as told:
        make(tmp_path / "run", snn_of=first).begin()
    advised = str(told.value).rpartition(" in ")[2]
    make(tmp_path / "run", advised, snn_of=first).begin()


def test_a_run_that_has_not_ended_is_refused(tmp_path: Path) -> None:
    begun = make(tmp_path / "begun")
    begun.begin()
    begun.train_ann()
    with pytest.raises(LeanspikeError, match="no trained SNN yet; finish it with leanspike train"):
        make(tmp_path / "run", MORE, snn_of=tmp_path / "begun").begin()


def test_fresh_does_not_remove_the_run_that_it_needs(first: Path) -> None:
    with pytest.raises(LeanspikeError, match="--fresh would remove"):
        make(first, MORE, snn_of=first).begin(fresh=True)
