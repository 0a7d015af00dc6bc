"""The recipes of the papers: their settings, and each of them run from end to end in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from leanspike.config import Recipe
from leanspike.data import DATASETS, Parts, Source, TensorSplit, synthetic
from leanspike.errors import LeanspikeError
from leanspike.models import create_model
from leanspike.recipes import load_recipe, recipes
from leanspike.run import Run
from leanspike.run.build import build_norm, open_data
from leanspike.saved import load
from leanspike.temporal import TemporalDropout
from leanspike.train import Monitor, Stage, create_schedule

DIET = [name for name in recipes() if name.startswith("diet_")]
BNTT = [name for name in recipes() if name.startswith("bntt_")]
KDSNN = [name for name in recipes() if name.startswith("kdsnn_")]
TAUGHT = [name for name in recipes() if name.startswith("taught_")]
# What the authors' code normalises with, DIET-SNN's each data set, BNTT's both with the first.
CODE_PIXELS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
STEPS, BATCH, HELD_OUT = 2, 4, 4
IMAGES = STEPS * BATCH + HELD_OUT


def write_images(root: Path) -> None:
    """ImageNet's layout, two classes."""
    random = np.random.default_rng(0)
    for part, images in (("train", IMAGES // 2), ("val", 2)):
        for wnid in ("n01440764", "n02102040"):
            (root / part / wnid).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / wnid / f"{wnid}_{number}.JPEG")


def sequences(recipe: Recipe) -> Parts:
    """Noise of the form of the recipe's recordings, or of its rows of pixels."""
    events = "frames" in recipe.data.options
    size = (2, *[recipe.data.options["image_size"] or 34] * 2) if events else (1, 1, 28)
    generator = torch.Generator().manual_seed(0)
    splits = [
        TensorSplit(
            torch.randint(
                4, (n, recipe.spike.timesteps, *size), dtype=torch.uint8, generator=generator
            ),
            torch.arange(n) % 10,
        )
        for n in (IMAGES, 4)
    ]
    return Parts(tuple("0123456789"), *splits)


def giving(known: Callable[..., Source], parts: Parts) -> Callable[..., Source]:
    """A data set with the same options, which gives these images."""

    @wraps(known)
    def source(**options: object) -> Source:
        return replace(known(**options), read=lambda _: parts)

    return source


def shortened(name: str, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """An eighth of the width, a dozen images: two steps of training in each stage."""
    recipe = load_recipe(name)
    if recipe.data.name == "image_folder":
        write_images(folder)
        patch.setenv("LEANSPIKE_CACHE", str(folder / "cache"))
        changes = [f"data.root={folder}", "data.options.image_size=32"]
    elif recipe.spike.encode == "frames":
        small = sequences(recipe)
        known = DATASETS[recipe.data.name]
        patch.setitem(DATASETS, recipe.data.name, giving(known, small))
        changes = []
    else:
        known = DATASETS[recipe.data.name]
        grey = recipe.data.name == "mnist"
        classes = 10 if grey else int(recipe.data.name.removeprefix("cifar"))
        shape = (1, 28, 28) if grey else (3, 32, 32)
        small = synthetic(shape, classes=classes, train=IMAGES, test=4)
        patch.setitem(DATASETS, recipe.data.name, giving(known, small))
        changes = []
    stages = [f"snn.{number}" for number in range(len(recipe.snn))]
    if recipe.ann is not None:
        stages.append("ann")
    for stage in stages:
        changes += [f"{stage}.epochs=1", f"{stage}.batch_size={BATCH}"]
    if recipe.spike.calibrate is not None:
        changes += ["spike.calibrate.images=8", "spike.calibrate.timesteps=2"]
    if recipe.teacher is not None:
        teacher = create_model(recipe.teacher.model.name, 10, width=0.125)
        folder.mkdir(exist_ok=True)
        torch.save(teacher.state_dict(), folder / "teacher.pt")
        changes += [f"teacher.model.weights={folder / 'teacher.pt'}"]
        changes += ["teacher.model.options.width=0.125"]
        # An untrained teacher's maps are enormous.
        changes += [f"{stage}.learning_rate=1e-3" for stage in stages]
    changes += ["model.options.width=0.125", f"data.validation={HELD_OUT}"]
    return [*changes, "data.train_images=null"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, []) for name in [*DIET, *BNTT, *KDSNN, *TAUGHT]),
        *((name, ["spike.timesteps=2"]) for name in KDSNN if "teacher" not in name),
    ],
)
def test_a_recipe_runs_from_ann_to_evaluation(
    name: str, changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "leanspike.run.steps.evaluate.write_report", lambda *_: None
    )  # its figures take long
    recipe = load_recipe(name, [*shortened(name, tmp_path / "data", monkeypatch), *changes])
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)))
    result = run.train()
    timesteps = recipe.spike.timesteps
    assert [row["stage"] for row in run.history] == [
        *(["ann"] if recipe.ann is not None else []),
        *(f"snn T={stage.timesteps or timesteps}" for stage in recipe.snn),
    ]
    assert len(run.data.train) == STEPS * BATCH
    assert (len(run.data.val), result.n) == (HELD_OUT, 4)
    assert len(result.accuracy) == timesteps
    assert (result.ann_accuracy is None) == (recipe.ann is None)
    assert result.energy.ratio > 0
    assert [early.by for early in result.early_exit] == list(recipe.evaluate.early_exit)
    assert result.times is not None  # beside the same network as an ANN, where none was trained
    assert list(result.times.ratios) == [1, 4]
    assert result.mistakes is not None
    assert all(wrong.picture is not None for wrong in result.mistakes.first)
    if recipe.spike.calibrate is None:
        return
    calibration = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert len(calibration["layers"]) == len(result.neurons)


