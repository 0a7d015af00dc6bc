"""A sample or a target that is no number: named before any weight changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from leanspike.data import Loader, TensorSplit
from leanspike.errors import DataError
from leanspike.train import Checkpoints, Monitor, Objective, Stage, create_optimizer, fit
from leanspike.train.schedule import create_schedule


class Square(Objective):
    """The squared error of the last answer."""

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        return (y_TNK[-1] - labels).square().mean()


def test_a_target_that_is_no_number_is_named(tmp_path: Path) -> None:
    labels = torch.rand(32, 3)
    labels[21, 1] = float("nan")
    split = TensorSplit(torch.zeros(32, 1, 2, 2, dtype=torch.uint8), labels)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = [parameter.clone() for parameter in network.parameters()]
    stage = Stage(
        name="ann",
        number=0,
        epochs=1,
        timesteps=None,
        train=Loader(split, batch_size=32, mean=(0.5,), std=(0.5,), seed=0, train=True),
        val=None,
        objective=Square(),
        optimizer=create_optimizer(network, learning_rate=0.1),
        schedule=create_schedule("constant", steps=1),
        seed=0,
        select="last",
    )
    checkpoints = Checkpoints(tmp_path / "checkpoint.pt", minutes=1)
    with pytest.raises(
        DataError,
        match=r"stage ann, epoch 1, step 1: the target of sample 21 holds NaN or infinity; mend or "
        r"remove it \(no weight has changed by it\)",
    ):
        fit(network, stage, [], checkpoints, Monitor(Console(quiet=True)))
    assert all(map(torch.equal, before, network.parameters()))
