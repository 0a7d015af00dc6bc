"""Tensors of any numbers in a run: trained by its objective, measured by what its targets are."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import leanspike
from leanspike.errors import LeanspikeError
from leanspike.evaluation import load_result
from leanspike.recipes import load_recipe
from leanspike.run import Run, about_data, compare_robustness, first_images, open_run
from leanspike.run.compiled import compile_run
from leanspike.train import Monitor

pytestmark = pytest.mark.usefixtures("unrendered")
RANDOM = np.random.default_rng(0)


def make(root: Path, targets: str, *changes: str) -> Run:
    """A run on vectors of six numbers, with targets that follow from them."""
    x = RANDOM.normal(size=(120, 6))
    y = {
        "numbers": x[:, :2] * 0.5,
        "labels": (x[:, :3] > 0).astype(np.float32),
        "yes": (x[:, 0] > 0).astype(np.float32),
        "classes": (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0),
    }[targets]
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "all.npz", x=x.astype(np.float32), y=y)
    how = "data.name=tensors", f"data.root={root}", "model.name=mlp", "model.options={hidden: [16]}"
    train = "ann.epochs=2", "snn.0.epochs=1", "spike.timesteps=2"
    recipe = load_recipe("digits", [*how, *train, "data.augment={}", *changes])
    return Run(recipe, root / "run", Monitor(Console(file=StringIO(), width=300)))


@pytest.mark.parametrize(
    ("targets", "task", "unit"),
    [
        ("labels", "multilabel", "label"),
        ("yes", "binary", "sample"),
        ("classes", "multiclass", "sample"),
    ],
)
def test_labels_are_trained_and_measured(
    tmp_path: Path, targets: str, task: str, unit: str
) -> None:
    result = make(tmp_path, targets).train()
    assert (result.task, result.unit, result.n) == (task, unit, 24)
    assert len(result.accuracy) == 2
    assert result.ann_accuracy is not None
    assert result.example is None
    assert load_result(tmp_path / "run" / "result.json") == result
    if targets == "yes":
        run = open_run(tmp_path / "run", Monitor(Console(quiet=True)))
        with pytest.raises(LeanspikeError, match="has no images of one class each, which this com"):
            compile_run(run)
        x = first_images(run, 8)
        assert leanspike.compile_engine(leanspike.load(run.folder / "snn"), x)(x).shape == (2, 8, 1)
        with pytest.raises(LeanspikeError, match="tensors has tensors; give a run on"):
            compare_robustness(run)
        assert about_data(run)["input"] == "(x - mean) / std, in the data's own units"


def test_numbers_are_trained_and_measured_by_their_squared_error(tmp_path: Path) -> None:
    objective = "[squared_error]"
    changes = [
        *(f"{stage}.objective={objective}" for stage in ("ann", "snn.0")),
        *(f"{stage}.select=last" for stage in ("ann", "snn.0")),
        *(f"{stage}.readout=mean" for stage in ("ann", "snn.0")),
        "evaluate.readout=mean",
        "ann.epochs=8",
    ]
    result = make(tmp_path, "numbers", *changes).train()
    assert (result.task, result.accuracy, result.classes) == ("none", (), ())
    assert list(result.metrics) == ["mean_squared_error"]
    assert len(result.metrics["mean_squared_error"]) == 2
    spread = 0.25  # of the targets: what a constant would get
    assert result.ann_metrics["mean_squared_error"] < spread


def test_numbers_need_another_objective_and_the_message_says_which(tmp_path: Path) -> None:
    with pytest.raises(LeanspikeError, match=r"are no labels .*; take squared_error \(Squared"):
        make(tmp_path, "numbers", "ann.select=last").train()
    with pytest.raises(LeanspikeError, match=r"^ann\.resolution is for .*\[1, 6\]; leave it"):
        make(tmp_path, "classes", "ann.resolution={size: 2}").train()
    with pytest.raises(LeanspikeError, match=r"tensors of 6, but crop, flip and cutout need rows"):
        make(tmp_path, "classes", "data.augment={flip: true}").train()
