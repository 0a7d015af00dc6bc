"""The expected calibration error: against a derivation of its own, and from run to page."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import About, Result, load_result
from leanspike.metrics import CalibrationError, metrics
from leanspike.report import render_tables, write_report

N, K, T = 200, 4, 3


def derived(logits_NK: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> float:
    """Guo et al., equation 3, sample by sample: no tensor, no histogram."""
    groups: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(logits_NK, labels, strict=True):
        weights = [np.exp(value - max(row)) for value in row]
        sure = max(weights) / sum(weights)
        edges = [number for number in range(bins) if number / bins < sure <= (number + 1) / bins]
        groups.setdefault(edges[0], []).append((sure, int(np.argmax(row)) == label))
    gaps = (
        len(group) * abs(np.mean([sure for sure, _ in group]) - np.mean([ok for _, ok in group]))
        for group in groups.values()
    )
    return float(sum(gaps)) / len(labels)


def batches(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y_TNK = 2 * torch.randn(T, N, K, generator=generator, dtype=torch.float64)
    ann_NK = torch.randn(N, K, generator=generator, dtype=torch.float64)
    return y_TNK, ann_NK, torch.randint(K, (N,), generator=generator)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_it_is_that_of_a_plain_derivation(bins: int, readout: str) -> None:
    y_TNK, ann_NK, labels = batches()
    metric = CalibrationError(bins)
    metric.begin(About(T, readout))  # type: ignore[arg-type]
    for part in (slice(0, 70), slice(70, N)):
        metric.see(y_TNK[:, part], labels[part], ann_NK[part])
    row = metric.row()
    for t, step in enumerate(row.steps):
        read = y_TNK[: t + 1].sum(0) / (t + 1 if readout == "mean" else 1)
        assert step.error == pytest.approx(derived(read.numpy(), labels.numpy(), bins), abs=1e-12)
        assert sum(step.answers) == N
    assert row.ann is not None
    assert row.ann.error == pytest.approx(derived(ann_NK.numpy(), labels.numpy(), bins), abs=1e-12)


def test_it_is_0_for_who_is_as_sure_as_right_and_1_for_who_is_sure_and_wrong() -> None:
    even = torch.zeros(1, 4, 2)  # half sure of class 0, and half right
    for y_TNK, labels, error in (
        (even, torch.tensor([0, 0, 1, 1]), 0.0),
        (torch.tensor([[[99.0, 0.0]]]), torch.tensor([1]), 1.0),
    ):
        metric = CalibrationError()
        metric.begin(About(1))
        metric.see(y_TNK, labels, None)
        assert metric.row().steps[0].error == pytest.approx(error)
        assert metric.row().ann is None


def test_yes_or_no_and_pixels_that_are_left_out() -> None:
    metric = CalibrationError(2)
    metric.begin(About(1, "mean", "binary"))
    metric.see(torch.tensor([[[2.0], [-2.0]]]), torch.tensor([1, 1]), None)
    sure = 1 / (1 + np.exp(-2.0))
    assert metric.row().steps[0].error == pytest.approx(abs(sure - 0.5))
    metric.begin(About(1))
    metric.see(torch.zeros(1, 1, 2, 3), torch.tensor([[0, -100, -100]]), None)
    assert sum(metric.row().steps[0].answers) == 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "calibration_error needs labels, and the batches are inputs alone; give pairs"),
        (torch.zeros(4, 2), "calibration_error is of classes, and the targets are no labels"),
    ],
)
def test_what_has_no_classes_is_refused(targets: Tensor | None, message: str) -> None:
    metric = CalibrationError()
    metric.begin(About(1, "mean", "none"))
    with pytest.raises(LeanspikeError, match=message):
        metric.see(torch.zeros(1, 4, 2), targets, None)


def measured() -> Result:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 8), timesteps=2)
    pair = torch.rand(32, 8), torch.randint(3, (32,))
    made = {"calibration_error": metrics.create("calibration_error", {"bins": 5})}
    return ls.evaluate(snn, [pair], ann=ann, metrics=made)


def test_a_result_keeps_and_shows_it(tmp_path: Path) -> None:
    result = measured()
    found = CalibrationError.Row.model_validate(result.measured["calibration_error"])
    (tmp_path / "result.json").write_text(result.model_dump_json())
    assert load_result(tmp_path / "result.json") == result
    page = write_report(result, [], tmp_path / "report.html").read_text()
    console = Console(width=80, record=True, file=StringIO())
    console.print(render_tables(result))
    shown = console.export_text()
    assert "Expected calibration error in % of 32 images, after each step" in shown
    for step in found.steps:
        assert f"{100 * step.error:.2f}" in shown
        assert f"{100 * step.error:.2f}" in page
    assert "Reliability by step" in page
    assert ">after step 2</text>" in page


def test_a_result_of_a_metric_that_is_not_here_is_still_shown(tmp_path: Path) -> None:
    result = measured().model_copy(update={"measured": {"of_old": {"a": 1}}})
    page = write_report(result, [], tmp_path / "report.html").read_text()
    assert "of_old: its package is not installed here" in page


def test_bins_are_checked() -> None:
    with pytest.raises(LeanspikeError, match="bins is 0; give 1 or more"):
        CalibrationError(0)
    with pytest.raises(LeanspikeError, match="metric calibration_error: bins is 0"):
        metrics.create("calibration_error", {"bins": 0})
