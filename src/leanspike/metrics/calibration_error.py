"""Expected calibration error: whether a network is as sure as it is right, after each step.

Shapes: T timesteps, N samples, A answers of a batch, B bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from leanspike.batches import as_labels
from leanspike.errors import LeanspikeError
from leanspike.evaluation.metric import About, Look, Metric, Picture, StepTable, metrics
from leanspike.evaluation.record import Record
from leanspike.evaluation.score import Labels, one_tensor
from leanspike.evaluation.task import UNKNOWN, Task
from leanspike.execute import readout
from leanspike.section import Count, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Reliability(Record):
    """The answers of one step by how sure they are, in B bins of equal width over (0, 1].

    ``confidence`` and ``accuracy`` are the means over a bin's ``answers``, and 0 in an empty bin.
    """

    answers: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        rows = zip(self.answers, self.confidence, self.accuracy, strict=True)
        return sum(n * abs(sure - right) for n, sure, right in rows) / sum(self.answers)


class Calibration(Record):
    """What was found: a row of bins for each step, and the ANN's row (None: no ANN)."""

    steps: tuple[Reliability, ...]
    ann: Reliability | None = None


@final
@metrics.register("calibration_error")
class CalibrationError(Metric):
    """The expected calibration error: how far confidence is from accuracy.

        ECE = Σ_b  n_b / n · | accuracy_b − confidence_b |

    There are B bins b of equal width. An answer is in bin b if its largest probability is in ((b −
    1) / B, b / B]. Source: Guo et al., ICML 2017, arXiv 1706.04599, eq. 3; B is 15 there, too.
    Probabilities are the softmax of the read-out outputs. A sum over steps is surer than a mean,
    with the same answers: see `evaluate.readout`.

    Args:
        bins: B, at least 1.

    Raises:
        LeanspikeError: for targets that are no labels, or batches without targets.

    >>> metric = CalibrationError(bins=2)
    >>> metric.begin(About(timesteps=1))
    >>> sure = torch.tensor([[[9.0, 0.0], [9.0, 0.0]]])  # of class 0, twice; once it is wrong
    >>> metric.see(sure, torch.tensor([0, 1]), None)
    >>> round(metric.row().steps[0].error, 3)
    0.5
    """

    class Config(Section):
        """Expected calibration error, and a reliability curve, after each step."""

        bins: Count = 15
        """Bins of equal width over the confidence."""

    Row = Calibration

    def __init__(self, bins: int = 15) -> None:
        if bins < 1:
            raise LeanspikeError(f"bins is {bins}; give 1 or more")
        self.bins = bins
        self.about = About(0)
        self.labels = Labels(None)
        self.sums_TB = self.ann_1B = torch.zeros(0)

    def begin(self, about: About) -> None:
        self.about, self.labels = about, Labels(about.task)
        self.sums_TB = torch.zeros(about.timesteps, 3, self.bins, dtype=torch.float64)
        self.ann_1B = torch.zeros(1, 3, self.bins, dtype=torch.float64)

    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        if targets is None:
            raise LeanspikeError(
                "calibration_error needs labels, and the batches are inputs alone; give pairs"
            )
        y_TN, labels = one_tensor(y_TN), as_labels(targets)
        task = self.labels.task(y_TN, labels)
        if task is None:
            raise LeanspikeError(
                "calibration_error is of classes, and the targets are no labels; leave it out"
            )
        self.sums_TB += self._sums(readout(y_TN, self.about.readout), labels, task)
        if ann_N is not None:
            self.ann_1B += self._sums(one_tensor(ann_N, "the ANN")[None], labels, task)

    def _sums(self, y_TN: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return for each step and bin: answers, the sum of their confidence, and right answers."""
        logits = task.logits(y_TN).double()
        asked_A = (targets_A := task.targets(labels, y_TN).flatten()) != UNKNOWN
        sure_TA = logits.softmax(-1).amax(-1).flatten(1)[:, asked_A].cpu()
        right_TA = (task.answers(y_TN).flatten(1) == targets_A)[:, asked_A].double().cpu()
        bin_TA = ((sure_TA * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        empty_TB = torch.zeros(len(y_TN), self.bins, dtype=torch.float64)
        values = torch.ones_like(sure_TA), sure_TA, right_TA
        return torch.stack([empty_TB.scatter_add(1, bin_TA, value) for value in values], 1)

    def row(self) -> Calibration:
        steps = tuple(map(_reliability, self.sums_TB))
        return Calibration(
            steps=steps, ann=_reliability(self.ann_1B[0]) if self.ann_1B.any() else None
        )

    @classmethod
    def tables(cls, row: Record) -> tuple[StepTable, ...]:
        assert isinstance(row, Calibration)
        errors = tuple(step.error for step in row.steps)
        ann = None if row.ann is None else row.ann.error
        return (StepTable("Expected calibration error", errors, ann, "%"),)

    @classmethod
    def pictures(cls, row: Record) -> tuple[Picture, ...]:
        assert isinstance(row, Calibration)
        caption = (
            "Answers are sorted by how sure the network is; a point is the share of them that is "
            "right. On the thin diagonal a network is as sure as it is right. Below it, it is too "
            "sure. Steps go from light to dark; the ANN is dashed."
        )
        return (
            Picture(
                "Reliability by step", caption, 360, lambda figure, look: _draw(row, figure, look)
            ),
        )


def _reliability(sums_B: Tensor) -> Reliability:
    answers, sure, right = sums_B
    shares = answers.clamp(min=1)
    return Reliability(
        answers=tuple(map(int, answers.tolist())),
        confidence=tuple((sure / shares).tolist()),
        accuracy=tuple((right / shares).tolist()),
    )


def _draw(row: Calibration, figure: Figure, look: Look) -> None:
    """Draw accuracy over confidence, a line for each step."""
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=look.ann, linewidth=1)
    last = len(row.steps) - 1
    for step, found in enumerate(row.steps):
        share = step / last if last else 1.0
        color = look.snn_light if share < 1 / 3 else look.snn if share < 1 else look.snn_dark
        label = f"after step {step + 1}" if step in (0, last) else None
        axes.plot(*_points(found), color=color, marker="o", markersize=4, label=label)
    if row.ann is not None:
        axes.plot(*_points(row.ann), color=look.ann, dashes=(4, 2), label="ANN")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper left")


def _points(found: Reliability) -> tuple[list[float], list[float]]:
    """Return confidence and accuracy of the bins that have answers."""
    rows = zip(found.answers, found.confidence, found.accuracy, strict=True)
    pairs = [(sure, right) for n, sure, right in rows if n]
    return [sure for sure, _ in pairs], [right for _, right in pairs]
