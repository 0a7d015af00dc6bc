"""Folders of finished runs, so that they are kept without training anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leanspike.recipes import dump, load_recipe
from leanspike.train import write_log

MakeRun = Callable[..., Path]


def result(recipe: dict[str, Any]) -> dict[str, Any]:
    """A small result of a recipe, with a picture."""
    layer = {"neurons": 4, "spikes_per_step": [0.25, 0.1 + 0.2], "threshold": 1.0, "leak": 1.0}
    work = {"static": False, "dense_macs": 8.0, "ann_macs": 8.0, "snn_macs": 0.0, "snn_acs": 6.0}
    price = {"mac_pj": 4.6, "ac_pj": 0.9, "ann_pj": 73.6, "snn_pj": 25.2}
    counted = {"membrane_updates": 16.0, "membrane_pj": 14.4}
    ratios = {"ratio": 2.92, "formula_ratio": "inf", "spikes_per_neuron": 0.55}
    origin = {"command": "leanspike train", "created": "", "leanspike": "0.1.0", "commit": None}
    machine = {"hardware": "", "threads": 1, "versions": {}, "seconds": {"train ann": 12.25}}
    picture = {"height": 1, "width": 1, "channels": 1, "pixels": "AA=="}
    mistake = {"index": 7, "label": 1, "snn": 0, "ann": None, "picture": picture}
    return {
        "name": recipe["name"],
        "data": "digits",
        "split": "test",
        "n": 360,
        "classes": ["odd", "even"],
        "timesteps": 2,
        "encode": "direct",
        "ann_accuracy": 0.95,
        "accuracy": [0.8, 0.1 + 0.8],
        "neurons": [{"path": "relu1", **layer}, {"path": "relu2", **layer}],
        "operations": [
            {"path": path, "edge": "spike", **work, "ann_pj": 36.8, "snn_pj": 5.4}
            for path in ("fc1", "fc2")
        ],
        "energy": {**price, **counted, **ratios},
        "example": {"pixels": [[[0]]], "label": 1, "probabilities": [[0.5, 0.5]], "rasters": []},
        "mistakes": {"snn_only": 1, "ann_only": None, "both": None, "first": [mistake]},
        "provenance": {**origin, **machine, "seed": recipe["seed"], "recipe": recipe},
    }


def robustness(recipe: dict[str, Any]) -> dict[str, Any]:
    """What noise does to the network of that recipe, with a picture."""
    blur = {"name": "blur", "strengths": [1.0, 2.0], "accuracy": {"snn": [0.5, 0.25]}}
    return {
        "schema_version": 2,
        "data": "digits",
        "split": "test",
        "n": 100,
        "seed": 0,
        "networks": ["snn"],
        "clean": {"snn": 0.9},
        "corruptions": {"leanspike": [blur]},
        "attacks": [],
        "silent": {},
        "sample": {"position": 3, "pixels": [[[0]]]},
        "provenance": result(recipe)["provenance"],
    }


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Make ``runs/NAME``, finished, of digits with changes; the current folder holds ``runs``."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, *changes: str, noise: bool = False) -> Path:
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        recipe = load_recipe("digits", changes)
        plain = recipe.model_dump(mode="json")
        (folder / "recipe.yaml").write_text(dump(recipe))
        (folder / "result.json").write_text(json.dumps(result(plain), indent=1))
        epoch = {"event": "epoch", "stage": "ann", "train_loss": 2.3, "train_accuracy": 0.1}
        rows = [{**epoch, "epoch": number, "val_accuracy": None} for number in (1, 2)]
        write_log(folder / "log.jsonl", [*rows, {"event": "end"}])
        if recipe.snn:
            (folder / "calibration.json").write_text('{"scale": 0.8, "layers": []}')
        if noise:
            (folder / "robustness.json").write_text(json.dumps(robustness(plain)))
        return folder

    return make
