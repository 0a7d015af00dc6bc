"""Networks that do not classify: spikes, operations, energy, and a function of the user's."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Result, load_result

X = torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def segmenter() -> tuple[nn.Module, ls.SpikingNetwork]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    snn = ls.spike(net, example_input=X[:1], timesteps=3)
    ls.calibrate(snn, X)
    return net, snn


def same_cost(one: Result, other: Result) -> bool:
    """Spikes, operations and energy, to rounding: batches are of other sizes."""
    return one.energy.snn_pj == pytest.approx(other.energy.snn_pj) and [
        layer.spikes_per_step for layer in one.neurons
    ] == [pytest.approx(layer.spikes_per_step) for layer in other.neurons]


SOURCES: dict[str, Any] = {
    "a tensor": X,
    "an array": X.numpy(),
    "batches": [X[:10], X[10:20], X[20:]],
    "a loader": DataLoader(TensorDataset(X), 8),
    "batches in lists": [[X[:20]], [X[20:]]],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_inputs_alone_give_spikes_operations_and_energy(kind: str, tmp_path: Path) -> None:
    net, snn = segmenter()
    labelled = ls.evaluate(snn, (X, torch.zeros(30, 4, 4).long()))
    result = ls.evaluate(snn, SOURCES[kind], ann=net)
    assert same_cost(result, labelled)
    assert (result.n, result.task, result.accuracy) == (30, "none", ())
    assert (result.ann_accuracy, result.chance, result.mistakes) == (None, None, None)
    assert (result.at_chance, result.summary["snn_accuracy"]) == (False, None)
    (tmp_path / "result.json").write_text(result.model_dump_json())
    assert load_result(tmp_path / "result.json") == result


def test_pixels_are_labels_and_other_targets_are_said_to_be_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net, snn = segmenter()
    labels = torch.arange(480).view(30, 4, 4) % 2
    result = ls.evaluate(snn, (X, labels), ann=net)
    expected = (snn(X).sum(0).argmax(1) == labels).double().mean().item()
    assert result.accuracy[-1] == pytest.approx(expected)
    assert (result.task, result.unit, result.mistakes) == ("multiclass", "pixel", None)
    assert result.ann_accuracy == (net(X).argmax(1) == labels).double().mean().item()
    for targets in (torch.zeros(30).long(), torch.rand(30, 2, 4, 4)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "leanspike"):
            found = ls.evaluate(snn, (X, targets))
            assert same_cost(found, result)
            assert found.accuracy == ()
            assert "are no labels of outputs [30, 2, 4, 4]: their accuracy is" in caplog.text
            assert caplog.text.count("no labels") == 1
            caplog.clear()
            assert ls.evaluate(snn, (X, targets), task="none").accuracy == ()  # as it says
            ls.evaluate(snn, (X, targets), metric=lambda y, _: y.mean())
            assert not caplog.text


def test_a_metric_is_that_of_a_plain_loop_and_of_the_ann() -> None:
    net, snn = segmenter()
    targets = torch.rand(30, 2, 4, 4)
    batches = [(X[:20], targets[:20]), (X[20:], targets[20:])]
    result = ls.evaluate(snn, batches, ann=net, metric=F.mse_loss)
    y_TN = snn(X)
    for t in range(3):
        expected = F.mse_loss(y_TN[: t + 1].mean(0), targets).item()
        assert result.metrics["mse_loss"][t] == pytest.approx(expected, rel=1e-5)
    assert result.ann_metrics["mse_loss"] == pytest.approx(F.mse_loss(net(X), targets).item())
    assert result.accuracy == ()
    assert result.summary["metrics"] == {
        "mse_loss": {"ann": result.ann_metrics["mse_loss"], "snn": result.metrics["mse_loss"][-1]}
    }
    summed = ls.evaluate(snn, batches, metric=F.mse_loss, readout="sum")
    assert summed.metrics["mse_loss"][1] == pytest.approx(
        F.mse_loss(y_TN[:2].sum(0), targets).item(), rel=1e-5
    )
    assert summed.ann_metrics == {}


def test_a_metric_may_give_several_numbers_beside_an_accuracy_that_is_asked_for() -> None:
    net, snn = segmenter()
    labels = torch.arange(480).view(30, 4, 4) % 2

    def shares(y: Tensor, target: Tensor) -> dict[str, Tensor | float]:
        return {"right": (y.argmax(1) == target).float().mean(), "one": 1.0}

    result = ls.evaluate(snn, (X, labels), ann=net, metric=shares, task="multiclass")
    assert result.metrics["right"] == pytest.approx(result.accuracy)
    assert result.metrics["one"] == (1.0, 1.0, 1.0)
    assert ls.evaluate(snn, (X, labels), metric=shares).accuracy == ()


def test_targets_of_any_kind_reach_the_metric() -> None:
    _, snn = segmenter()
    boxes = [{"boxes": torch.arange(30.0)}, [{"name": f"{i}"} for i in range(30)]]
    for targets, count in ((boxes[0], lambda t: len(t["boxes"])), (boxes[1], len)):
        for batches in ((X, targets), [(X, targets)]):
            seen: list[int] = []

            def size(y: Tensor, target: Any, seen: Any = seen, count: Any = count) -> float:
                assert len(y) == count(target)
                seen.append(len(y))
                return 0.5

            result = ls.evaluate(snn, batches, metric=size)
            assert result.metrics["size"] == (0.5, 0.5, 0.5)
            assert seen == [30, 30, 30]
        with pytest.raises(LeanspikeError, match=r"labels are a .* without plain numbers"):
            ls.evaluate(snn, [(X, targets)])
        assert ls.evaluate(snn, [(X, targets)], task="none").n == 30
    large = torch.rand(200, 3, 4, 4)  # one pair is taken 128 samples at a time, targets with it
    sizes = ls.evaluate(
        snn, (large, {"a": torch.ones(200)}), metric=lambda _, t: float(len(t["a"]))
    )
    assert sizes.metrics["metric"][0] == pytest.approx((128 * 128 + 72 * 72) / 200)


@pytest.mark.parametrize(
    ("metric", "message", "mended"),
    [
        ("mse", "metric is a str; give a function from outputs", lambda *_: 0),
        (lambda y, _: y, r"metric metric gave shape \[30, 2, 4, 4\]; give a number for a batch",
         lambda y, _: y.mean()),
        (lambda *_: None, "metric metric gave NoneType; give a number", lambda *_: 1),
        (lambda *_: float("nan"), "metric is nan; .* leave samples", lambda *_: np.float32(0)),
        (lambda *_: {}, "metric gave nothing, and no number before", lambda *_: {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_no_metric_is_refused(metric: Any, message: str, mended: Any) -> None:
    _, snn = segmenter()
    with pytest.raises(LeanspikeError, match=message):
        ls.evaluate(snn, (X, torch.zeros(30)), metric=metric)
    assert len(ls.evaluate(snn, (X, torch.zeros(30)), metric=mended).metrics) == 1


def test_what_is_asked_for_must_be_there() -> None:
    _, snn = segmenter()
    with pytest.raises(LeanspikeError, match=r"metric has no targets: .* \(x, x\) for an auto"):
        ls.evaluate(snn, X, metric=F.mse_loss)
    assert ls.evaluate(snn, (X, X), metric=lambda y, x: (y.mean() - x.mean()).abs()).metrics
    with pytest.raises(LeanspikeError, match="30 of 30 samples have no labels; give pairs"):
        ls.evaluate(snn, X, task="multiclass")
    labels = torch.zeros(30, 4, 4).long()
    with pytest.raises(LeanspikeError, match="20 of 30 samples have no labels; give pairs"):
        ls.evaluate(snn, [(X[:10], labels[:10]), X[10:]])
    assert ls.evaluate(snn, [(X[:10], labels[:10]), X[10:]], task="none").n == 30
    with pytest.raises(LeanspikeError, match="no samples to evaluate on"):
        ls.evaluate(snn, [])
    for empty in (X[:0], (X[:0], labels[:0]), [(X[:0], labels[:0])]):
        with pytest.raises(LeanspikeError, match="no samples to evaluate on"):
            ls.evaluate(snn, empty)
    assert ls.evaluate(snn, [(X[:0], labels[:0]), (X[:10], labels[:10])]).n == 10


def test_a_policy_of_events_in_frames_needs_no_labels() -> None:
    torch.manual_seed(0)
    actor = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    snn = ls.spike(actor, example_input=torch.zeros(5, 1, 4), encode="frames", timesteps=5)
    frames = torch.rand(5, 40, 4)
    result = ls.evaluate(snn, frames)
    assert (result.n, result.timesteps, result.accuracy) == (40, 5, ())
    two = [frames[:, :20], frames[:, 20:]]
    with pytest.raises(LeanspikeError, match=r"for two batches give \[\(x,\) for x in batches\]"):
        ls.evaluate(snn, two)
    assert ls.evaluate(snn, [(x,) for x in two]).n == 40


@dataclass
class Boxes:
    where: Tensor
    kind: Tensor


def test_outputs_in_a_dataclass_reach_the_metric() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Boxes:
            h = F.relu(self.body(x))
            return Boxes(self.head(h), h.sum(1))

    ann, x = Detector().eval(), torch.rand(4, 4)
    snn = ls.spike(ann, example_input=x[:1], timesteps=2)

    def off(y: Boxes, target: Tensor) -> Tensor:
        return F.mse_loss(y.where, target)

    result = ls.evaluate(snn, [(x, ann(x).where)], ann=ann, metric=off)
    assert result.ann_metrics == {"off": 0.0}
