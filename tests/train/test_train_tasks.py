"""Training of what is no class of several: yes or no, several labels, pixels, a regression."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.data import Loader, TensorSplit
from leanspike.errors import LeanspikeError
from leanspike.evaluation import accuracy
from leanspike.report.story import read_epochs, training_figure
from leanspike.train import (
    TET,
    Checkpoints,
    CrossEntropy,
    Monitor,
    Objective,
    Response,
    Stage,
    create_optimizer,
    fit,
)
from leanspike.train.schedule import create_schedule

IMAGES = torch.randint(
    0, 256, (64, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
HALVES = torch.stack([IMAGES[:, 0, rows].float().mean((1, 2)) for rows in ([0, 1], [2, 3])], 1)
LABELS: dict[str, Tensor] = {
    "binary": (HALVES[:, 0] > 127).long(),
    "multilabel": (HALVES > 127).float(),
    "pixels": (IMAGES[:, 0] > 127).long(),
    "regression": HALVES / 127 - 1,
}


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "pixels":
        return nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    outputs = 1 if kind == "binary" else 2
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs))


def make_stage(network: nn.Module, kind: str, **changes: Any) -> Stage:
    split = TensorSplit(IMAGES, LABELS[kind])
    mean, std = (0.5,), (0.3,)
    settings: dict[str, Any] = {
        "name": "it",
        "number": 0,
        "epochs": 5,
        "timesteps": None,
        "train": Loader(split, batch_size=16, mean=mean, std=std, seed=0, train=True),
        "val": Loader(split, batch_size=20, mean=mean, std=std, seed=0, train=False),
        "objective": CrossEntropy(),
        "optimizer": create_optimizer(network, learning_rate=0.1),
        "schedule": create_schedule("constant", 20),
        "seed": 0,
    }
    return Stage(**{**settings, **changes})


def run(network: nn.Module, stage: Stage, folder: Path) -> tuple[list[dict[str, Any]], str]:
    history: list[dict[str, Any]] = []
    out = io.StringIO()
    checkpoints = Checkpoints(folder / "checkpoint.pt", minutes=9)
    fit(network, stage, history, checkpoints, Monitor(Console(file=out, width=200)))
    return history, out.getvalue()


@pytest.mark.parametrize("kind", ["binary", "multilabel", "pixels"])
@pytest.mark.parametrize("spiking", [False, True])
def test_it_learns_and_is_validated_by_its_own_accuracy(
    kind: str, spiking: bool, tmp_path: Path
) -> None:
    network = make(kind)
    timesteps = 3 if spiking else None
    if spiking:
        network = ls.spike(network, example_input=torch.zeros(1, 1, 4, 4), timesteps=3)
    stage = make_stage(network, kind, timesteps=timesteps)
    history, _ = run(network, stage, tmp_path)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert stage.val is not None
    best = max(row["val_accuracy"] for row in history)
    assert accuracy(network, stage.val.epoch(0))[-1] == best > 0.75  # the best epoch's weights
    assert 0.5 < history[-1]["train_accuracy"] <= 1


def test_one_step_is_that_of_binary_cross_entropy(tmp_path: Path) -> None:
    network, twin = make("binary"), make("binary")
    stage = make_stage(network, "binary", epochs=1, select="last")
    run(network, stage, tmp_path)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for x, labels in stage.train.epoch(0):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(twin(x)[:, 0], labels.float()).backward()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


class Squares(Objective):
    """A regression's loss."""

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        return F.mse_loss(y_TNK.mean(0), labels)


def test_a_regression_is_trained_by_an_objective_of_its_own_to_the_last_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = make("regression")
    with pytest.raises(LeanspikeError, match=r"are no labels of .* write an Objective of your own"):
        run(network, make_stage(network, "regression", select="last"), tmp_path)
    with pytest.raises(LeanspikeError, match=r'the targets are no labels; give select="last"'):
        run(network, make_stage(network, "regression", objective=Squares()), tmp_path)
    network = make("regression")
    stage = make_stage(network, "regression", objective=Squares(), select="last")
    with caplog.at_level(logging.WARNING, "leanspike"):
        history, out = run(network, stage, tmp_path)
    assert caplog.text.count("the targets are no labels, so no accuracy is measured") == 1
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["train_accuracy"] is history[-1]["val_accuracy"] is None
    assert "train" not in out
    assert "<svg" in training_figure(read_epochs(history))


