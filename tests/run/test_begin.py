"""How a run begins: what does not fit is found before anything is trained, written or removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run, open_run
from leanspike.run.workspace import HOLDER, LOCK
from leanspike.temporal import TemporalDropout
from leanspike.train import Monitor

SMALL = ("model.options.layers=[8, 8, A]", "model.options.head=[]", "ann.epochs=1", "snn=[]")
TAUGHT = "snn=[{epochs: 1, objective: [response]}]"
WITHOUT = ("model.options.dropout_conv=0.0", "model.options.dropout_linear=0.0")
BNTT = ("spike.norm=bntt", "spike.calibrate=null")
QUIET = Monitor(Console(quiet=True))


def make(folder: Path, *changes: str) -> Run:
    recipe = load_recipe("digits", [*SMALL, *changes])
    return Run(recipe, folder, Monitor(Console(quiet=True), folder))


def said(folder: Path, *changes: str) -> str:
    """What a run prints while it begins."""
    console = Console(file=(words := StringIO()))
    Run(load_recipe("digits", [*SMALL, *changes]), folder, Monitor(console)).begin()
    return words.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    run = make(folder)
    run.begin()
    run.train_ann()
    run.convert()
    return folder


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (BNTT, "the batch norm has a trained shift, .*spike.norm_options.bias=true"),
        (
            (*BNTT, "model.options.batch_norm=false", "evaluate.early_exit=[gamma]"),
            "norm: this network has no batch norm behind its first neurons",
        ),
        (
            (*BNTT, "spike.start=scratch", "snn=[{epochs: 1, timesteps: 8}]"),
            "BNTT has parameters for 5 timesteps and is asked for 8",
        ),
        (
            (
                "model={name: mlp, options: {hidden: [8]}}",
                "snn=[{epochs: 1, objective: [feature]}]",
            ),
            "the student has no feature maps",
        ),
        (("teacher={model: {name: mlp, weights: FIRST/ann}}",), "the recipe's teacher: .*not fit"),
        (("teacher={model: {weights: FIRST}}",), "FIRST is a whole run; give its network, as"),
        (
            ("ann=null", "model.weights=FIRST/start"),
            "spikes already; give the ANN it was",
        ),
        (("teacher={model: {weights: FIRST/ann, options: {width: 2}}}",), "options without a name"),
        (("data.augment.shift=1",), "shift and drop are for events"),
        (("snn=[{epochs: 1, dropout: 0.2}]", *WITHOUT), "dropout is 0.2, and the network has no"),
        (
            ("snn=[{epochs: 1, schedule: step, period_epochs: 4}]",),
            r"key snn\.0\.schedule\.period_epochs; step has milestones$",
        ),
        (
            ("snn=[{epochs: 1, lookahead: {steps: 1000}}]",),
            r"lookahead\.steps is 1000, and the stage has \d+ steps, .*; set lookahead\.steps to ",
        ),
        (("ann.milestones=[1]",), r"key ann\.schedule\.milestones; linear has no options$"),
        (
            ("data.validation=0",),
            "ann.select is 'best', by the accuracy on held-out images, but digits holds out none; "
            "set ann.select=last, or data.validation=143",
        ),
        (
            ("data.validation=0", "ann.select=last", "snn=[{epochs: 0}, {epochs: 1}]"),
            r"snn\.1\.select is 'best'.* set snn\.1\.select=last, or data\.validation=143",
        ),
    ],
)
def test_what_does_not_fit_is_found_before_anything_is_written(
    changes: tuple[str, ...], why: str, trained: Path, tmp_path: Path
) -> None:
    changes = tuple(change.replace("FIRST", str(trained)) for change in changes)
    with pytest.raises(LeanspikeError, match=why.replace("FIRST", str(trained))):
        make(tmp_path / "run", *changes).begin()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        # the ANN's trained shift is not the scratch SNN's; it teaches alone
        (*BNTT, "spike.start=scratch", "ann=null", "model.weights=FIRST/ann", TAUGHT),
        # nobody is taught, so no teacher is missed
        ("teacher={model: {weights: nowhere}}", "ann=null", "model.weights=FIRST/ann"),
        # as the refusal of "best" says; without epochs there is nothing to select
        ("data.validation=0", "ann.select=last", "snn=[{epochs: 0}]"),
        ("data.validation=143",),
        # no training, no shift
        (*BNTT, "ann.epochs=0"),
        (
            *("model={name: torchvision/regnet_x_400mf}", "data.name=synthetic", "ann.epochs=0"),
            "spike.calibrate.images=8",
        ),
    ],
)
def test_what_fits_is_let_through(changes: tuple[str, ...], trained: Path, tmp_path: Path) -> None:
    run = make(tmp_path, *(change.replace("FIRST", str(trained)) for change in changes))
    run.begin()
    run.train_ann()
    run.convert()
    assert (tmp_path / "start").exists()


def test_a_stage_has_its_dropout_and_leaves_the_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[float]] = []

    def fit(network: nn.Module, *_: object) -> None:
        layers = (m for m in network.modules() if isinstance(m, nn.Dropout | TemporalDropout))
        rates.append([layer.p for layer in layers])

    monkeypatch.setattr("leanspike.run.steps.training.fit", fit)
    own = "model.options={layers: [8, 8], head: [8], dropout_conv: 0.2, dropout_linear: 0.5}"
    stages = "snn=[{epochs: 1, dropout: 0.1}, {epochs: 1}, {epochs: 1, dropout: 0.0}]"
    run = Run(load_recipe("digits", [own, stages]), tmp_path, QUIET)
    run.begin()
    run.train_ann()
    run.convert()
    run.train_snn()
    assert rates == [[0.2, 0.2, 0.5], [0.1, 0.1, 0.1], [0.2, 0.2, 0.5], [0.0, 0.0, 0.0]]


def test_early_exit_without_images_to_choose_it_by_is_refused(tmp_path: Path) -> None:
    few = make(tmp_path / "few", "evaluate.early_exit=[margin]", "ann.select=last")
    none = few.data.val.select(torch.arange(0))  # as of a folder of a few images
    few.assembly.data = replace(few.data, val=none)
    why = r"chosen on held-out images, but digits holds out none; set data\.validation=129, or eval"
    with pytest.raises(LeanspikeError, match=why):
        few.rehearse()


def test_what_is_there_already_is_not_asked_for_again(trained: Path, tmp_path: Path) -> None:
    weights = shutil.copytree(trained / "ann", tmp_path / "ann")
    changes = "ann=null", f"model.weights={weights}"
    run = make(tmp_path / "run", *changes)
    run.begin()
    run.train_ann()
    shutil.rmtree(weights)
    again = make(tmp_path / "run", *changes)
    again.begin()
    assert again.convert() is not None


def test_a_fresh_run_removes_the_old_one_only_when_it_fits(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = make(folder)
    run.begin()
    run.train_ann()
    with pytest.raises(LeanspikeError, match="trained shift"):
        make(folder, *BNTT).begin(fresh=True)
    weights = f"model.weights={folder / 'ann'}"
    with pytest.raises(LeanspikeError, match=r"--fresh would remove .*, which this run needs"):
        make(folder, weights, "ann=null").begin(fresh=True)
    assert open_run(folder, QUIET).load("ann")
    assert open_run(folder, QUIET).history
    make(folder, "seed=1").begin(fresh=True)
    kept = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, HOLDER))
    assert kept == ["data.json", "recipe.yaml"]


def test_a_folder_of_weights_says_of_which_network_it_is(trained: Path, tmp_path: Path) -> None:
    teacher = f"teacher={{model: {{weights: {trained / 'ann'}}}}}"
    run = make(tmp_path / "run", teacher, "snn=[{epochs: 0, objective: [response]}]")
    run.begin()
    assert type(run.teacher().network).__name__ == "VGG"
    assert "the recipe's teacher is not used" in said(
        tmp_path / "idle", teacher, "snn=[{epochs: 0}]"
    )
    assert "the recipe's teacher is not used" not in said(tmp_path / "busy", teacher, TAUGHT)
    weights = tmp_path / "file.pt"
    weights.touch()
    with pytest.raises(LeanspikeError, match=r"file\.pt does not name its network"):
        make(tmp_path / "other", f"teacher={{model: {{weights: {weights}}}}}").begin()


@pytest.mark.parametrize(
    ("name", "content", "use"),
    [
        ("seconds.json", "{", lambda run: run.train_ann()),
        ("seconds.json", "[]", lambda run: run.train_ann()),
        ("backends.json", "[]", lambda run: run.train_ann()),
        ("macs.json", "[]", lambda run: run.train_ann()),
        ("data.json", "{}", lambda run: run.begin()),
        ("log.jsonl", "{}\nx\n", lambda run: run.train_ann()),
        ("recipe.yaml", "", lambda run: run.begin()),
        ("recipe.yaml", "7", lambda run: run.begin()),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    name: str, content: str, use: Callable[[Run], object], tmp_path: Path
) -> None:
    run = make(tmp_path)
    run.begin()
    (tmp_path / name).write_text(content)
    with pytest.raises(LeanspikeError, match=name) as error:
        use(run)
    assert "\n" not in str(error.value)
