"""A training of one step, for what reads its checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from leanspike.data import Loader, TensorSplit
from leanspike.train import (
    Checkpoints,
    CrossEntropy,
    Monitor,
    Stage,
    create_optimizer,
    create_schedule,
    fit,
)


def trained_for_a_step(path: Path, *, keep: bool) -> None:
    """Train a small network, from the checkpoint at ``path`` on; ``keep`` writes one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    pixels = torch.arange(64, dtype=torch.uint8).view(16, 1, 2, 2)
    split = TensorSplit(pixels, torch.arange(16) % 3)
    loader = Loader(split, batch_size=8, mean=(0.5,), std=(0.5,), seed=0, train=True)
    optimizer = create_optimizer(network, "sgd", learning_rate=0.1)
    stage = Stage(
        name="ann",
        number=0,
        epochs=1,
        timesteps=None,
        train=loader,
        val=None,
        objective=CrossEntropy(),
        optimizer=optimizer,
        schedule=create_schedule("constant", 2),
        seed=0,
    )
    checkpoints = Checkpoints(path, minutes=0 if keep else 60)
    fit(network, stage, [], checkpoints, Monitor(Console(quiet=True)))
