"""What a stage computes is counted: each layer as often as it runs, forward and backward."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_average import stage_of, train
from test_loop import make_loader
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import leanspike as ls
from leanspike.evaluation import Macs
from leanspike.train import (
    Checkpoints,
    CrossEntropy,
    Lookahead,
    Monitor,
    Resolution,
    Response,
    Stage,
    Teacher,
    Weighted,
    create_optimizer,
    fit,
    macs_of,
)
from leanspike.train.step import Whole

TRAINED, HELD_OUT = 64, 48
FIRST, SECOND, LAST = 4 * 16 * 9, 8 * 16 * (4 * 9), 2 * (8 * 16)
"""The products of the layers below for an image of 1 x 4 x 4."""
INSIDE = FIRST * 100 // 144, SECOND * 100 // 144
"""Those of them that meet no padding: 10 of 12 pairs of pixel and tap along each axis."""
SHARES = 2 * (3 * 3)
"""Products of rate gradients for the shares of 3 steps, behind each of two layers of neurons."""
PADDED = FIRST + SECOND - sum(INSIDE)


def make_ann(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 2),
    )


def spiking(norm: bool = False) -> ls.SpikingNetwork:
    return ls.spike(make_ann(norm), example_input=torch.zeros(1, 1, 4, 4), timesteps=3)


def plain(network: nn.Module, **changes: Any) -> Stage:
    return stage_of(network, **{"average": None, "epochs": 1, "select": "last", **changes})


def count(network: nn.Module, stage: Stage, folder: Path) -> Macs:
    history = train(network, stage, folder / "checkpoint.pt")
    found = macs_of(history, stage.name)
    assert found is not None
    return found


def test_an_ann_pays_three_times_but_for_its_first_layer(tmp_path: Path) -> None:
    ann = make_ann()
    found = count(ann, plain(ann, timesteps=None, epochs=2), tmp_path)
    forward = FIRST + SECOND + LAST
    assert found == Macs(
        forward=2 * TRAINED * forward,
        backward=2 * TRAINED * (2 * forward - FIRST),
        validation=2 * HELD_OUT * forward,
        padding=2 * (TRAINED * (3 * PADDED - (FIRST - INSIDE[0])) + HELD_OUT * PADDED),
    )


def test_frozen_layers_pay_less(tmp_path: Path) -> None:
    ann = make_ann()
    ann[0].requires_grad_(False)
    ann[3].requires_grad_(False)
    found = count(ann, plain(ann, timesteps=None), tmp_path)
    assert found.backward == TRAINED * LAST  # its weights; nothing before it learns


@pytest.mark.parametrize(("gradient", "times"), [("bptt", 3), ("rate", 1)])
@pytest.mark.parametrize("norm", [False, True])
def test_an_snn_pays_for_each_step_where_its_edge_depends_on_time(
    gradient: str, times: int, norm: bool, tmp_path: Path
) -> None:
    snn = spiking(norm)
    found = count(snn, plain(snn, gradient=gradient), tmp_path)
    shares = 4 * SHARES if gradient == "rate" else 0  # in each of four training steps
    assert found.forward == TRAINED * (FIRST + 3 * (SECOND + LAST)) + shares
    assert found.backward == TRAINED * (FIRST + times * 2 * (SECOND + LAST))
    assert found.validation == HELD_OUT * (FIRST + 3 * (SECOND + LAST))


def test_a_step_counts_what_pytorchs_counter_sees(tmp_path: Path) -> None:
    # Its hooks on all modules send rate gradients a longer way, so it is asked for the others.
    snn = spiking(norm=True)
    found = count(snn, plain(snn, val=None), tmp_path)
    x, labels = next(iter(make_loader(train=True).epoch(0)))
    with FlopCounterMode(display=False) as flops:
        Whole(snn.train(), plain(snn))(x, labels)[0].backward()
    assert found.total == flops.get_total_flops() // 2 * (TRAINED // len(x))


def test_a_teacher_counts_apart(tmp_path: Path) -> None:
    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 0, :2]

    teacher = Teacher(nn.Sequential(Narrow(), nn.Flatten(), nn.Linear(2, 7), nn.Linear(7, 2)))
    objective = Weighted([(0.5, CrossEntropy()), (0.5, Response(teacher))])
    snn = spiking()
    found = count(snn, plain(snn, objective=objective, epochs=2), tmp_path)
    assert found.teacher == 2 * TRAINED * (14 + 14)
    assert found.forward == 2 * TRAINED * (FIRST + 3 * (SECOND + LAST))


def test_weights_that_are_made_of_others_are_made_once_a_step(tmp_path: Path) -> None:
    class Low(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Parameter(torch.rand(s)) for s in ((2, 5), (5, 16)))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ (self.a @ self.b).T

    network = Low()
    found = count(network, plain(network, timesteps=None, val=None), tmp_path)
    steps, once = 4, 2 * 5 * 16
    assert found.forward == steps * once + TRAINED * 32
    assert found.backward == 2 * steps * once + TRAINED * 32


def test_what_an_objective_makes_once_and_keeps_is_not_of_its_steps(tmp_path: Path) -> None:
    class Prepared(CrossEntropy):
        seen: Tensor | None = None

        def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
            if self.seen is None:
                self.seen = torch.ones(9, 9) @ torch.ones(9, 9)
            return super().forward(y_TNK, labels, x)

    ann = make_ann()
    found = count(ann, plain(ann, timesteps=None, objective=Prepared()), tmp_path)
    assert found.forward == TRAINED * (FIRST + SECOND + LAST)


def test_smaller_images_count_less_and_are_validated_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    stage = plain(ann, timesteps=None, epochs=3, resolution=Resolution(size=2, until=0.4))
    history = train(ann, stage, tmp_path / "checkpoint.pt")
    pixels = [4, 16, 16]
    assert [row["macs"]["forward"] for row in history] == [TRAINED * (3 * p + 6) for p in pixels]
    assert [row["macs"]["validation"] for row in history] == [HELD_OUT * (3 * 16 + 6)] * 3


@pytest.mark.parametrize("change", [{"average": 0.9}, {"lookahead": Lookahead(steps=2)}])
def test_averaged_weights_are_validated_alike(change: dict[str, Any], tmp_path: Path) -> None:
    ann = make_ann()
    found = count(ann, plain(ann, timesteps=None, epochs=3, **change), tmp_path)
    assert found.validation == 3 * HELD_OUT * (FIRST + SECOND + LAST)


def test_counting_changes_neither_weights_nor_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(name: str) -> dict[str, Tensor]:
        ann = make_ann(norm=True).insert(5, nn.Dropout(0.5))
        train(ann, plain(ann, timesteps=None), tmp_path / name)
        return {**ann.state_dict(), "drawn": torch.rand(3)}

    with_count = weights("with")
    monkeypatch.setattr("leanspike.train.counted.Counted.step", lambda *_: None)
    without = weights("without")
    assert all(torch.equal(value, without[name]) for name, value in with_count.items())


class Killed(Monitor):
    """Stops the training after some steps, as a kill would."""

    def step(self, loss: float, learning_rate: float) -> None:
        super().step(loss, learning_rate)
        if self._steps == 3:
            raise KeyboardInterrupt


def test_an_epoch_that_was_resumed_counts_as_a_whole_one(tmp_path: Path) -> None:
    def go(monitor: type[Monitor], change: Callable[[Checkpoints], None]) -> list[dict[str, Any]]:
        ann, history = make_ann(), list[dict[str, Any]]()
        checkpoints = Checkpoints(tmp_path / "checkpoint.pt", minutes=1e-9)
        change(checkpoints)
        stage = plain(ann, timesteps=None)
        fit(ann, stage, history, checkpoints, monitor(Console(file=io.StringIO())))
        return history

    def of_before(checkpoints: Checkpoints) -> None:
        saved = checkpoints.load()
        assert saved is not None
        assert saved["position"].pop("counted") > 0
        del saved["position"]["macs"]
        checkpoints.save(saved)

    with pytest.raises(KeyboardInterrupt):
        go(Killed, lambda _: None)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    (row,) = go(Monitor, lambda _: None)
    assert row["macs"]["forward"] == TRAINED * (FIRST + SECOND + LAST)
    (tmp_path / "checkpoint.pt").write_bytes(kept)
    history = go(Monitor, of_before)  # a version that did not count began the epoch
    assert macs_of(history, "snn") is None


def test_what_cannot_be_counted_is_said_and_trained(tmp_path: Path) -> None:
    class Picky(CrossEntropy):
        def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
            if len(labels) < 16:
                raise ValueError("sixteen images or more")
            return super().forward(y_TNK, labels, x)

    ann, out = make_ann(), io.StringIO()
    history: list[dict[str, Any]] = []
    stage = replace(plain(ann, timesteps=None), optimizer=create_optimizer(ann, learning_rate=0.1))
    stage = replace(stage, objective=Picky(), train=make_loader(train=True))
    fit(ann, stage, history, Checkpoints(tmp_path / "c.pt", minutes=9), Monitor(Console(file=out)))
    assert history[0]["macs"] is None
    said = out.getvalue()
    assert "snn: multiply-accumulates are not counted (sixteen images or more)" in said
    assert said.count("not counted") == 1


def test_hooks_of_the_user_do_not_see_what_is_counted(tmp_path: Path) -> None:
    network, seen = spiking(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    stage = stage_of(network)
    history = train(network, stage, tmp_path / "a.pt")
    assert history[-1]["macs"] is not None
    assert set(seen) == {stage.train.batch_size, *(len(y) for _, y in stage.val.epoch(0))}