@pytest.mark.parametrize("name", DIET)
def test_the_neurons_and_their_start_are_the_papers(name: str) -> None:
    spike = load_recipe(name).spike
    neuron, calibrate = spike.neuron, spike.calibrate
    assert calibrate is not None
    assert (neuron.height, neuron.initial, neuron.reset, neuron.leak) == ("unit", "zero", "soft", 1)
    assert (neuron.surrogate.name, neuron.surrogate.options) == ("triangle", {})
    assert (calibrate.method, calibrate.statistics) == ("layerwise", "keep")
    assert (spike.timesteps, calibrate.percentile) == (5, 99.7)


@pytest.mark.parametrize("name", [name for name in DIET if "cifar" in name])
def test_the_training_on_cifar_is_the_codes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.ann is not None
    assert recipe.spike.calibrate is not None
    assert recipe.spike.calibrate.scale == 0.2
    (snn,) = recipe.snn
    ann = recipe.ann
    assert (ann.optimizer.name, ann.learning_rate, ann.weight_decay) == ("adam", 1e-3, 5e-4)
    assert (snn.optimizer.name, snn.learning_rate, snn.weight_decay) == ("adam", 1e-4, 0)
    assert (ann.batch_size, ann.epochs, snn.batch_size, snn.epochs) == (128, 299, 64, 299)
    assert (ann.schedule.name, ann.schedule.options) == ("cosine", {"period_epochs": 64})
    assert (snn.schedule.name, snn.schedule.options) == ("cosine", {"period_epochs": 128})
    # The code's commands have 0.2 for both; its ANNs have 0.5 behind linear layers, its SNNs not.
    rates = recipe.model.options["dropout_conv"], recipe.model.options.get("dropout_linear")
    assert (*rates, snn.dropout) == ((0.2, 0.5, 0.2) if "vgg" in name else (0.2, None, None))
    assert (recipe.data.mean, recipe.data.std) == CODE_PIXELS[recipe.data.name]


def test_bntts_settings_are_the_codes() -> None:
    for name, timesteps, leak in (
        ("bntt_cifar10_vgg9", 25, 0.95),
        ("bntt_cifar100_vgg11", 30, 0.99),
        ("bntt_tiny_imagenet_vgg11", 30, 0.99),
    ):
        recipe = load_recipe(name)
        spike, (snn,) = recipe.spike, recipe.snn
        assert (spike.encode, spike.timesteps, spike.norm) == ("poisson", timesteps, "bntt")
        assert (spike.neuron.leak, spike.neuron.threshold, spike.neuron.learn) == (leak, 1.0, ())
        assert (recipe.ann, spike.calibrate, spike.norm_options) == (None, None, {})
        assert (snn.optimizer.name, snn.learning_rate) == ("sgd", 0.3)
        assert (snn.weight_decay, snn.schedule.name, snn.epochs) == (1e-4, "step", 100)
        assert snn.optimizer.options == {"momentum": 0.9, "nesterov": False}
        assert (snn.decay_norms, snn.schedule.options) == (True, {"milestones": (51, 71, 91)})
        assert (snn.readout, recipe.evaluate.readout) == ("mean", "mean")
        if recipe.data.name != "image_folder":  # which the code does not know
            assert (recipe.data.mean, recipe.data.std) == CODE_PIXELS["cifar10"]
            assert snn.batch_size == {25: 256, 30: 128}[timesteps]


