"""Training convolves faster, and nothing else does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from leanspike import native
from leanspike.backends import watch_backends
from leanspike.data import Loader, TensorSplit
from leanspike.evaluation import accuracy
from leanspike.synapse.dense import is_learning
from leanspike.train import (
    Checkpoints,
    CrossEntropy,
    Monitor,
    Stage,
    Teacher,
    create_optimizer,
    fit,
)
from leanspike.train.schedule import create_schedule

if not native.is_built() or len(native.available_instructions()) < 2:
    pytest.skip("the native library has no vector instructions", allow_module_level=True)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def make_loader(*, train: bool) -> Loader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 1, 16, 16), dtype=torch.uint8, generator=generator)
    split = TensorSplit(images, torch.arange(32) % 2)
    return Loader(split, batch_size=16, mean=(0.5,), std=(0.3,), seed=0, train=train)


def test_layers_are_as_before_when_a_stage_has_ended(tmp_path: Path) -> None:
    network, seen = make_network(), list[bool]()
    network[1].register_forward_hook(lambda layer, *_: seen.append(is_learning(layer)))
    optimizer: Any = create_optimizer(network, learning_rate=0.1)
    stage = Stage(
        name="ann",
        number=0,
        epochs=1,
        timesteps=None,
        train=make_loader(train=True),
        val=make_loader(train=False),
        objective=CrossEntropy(),
        optimizer=optimizer,
        schedule=create_schedule("constant", 2),
        seed=0,
    )
    with watch_backends() as ran:
        checkpoints = Checkpoints(tmp_path / "checkpoint.pt", minutes=9)
        fit(network, stage, [], checkpoints, Monitor(Console(file=io.StringIO())))
    assert ran.names == {"native"}
    assert all(seen)
    seen.clear()
    with watch_backends() as ran:
        accuracy(network, make_loader(train=False), timesteps=None)
    assert ran.names == set()
    assert seen
    assert not any(seen)


def test_a_teacher_answers_faster_and_is_left_as_it_was() -> None:
    network = make_network()
    x: Tensor = torch.randn(16, 1, 16, 16)
    with watch_backends() as ran:
        found = Teacher(network).logits(x)
    assert ran.names == {"native"}
    torch.testing.assert_close(found, network.eval()(x), rtol=1e-4, atol=1e-4)
    assert not is_learning(network[1])
