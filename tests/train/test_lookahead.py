"""Slow weights: against a closed form, against their formula, and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_average import check_resumed, spiking, stage_of, train
from torch import Tensor, nn

from leanspike.data import Loader, TensorSplit
from leanspike.errors import LeanspikeError
from leanspike.evaluation import accuracy
from leanspike.recipes import load_recipe
from leanspike.train import Lookahead, Objective

AHEAD = Lookahead(steps=3, decay=0.9)


class Output(Objective):
    """The output itself, whose gradient by a weight is the input."""

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        return y_TNK.mean()


def one_weight(epochs: int, lookahead: Lookahead, tmp_path: Path) -> float:
    """w of y = w·x at x = 1, trained from 0 at rate 1 by 4 steps an epoch: each takes 1 off."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    network = nn.Sequential(nn.Flatten(), layer).double()
    split = TensorSplit(torch.full((8, 1, 1, 1), 255, dtype=torch.uint8), torch.zeros(8).long())
    loader = Loader(split, batch_size=2, mean=(0.0,), std=(1.0,), seed=0, train=True)
    network.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    stage = stage_of(
        network,
        **{"name": "ann", "epochs": epochs, "timesteps": None, "average": None},
        **{"train": loader, "val": None, "select": "last", "objective": Output()},
        optimizer=torch.optim.SGD(
            [{"params": list(network.parameters()), "lr": 1.0, "initial_lr": 1.0}]
        ),
        lookahead=lookahead,
    )
    train(network, stage, tmp_path / f"{lookahead.decay}.pt")
    return layer.weight.item()


@pytest.mark.parametrize("epochs", [3, 5, 6])  # 12, 20, 24 steps: 4, 6 and 8 moves of 3 steps
def test_one_weight_ends_where_its_sums_say(epochs: int, tmp_path: Path) -> None:
    total = 4 * epochs
    moves = total // 3
    constant = one_weight(epochs, Lookahead(steps=3, decay=0.5, growth=0), tmp_path)
    assert constant == pytest.approx(-moves * 3 * (1 - 0.5**3), rel=1e-12)
    growing = one_weight(epochs, Lookahead(steps=3, decay=0.9, growth=3), tmp_path)
    cubes = (moves * (moves + 1) / 2) ** 2  # 1³ + 2³ + … + moves³
    kept = 0.9**3 * (3 / total) ** 3 * cubes
    assert growing == pytest.approx(-3 * (moves - kept), rel=1e-12)
    assert one_weight(epochs, Lookahead(steps=3, decay=0), tmp_path) == -3 * moves


def test_airbench_is_the_default() -> None:
    assert Lookahead().kept(0.5) == pytest.approx(0.95**5 * 0.125)
    assert 1 - Lookahead(decay=0.87, growth=0).kept(0.1) == pytest.approx(0.5, abs=0.002)


def states(network: nn.Module, stage: Any, file: Path) -> list[dict[str, Tensor]]:
    """What the network is at the beginning of each step, and at the end."""
    found = []
    stage.optimizer.register_step_pre_hook(
        lambda *_: found.append({k: v.clone() for k, v in network.state_dict().items()})
    )
    train(network, stage, file)
    return found


def test_parameters_and_statistics_move_by_the_formula(tmp_path: Path) -> None:
    """Until the first move all is as without; there the fast weights are the slow ones."""
    ahead, plain = spiking(), spiking()
    settings = {"average": None, "select": "last", "val": None}
    trained = states(ahead, stage_of(ahead, lookahead=AHEAD, **settings), tmp_path / "a.pt")
    alone = states(plain, stage_of(plain, **settings), tmp_path / "b.pt")
    begun, kept = spiking().state_dict(), 0.9**3 * (3 / 12) ** 3
    for name in begun:
        for step in range(3):
            assert torch.equal(trained[step][name], alone[step][name]), name
    # The step pre-hook sees statistics after a step's forward pass: those of step 3 began slow.
    parameters = dict(ahead.named_parameters())
    for name in parameters:
        fast, found = alone[3][name].double(), trained[3][name].double()
        expected = begun[name].double() + (1 - kept) * (fast - begun[name].double())
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7, msg=name)
    assert not all(torch.equal(trained[3][name], alone[3][name]) for name in parameters)


