"""DIET-SNN's recipes: the paper's settings, and each of them run from end to end in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from leanspike.config import load_recipe, recipes
from leanspike.data import DATASETS, synthetic
from leanspike.run import Run
from leanspike.train import Monitor

DIET = [name for name in recipes() if name.startswith("diet_")]
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


def shortened(name: str, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """An eighth of the width, a dozen images: two steps of training in each stage."""
    recipe = load_recipe(name)
    if recipe.data.name == "image_folder":
        write_images(folder)
        patch.setenv("LEANSPIKE_CACHE", str(folder / "cache"))
        changes = [f"data.root={folder}", "data.image_size=32"]
    else:
        source, classes = DATASETS[recipe.data.name], int(recipe.data.name.removeprefix("cifar"))
        small = synthetic(classes=classes, train=IMAGES, test=4)
        patch.setitem(DATASETS, recipe.data.name, replace(source, read=lambda *_: small))
        changes = []
    for stage in ("ann", *(f"snn.{number}" for number in range(len(recipe.snn)))):
        changes += [f"{stage}.epochs=1", f"{stage}.batch_size={BATCH}"]
    changes += ["model.options.width=0.125", f"data.validation={HELD_OUT}"]
    return [*changes, "spike.calibrate.images=8", "spike.calibrate.timesteps=2"]


@pytest.mark.parametrize("name", DIET)
def test_a_recipe_runs_from_ann_to_evaluation(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leanspike.run.run.write_report", lambda *_: None)  # its figures take long
    recipe = load_recipe(name, shortened(name, tmp_path / "data", monkeypatch))
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)))
    result = run.train()
    assert [row["stage"] for row in run.history] == [
        "ann",
        *(f"snn T={stage.timesteps or 5}" for stage in recipe.snn),
    ]
    assert len(run.data.train) == STEPS * BATCH
    assert (len(run.data.val), result.n) == (HELD_OUT, 4)
    assert len(result.accuracy) == 5
    assert result.ann_accuracy is not None
    assert result.energy.ratio > 0
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
def test_the_training_on_cifar_is_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.ann is not None
    assert recipe.spike.calibrate is not None
    assert recipe.spike.calibrate.scale == 0.2
    (snn,) = recipe.snn
    ann = recipe.ann
    assert (ann.optimizer, ann.learning_rate, ann.weight_decay) == ("adam", 1e-3, 5e-4)
    assert (snn.optimizer, snn.learning_rate, snn.weight_decay) == ("adam", 1e-4, 0)
    assert (ann.batch_size, ann.epochs, snn.batch_size, snn.epochs) == (128, 300, 64, 300)
