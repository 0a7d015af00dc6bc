"""The average of the weights that a stage may end with."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_loop import make_loader
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import accuracy
from leanspike.recipes import load_recipe
from leanspike.train import (
    Checkpoints,
    CrossEntropy,
    Monitor,
    Stage,
    averaging,
    create_optimizer,
    create_schedule,
    fit,
)


def spiking() -> ls.SpikingNetwork:
    """Norms kept, leaks and thresholds learned: all that an average has to do with."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )
    neuron = ls.LIF(learn=("leak", "threshold"), height="threshold")
    x = torch.zeros(1, 1, 4, 4)
    return ls.spike(ann, example_input=x, neuron=neuron, norm="keep", timesteps=3)


def stage_of(network: nn.Module, **changes: Any) -> Stage:
    settings: dict[str, Any] = {
        **{"name": "snn", "number": 0, "epochs": 3, "timesteps": 3, "seed": 0, "average": 0.8},
        **{"train": make_loader(train=True), "val": make_loader(48, train=False)},
        **{"objective": CrossEntropy(), "schedule": create_schedule("constant", 12)},
        "optimizer": create_optimizer(network, learning_rate=0.1),
    }
    return Stage(**{**settings, **changes})


def train(network: nn.Module, stage: Stage, file: Path) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    monitor = Monitor(Console(file=io.StringIO()))
    fit(network, stage, history, Checkpoints(file, minutes=1e-9), monitor)
    return history


def written_out(decay: float) -> dict[str, Tensor]:
    """w̄ from the states after each step of the same training without an average."""
    network, states = spiking(), []
    stage = stage_of(network, average=None, select="last")
    stage.optimizer.register_step_post_hook(lambda *_: network.keep_in_range())
    stage.optimizer.register_step_post_hook(
        lambda *_: states.append({k: v.double() for k, v in network.state_dict().items()})
    )
    history: list[dict[str, Any]] = []
    monitor = Monitor(Console(file=io.StringIO()))
    fit(network, stage, history, Checkpoints(Path("nowhere"), minutes=9), monitor)
    assert len(states) == 12
    powers = [(1 - decay) * decay ** (11 - n) if n else decay**11 for n in range(12)]
    assert math.isclose(sum(powers), 1)
    keys = states[0]
    return {k: sum((p * s[k] for p, s in zip(powers, states, strict=True))) for k in keys}


def test_the_stage_ends_with_the_average_of_all_its_steps(tmp_path: Path) -> None:
    network = spiking()
    train(network, stage_of(network, select="last"), tmp_path / "checkpoint.pt")
    for name, value in written_out(0.8).items():
        found = network.state_dict()[name]
        if found.is_floating_point():
            torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-6)


def test_the_average_is_what_is_validated_and_selected(tmp_path: Path) -> None:
    network = spiking()
    stage = stage_of(network, average=0.97, epochs=6, select="best")
    history = train(network, stage, tmp_path / "checkpoint.pt")
    assert stage.val is not None
    found = accuracy(network, stage.val.epoch(0), 3)[-1]
    assert found == max(row["val_accuracy"] for row in history)
    alone = spiking()
    rows = train(alone, stage_of(alone, average=None, epochs=6), tmp_path / "b.pt")
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in history]
    assert [row["val_accuracy"] for row in rows] != [row["val_accuracy"] for row in history]


def check_resumed(stops: int, folder: Path, **settings: Any) -> None:
    """A training that is stopped at a step and resumed ends with the bits of one that was not."""
    whole = spiking()
    train(whole, stage_of(whole, select="last", **settings), folder / "whole.pt")

    def stopping(step: int) -> float:
        if step == stops:
            raise KeyboardInterrupt
        return 1.0

    network = spiking()
    with pytest.raises(KeyboardInterrupt):
        train(network, stage_of(network, schedule=stopping, **settings), folder / "part.pt")
    again = spiking()
    train(again, stage_of(again, select="last", **settings), folder / "part.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("stops", [2, 4, 7])
def test_a_training_that_was_stopped_ends_with_the_same_average(stops: int, tmp_path: Path) -> None:
    check_resumed(stops, tmp_path)


def test_a_decay_out_of_range_is_refused_and_the_advice_works() -> None:
    for decay in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(LeanspikeError, match=r"average is .*; give a decay above 0 and below"):
            averaging(nn.Linear(1, 1), decay)
    averaging(nn.Linear(1, 1), 0.99)


def test_a_recipe_asks_for_it() -> None:
    recipe = load_recipe("digits", ["ann.average=0.9", "snn.0.average=0.99"])
    assert recipe.ann is not None
    assert (recipe.ann.average, recipe.snn[0].average) == (0.9, 0.99)
    assert load_recipe("digits").snn[0].average is None
    with pytest.raises(LeanspikeError, match=r"snn.0.average.*less than 1"):
        load_recipe("digits", ["snn.0.average=1"])