def test_the_slow_weights_are_validated_and_are_the_end(tmp_path: Path) -> None:
    """With 4 steps an epoch and moves of 3 the fast weights are elsewhere at each validation."""
    network = spiking()
    ahead = Lookahead(steps=3, decay=0.9, growth=0)
    stage = stage_of(network, average=None, lookahead=ahead, epochs=5, select="last")
    history = train(network, stage, tmp_path / "a.pt")
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    slow = {k.removeprefix("module."): v for k, v in saved["average"].items()}
    for name, value in network.state_dict().items():
        assert torch.equal(value, slow[name]), name
    weight = next(iter(dict(network.named_parameters())))
    assert not torch.equal(saved["network"][weight], slow[weight])  # 20 steps: 2 since a move
    assert stage.val is not None
    validated = accuracy(network, stage.val.epoch(0), 3)[-1]
    assert history[-1]["val_accuracy"] == validated


def test_statistics_of_norms_are_slow_as_well(tmp_path: Path) -> None:
    network = spiking()
    seen: list[Tensor] = []
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_mean is not None
    norm.register_forward_pre_hook(
        lambda m, _: seen.append(m.running_mean.clone()) if m.training else None
    )
    ahead = Lookahead(steps=2, decay=0.5, growth=0)
    stage = stage_of(network, average=None, lookahead=ahead, epochs=1, select="last", val=None)
    alone = spiking()
    means: list[Tensor] = []
    norm = next(m for m in alone.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_pre_hook(
        lambda m, _: means.append(m.running_mean.clone()) if m.training else None
    )
    train(network, stage, tmp_path / "a.pt")
    train(alone, stage_of(alone, average=None, epochs=1, val=None), tmp_path / "b.pt")
    assert torch.equal(seen[1], means[1])
    torch.testing.assert_close(seen[2], 0.75 * means[2] + 0.25 * means[0])


@pytest.mark.parametrize("stops", [2, 3, 4, 8])
def test_a_training_that_was_stopped_ends_with_the_same_bits(stops: int, tmp_path: Path) -> None:
    check_resumed(stops, tmp_path, average=None, lookahead=AHEAD)


def test_a_stage_that_ends_before_a_move_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    network = spiking()
    settings = {"average": None, "epochs": 1}
    says = r"stage snn: lookahead.steps is 5, and the stage has 4 steps, .*; set lookahead.steps"
    with pytest.raises(LeanspikeError, match=says):
        train(network, stage_of(network, lookahead=Lookahead(), **settings), tmp_path / "a.pt")
    four = Lookahead(steps=4)
    train(network, stage_of(network, lookahead=four, **settings), tmp_path / "a.pt")
    none = stage_of(network, lookahead=Lookahead(), **{**settings, "epochs": 0})
    train(network, none, tmp_path / "b.pt")


def test_an_average_beside_it_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    network = spiking()
    both = stage_of(network, lookahead=AHEAD)
    with pytest.raises(LeanspikeError, match=r"average is 0.8 and there is a lookahead, .* of one"):
        train(network, both, tmp_path / "a.pt")
    message = r"snn.0 .*average is 0.9 and there is a lookahead, .*; leave one of them out"
    changes = ["snn.0.average=0.9", "snn.0.lookahead={}"]
    with pytest.raises(LeanspikeError, match=message):
        load_recipe("digits", changes)
    for one in changes:
        load_recipe("digits", [one])


def test_whole_numbers_beside_it_are_refused_and_the_advice_works() -> None:
    message = r"weights are int6, and those of a lookahead .*; leave lookahead out of this stage"
    with pytest.raises(LeanspikeError, match=message):
        load_recipe("digits", ["snn.0.weights=int6", "snn.0.lookahead={}"])
    load_recipe("digits", ["snn.0.weights=int6"])


def test_a_recipe_asks_for_it() -> None:
    recipe = load_recipe("digits", ["ann.lookahead={}", "snn.0.lookahead={steps: 2, growth: 0}"])
    assert recipe.ann is not None
    assert recipe.ann.lookahead == Lookahead(steps=5, decay=0.95, growth=3.0)
    assert recipe.snn[0].lookahead == Lookahead(steps=2, decay=0.95, growth=0)
    assert load_recipe("digits").snn[0].lookahead is None
    with pytest.raises(LeanspikeError, match=r"lookahead.decay is 1: input should be less than 1"):
        load_recipe("digits", ["ann.lookahead={decay: 1}"])
    with pytest.raises(ValidationError):
        Lookahead(steps=0)