def test_bntts_rate_falls_when_its_code_divides_it() -> None:
    """Its code: after each epoch, if that was the (0.5, 0.7 or 0.9 times all)-th from 0, ÷10."""
    (snn,) = load_recipe("bntt_cifar10_vgg9").snn
    factor = create_schedule(
        snn.schedule.name, snn.epochs * 7, epoch_steps=7, options=snn.schedule.options
    )
    rate = 0.3
    for epoch in range(snn.epochs):
        assert snn.learning_rate * factor(epoch * 7 + 6) == pytest.approx(rate)
        if epoch in (50, 70, 90):
            rate /= 10


def test_a_vgg_of_diet_snn_trains_with_one_dropout_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "diet_cifar10_vgg6"
    recipe = load_recipe(name, shortened(name, tmp_path / "data", monkeypatch))
    rates: dict[str, set[float]] = {}

    def fit(network: nn.Module, stage: Stage, *_: object) -> None:
        layers = (m for m in network.modules() if isinstance(m, nn.Dropout | TemporalDropout))
        rates[stage.name] = {layer.p for layer in layers}

    monkeypatch.setattr("leanspike.run.steps.training.fit", fit)
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)))
    run.begin()
    run.train_ann()
    run.convert()
    run.train_snn()
    assert rates == {"ann": {0.2, 0.5}, "snn T=5": {0.2}}


def test_part_of_the_training_images_is_the_same_part_for_ever() -> None:
    recipe = load_recipe("digits", ["data.train_images=100"])
    data, again = open_data(recipe), open_data(recipe)
    assert len(data.train) == 100
    assert data.train.labels.bincount().tolist() == [10] * 10
    assert (data.train.batch(torch.arange(100))[0] == again.train.batch(torch.arange(100))[0]).all()
    assert len(data.val) == len(open_data(load_recipe("digits")).val)
    with pytest.raises(LeanspikeError, match="train_images is 2000; give at most 1294"):
        open_data(load_recipe("digits", ["data.train_images=2000"]))


def test_kdsnns_students_begin_from_scratch_at_four_steps() -> None:
    for name in KDSNN:
        recipe = load_recipe(name)
        assert recipe.spike.timesteps == 4
        if recipe.snn:
            assert recipe.spike.start == "scratch" or recipe.ann is None
            objective = recipe.snn[0].objective
            assert objective.response is not None or objective.feature is not None


def test_from_scratch_the_ann_only_teaches(tmp_path: Path) -> None:
    changes = ["ann.epochs=1", "snn.0.epochs=0", "model.options.width=0.25", "spike.calibrate=null"]
    for start in ("ann", "scratch"):
        recipe = load_recipe("digits", [*changes, f"spike.start={start}"])
        run = Run(recipe, tmp_path / start, Monitor(Console(quiet=True)))
        run.train_ann()
        run.convert()
        ann, snn = load(run.folder / "ann").state_dict(), load(run.folder / "start").state_dict()
        same = all(torch.equal(value, snn[name]) for name, value in ann.items())
        assert same == (start == "ann")


def test_tdbn_is_scaled_to_the_recipes_threshold() -> None:
    changes = ["spike.norm=tdbn", "spike.neuron.threshold=0.5", "evaluate.early_exit=[]"]
    for options, threshold in (("{}", 0.5), ("{threshold: 2.0}", 2.0)):
        recipe = load_recipe("bntt_cifar10", [*changes, f"spike.norm_options={options}"])
        norm = build_norm(recipe.spike)
        assert callable(norm)
        assert norm(8, 4).options["threshold"] == threshold