def test_a_task_that_labels_do_not_show_is_told(tmp_path: Path) -> None:
    """Rows with a single 1 might be one-hot."""
    network, rows = make("multilabel"), F.one_hot(LABELS["binary"], 2).float()
    split = TensorSplit(IMAGES, rows)
    loader = Loader(split, batch_size=16, mean=(0.5,), std=(0.3,), seed=0, train=True)
    stage = make_stage(network, "multilabel", train=loader, val=None)
    with pytest.raises(LeanspikeError, match=r'task="multilabel" for several labels'):
        run(network, stage, tmp_path)
    several = {"objective": CrossEntropy(task="multilabel"), "task": "multilabel"}
    stage = make_stage(network, "multilabel", train=loader, val=None, **several)
    history, _ = run(network, stage, tmp_path)
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_temporal_efficient_training_asks_each_step() -> None:
    y_TN1 = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 0, 0, 1])
    each = [F.binary_cross_entropy_with_logits(y[:, 0], labels.float()) for y in y_TN1]
    loss = TET(regularisation=0.0)(y_TN1, labels, torch.zeros(4))
    assert loss.item() == pytest.approx(torch.stack(each).mean().item())
    pixels = torch.randn(3, 4, 2, 5, 5), torch.zeros(4, 5, 5).long()
    each = [F.cross_entropy(y, pixels[1]) for y in pixels[0]]
    loss = TET(regularisation=0.0)(*pixels, torch.zeros(4))
    assert loss.item() == pytest.approx(torch.stack(each).mean().item())


def bernoulli(teacher: Tensor, student: Tensor, tau: float) -> float:
    """τ² times the mean divergence of yes and no."""
    p, q = (torch.sigmoid(z / tau).double() for z in (teacher, student))
    each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return tau**2 * each.mean().item()


def test_a_teacher_of_one_logit_or_of_several_labels_teaches_yes_and_no() -> None:
    """With a softmax over one output, or over the labels, it would teach nothing, or else."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    y_TNK = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(2))
    teacher = nn.Linear(3, 1)
    one = y_TNK[:, :, :1]
    loss = Response(teacher, 3.0)(one, torch.zeros(4), x)
    assert loss.item() == pytest.approx(bernoulli(teacher(x), one.sum(0), 3.0), rel=1e-3)
    squeezed = Response(nn.Sequential(teacher, nn.Flatten(0)), 3.0)(one[:, :, 0], torch.zeros(4), x)
    assert squeezed.item() == pytest.approx(loss.item())
    teacher, rows = nn.Linear(3, 2), torch.tensor([[1.0, 1], [0, 0], [0, 1], [1, 1]])
    expected = bernoulli(teacher(x), y_TNK.sum(0), 2.0)
    for loss in (
        Response(teacher)(y_TNK, rows, x),
        Response(teacher, task="multilabel")(y_TNK, torch.zeros(4), x),
    ):
        assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_a_teacher_of_pixels_teaches_the_classes_of_each() -> None:
    x, teacher = torch.randn(2, 1, 3, 3), nn.Conv2d(1, 2, 1)
    y_TNK = torch.randn(1, 2, 2, 3, 3)
    p = F.log_softmax(teacher(x) / 2, 1).movedim(1, -1).flatten(0, 2)
    q = F.log_softmax(y_TNK[0] / 2, 1).movedim(1, -1).flatten(0, 2)
    expected = 4 * F.kl_div(q, p, reduction="batchmean", log_target=True).item()
    loss = Response(teacher)(y_TNK, torch.zeros(2), x)
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_a_teacher_of_several_tensors_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(LeanspikeError, match="the teacher answers a tuple; give one that answers"):
        Response(Two())(torch.zeros(1, 4, 2), torch.zeros(4), torch.zeros(4, 2))
