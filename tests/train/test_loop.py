"""The training loop: what it minimises, selects, keeps in range, and when it stops."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import leanspike as ls
from leanspike.data import Loader, TensorSplit
from leanspike.errors import LeanspikeError
from leanspike.evaluation import accuracy as measure
from leanspike.train import (
    Checkpoints,
    CrossEntropy,
    Monitor,
    Objective,
    SelfDistillation,
    Stage,
    Weighted,
    create_optimizer,
    fit,
)
from leanspike.train.schedule import create_schedule


def make_loader(n: int = 64, *, train: bool) -> Loader:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = (images[:, 0, :2].float().mean((1, 2)) > 127).long()
    split = TensorSplit(images, labels)
    return Loader(split, batch_size=16, mean=(0.5,), std=(0.3,), seed=0, train=train)


def make_ann() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def make_stage(network: nn.Module, **changes: Any) -> Stage:
    train = make_loader(train=True)
    settings: dict[str, Any] = {
        "name": "ann",
        "number": 0,
        "epochs": 3,
        "timesteps": None,
        "train": train,
        "val": make_loader(48, train=False),
        "objective": CrossEntropy(),
        "optimizer": create_optimizer(network, learning_rate=0.1),
        "schedule": create_schedule("constant", 12),
        "seed": 0,
    }
    return Stage(**{**settings, **changes})


def run(network: nn.Module, stage: Stage, folder: Path) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    monitor = Monitor(Console(file=io.StringIO()))
    fit(network, stage, history, Checkpoints(folder / "checkpoint.pt", minutes=9), monitor)
    return history


def test_the_loss_falls_for_ann_and_snn(tmp_path: Path) -> None:
    ann = make_ann()
    history = run(ann, make_stage(ann, epochs=8), tmp_path / "a")
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]

    snn = ls.spike(make_ann(), example_input=torch.zeros(1, 1, 4, 4), timesteps=4)
    history = run(snn, make_stage(snn, epochs=8, timesteps=4), tmp_path / "b")
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert [row["epoch"] for row in history] == list(range(1, 9))


def test_rate_gradients_let_the_loss_fall_as_well(tmp_path: Path) -> None:
    snn = ls.spike(make_ann(), example_input=torch.zeros(1, 1, 4, 4), timesteps=4)
    asked: list[Any] = []
    snn.register_forward_pre_hook(lambda module, args: asked.append((module.training, args[2])))
    history = run(snn, make_stage(snn, epochs=8, timesteps=4, gradient="rate"), tmp_path)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert set(asked) == {(True, "rate"), (False, "bptt")}  # a validation has no gradient


def test_rate_gradients_are_refused_of_an_ann_and_the_advice_works(tmp_path: Path) -> None:
    ann = make_ann()
    says = "stage ann: gradient is 'rate', and a Sequential is no SpikingNetwork; give the network "
    with pytest.raises(LeanspikeError, match=says):
        run(ann, make_stage(ann, gradient="rate"), tmp_path / "a")
    run(ann, make_stage(ann, gradient="bptt", epochs=1), tmp_path / "a")
    snn = ls.spike(ann, example_input=torch.zeros(1, 1, 4, 4))
    run(snn, make_stage(snn, gradient="rate", epochs=1, timesteps=2), tmp_path / "b")
    with pytest.raises(LeanspikeError, match="gradient is 'mean'; choose bptt or rate"):
        run(snn, make_stage(snn, gradient="mean"), tmp_path / "c")


def test_rate_gradients_are_refused_of_steps_that_are_compared(tmp_path: Path) -> None:
    snn = ls.spike(make_ann(), example_input=torch.zeros(1, 1, 4, 4), timesteps=2)
    both = Weighted([(1.0, CrossEntropy()), (1.0, SelfDistillation())])
    stage = {"objective": both, "epochs": 1, "timesteps": 2}
    with pytest.raises(LeanspikeError, match="stage ann: SelfDistillation draws steps to each oth"):
        run(snn, make_stage(snn, **stage, gradient="rate"), tmp_path / "a")
    run(snn, make_stage(snn, **stage, gradient="bptt"), tmp_path / "a")


def test_one_step_is_plain_sgd(tmp_path: Path) -> None:
    """One epoch of the loop against the same steps written out."""
    network, twin = make_ann(), make_ann()
    stage = make_stage(network, epochs=1, select="last")
    run(network, stage, tmp_path)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for x, labels in stage.train.epoch(0):
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(x), labels).backward()
        optimizer.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_best_selects_by_validation_and_last_does_not(tmp_path: Path) -> None:
    results = {}
    for select in ("best", "last"):
        network = make_ann()
        stage = make_stage(
            network, epochs=6, select=select, schedule=lambda step: 1 + 3 * (step > 9)
        )
        history = run(network, stage, tmp_path / select)
        assert stage.val is not None
        accuracy = measure(network, stage.val.epoch(0))[-1]
        results[select] = accuracy, [row["val_accuracy"] for row in history]
    assert results["best"][0] == max(results["best"][1])
    assert results["last"][0] == results["last"][1][-1]


def test_thresholds_and_leaks_stay_in_range_whatever_the_step(tmp_path: Path) -> None:
    neuron = ls.LIF(learn=("leak", "threshold"))
    snn = ls.spike(make_ann(), example_input=torch.zeros(1, 1, 4, 4), neuron=neuron)
    optimizer = create_optimizer(snn, learning_rate=1e-3, neuron_learning_rate=1e3)
    run(snn, make_stage(snn, epochs=1, timesteps=3, optimizer=optimizer), tmp_path)
    for _, module in snn.neurons():
        assert isinstance(module, ls.LIF)
        assert 0 <= module.leak.item() <= 1
        assert module.threshold.item() > 0


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    network = make_ann()
    checkpoints = Checkpoints(tmp_path / "checkpoint.pt", minutes=1e-9)
    stage = make_stage(network, schedule=lambda step: math.inf if step == 6 else 1.0)
    monitor = Monitor(Console(file=io.StringIO()))
    with pytest.raises(
        LeanspikeError, match=r"stage ann, epoch 2, step 4: the loss is .*lower the"
    ):
        fit(network, stage, [], checkpoints, monitor)
    saved = checkpoints.load()
    assert saved is not None
    assert (saved["position"]["epoch"], saved["position"]["step"]) == (1, 2)
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


class Learning(Objective):
    """Cross-entropy and a term that learns a number of its own, p, from 0."""

    def __init__(self, term: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.p, self.term = nn.Parameter(torch.zeros(())), term

    def forward(self, y_TNK: torch.Tensor, labels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return CrossEntropy()(y_TNK, labels, x) + self.term(self.p)


def test_a_gradient_of_the_objective_counts_as_one_of_the_network(tmp_path: Path) -> None:
    network, steep = make_ann(), Learning(lambda p: 1e3 * p)
    still = {"momentum": 0.0}
    both = create_optimizer(nn.ModuleList([network, steep]), learning_rate=1.0, options=still)
    changes: dict[str, Any] = {"epochs": 1, "optimizer": both, "max_gradient_norm": 0.01}
    run(network, make_stage(network, objective=steep, **changes), tmp_path)
    assert 0 < -steep.p.item() <= 4.001 * 0.01  # four steps

    network, endless = make_ann(), Learning(torch.sqrt)
    both = create_optimizer(nn.ModuleList([network, endless]), learning_rate=0.1)
    with pytest.raises(LeanspikeError, match="the gradient's norm inf"):
        run(network, make_stage(network, objective=endless, optimizer=both), tmp_path)


def test_an_objective_that_is_broken_is_not_saved(tmp_path: Path) -> None:
    network, objective = make_ann(), Learning(lambda p: p)
    rates = (network, 0.1), (objective, math.inf)
    groups = [{"params": m.parameters(), "lr": lr, "initial_lr": lr} for m, lr in rates]
    stage = make_stage(network, objective=objective, optimizer=torch.optim.SGD(groups, lr=0.1))
    checkpoints = Checkpoints(tmp_path / "checkpoint.pt", minutes=1e-9)
    with pytest.raises(LeanspikeError, match="step 2: the loss is -inf"):
        fit(network, stage, [], checkpoints, Monitor(Console(file=io.StringIO())))
    assert checkpoints.load() is None


def test_weight_decay_spares_neurons_norms_and_biases() -> None:
    ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    snn = ls.spike(ann, example_input=torch.zeros(1, 1, 4, 4))
    optimizer = create_optimizer(snn, learning_rate=0.1, weight_decay=1e-2)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    decayed = {name for name, p in snn.named_parameters() if decay[id(p)] > 0}
    assert decayed == {"0.weight"}
    assert len(decay) == len(list(snn.parameters()))


def test_norms_decay_if_asked_for() -> None:
    hidden = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()
    ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), *hidden)
    snn = ls.spike(ann, example_input=torch.zeros(1, 1, 4, 4), norm="bntt")
    groups = create_optimizer(
        snn, learning_rate=0.1, weight_decay=1e-2, decay_norms=True
    ).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    decayed = {name for name, p in snn.named_parameters() if decay.get(id(p), 0) > 0}
    assert decayed == {"0.weight", "1.weight", "3.weight", "4.weight"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("cosine", [1, 0.9045, 0.6545, 0.3455, 0.0955]),
        ("linear", [1, 0.8, 0.6, 0.4, 0.2]),
        ("step", [1, 1, 1, 0.1, 0.01]),
    ],
)
def test_schedules(kind: Any, values: list[float]) -> None:
    factor = create_schedule(kind, 5)
    assert [round(factor(step), 4) for step in range(5)] == pytest.approx(values)


def test_a_damaged_or_hostile_checkpoint_is_refused_and_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "checkpoint.pt"
    for content in (b"", b"not a checkpoint", None):
        if content is None:
            torch.save({"stage": Hostile()}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(LeanspikeError, match=r"checkpoint\.pt is damaged or not a checkpoint"):
            Checkpoints(path, minutes=1).load()
    assert not (tmp_path / "executed").exists()
