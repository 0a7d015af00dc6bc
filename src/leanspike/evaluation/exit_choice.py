"""Choosing an early exit on validation data.

Shapes: T timesteps, N samples, K classes; ``_TNK`` is ``[T, N, K]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from leanspike.batches import Source
from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import batches_for
from leanspike.evaluation.early_exit import (
    After,
    Confident,
    Measure,
    confidence,
    gamma_steps,
)
from leanspike.evaluation.score import Labels, one_tensor, refuse_no_labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


@dataclass(frozen=True)
class Choice:
    """A rule chosen on validation data, and its accuracy and steps there.

    ``by`` is "gamma" or a measure of confidence. ``max_drop`` and the accuracies are fractions, and
    ``full_accuracy`` is that of all T steps. ``curve`` holds (threshold, mean steps, accuracy) of
    the thresholds that were tried, with the rule's latest step. ``n`` counts samples.
    :func:`choose_confidence` and :func:`choose_gamma` make a choice.

    >>> choose_confidence(torch.tensor([[[9.0, 0.0]]] * 4), torch.tensor([0])).rule
    Confident(measure='margin', threshold=0.9997532...)
    """

    rule: After | Confident
    by: str
    threshold: float
    max_drop: float
    n: int
    accuracy: float
    full_accuracy: float
    mean_steps: float
    curve: tuple[tuple[float, float, float], ...]


def choose_confidence(
    anytime_TNK: Tensor,
    labels: Tensor,
    measure: Measure = "margin",
    max_drop: float = 0.002,
    task: TaskName | None = None,
) -> Choice:
    """Choose the threshold and the latest step of an exit by confidence.

    They are those with the fewest steps that lose an accuracy of at most ``max_drop``. A sample
    leaves when it is sure, or after the latest step. That is the step after which further steps
    help unsure samples no more.

    Args:
        anytime_TNK: the answers after every step of validation samples (mean readout).
        labels: as in :func:`leanspike.evaluation.accuracy`, as is ``task``.
        measure: see :func:`confidence`.
        max_drop: the accuracy that may be lost, as a fraction (0.002 is 0.2 points).

    >>> anytime_TNK = torch.tensor([[[5.0, 0.0], [0.1, 0.0]], [[5.0, 0.0], [0.0, 5.0]]])
    >>> choice = choose_confidence(anytime_TNK, torch.tensor([0, 1]), max_drop=0.0)
    >>> choice.mean_steps, choice.accuracy  # the first sample leaves after one step
    (1.5, 1.0)
    """
    _check_drop(max_drop)
    found = _task(anytime_TNK, labels, task)
    logits = anytime_TNK if anytime_TNK.dim() > 2 else anytime_TNK.unsqueeze(2)
    sure_TN = confidence(logits, measure, found.name)
    right_TN = right_samples(found, anytime_TNK, labels)
    # 201 quantiles are enough: too few samples lie between two neighbouring ones to matter.
    levels = torch.linspace(0, 1, 201, dtype=torch.float64, device=sure_TN.device)
    early = _thinned(sure_TN[:-1].flatten().double())  # empty if there is one step
    thresholds = sorted(set(torch.quantile(early, levels).tolist())) if len(early) else []
    curves: dict[int, list[tuple[float, float, float]]] = {}
    for threshold in (*thresholds, math.inf):
        first_N = exit_steps(sure_TN >= threshold)
        for latest in range(1, len(sure_TN) + 1):
            steps_N = first_N.clamp(max=latest)
            accuracy = right_TN.gather(0, steps_N[None] - 1).double().mean().item()
            point = threshold, steps_N.double().mean().item(), accuracy
            curves.setdefault(latest, []).append(point)
    full = right_TN[-1].double().mean().item()
    threshold, mean_steps, accuracy = best = _cheapest(
        list(chain(*curves.values())), full - max_drop
    )
    latest = max(latest for latest, curve in curves.items() if best in curve)
    last = latest if latest < len(sure_TN) else None
    several: TaskName | None = "multilabel" if found.name == "multilabel" else None
    rule = Confident(measure, threshold, last, several)
    return Choice(
        *(rule, measure, threshold, max_drop, len(labels), accuracy, full, mean_steps),
        curve=tuple(curves[latest]),
    )


def choose_gamma(
    gammas: Mapping[str, Sequence[float]],
    anytime_TNK: Tensor,
    labels: Tensor,
    max_drop: float = 0.002,
    task: TaskName | None = None,
) -> Choice:
    """Choose the highest threshold for :func:`gamma_steps` that loses at most ``max_drop``.

    The loss is against the accuracy of all T steps. The arguments are those of
    :func:`choose_confidence`.

    >>> anytime_TNK = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
    >>> gammas = {"norm": (0.9, 0.5, 0.1)}
    >>> choose_gamma(gammas, anytime_TNK, torch.tensor([1])).rule
    After(steps=2)
    """
    _check_drop(max_drop)
    right_TN = right_samples(_task(anytime_TNK, labels, task), anytime_TNK, labels)
    accuracies = right_TN.double().mean(1).tolist()
    values = sorted({gamma for row in gammas.values() for gamma in row})
    curve = []
    for threshold in (*(math.nextafter(value, math.inf) for value in values), -math.inf):
        steps = min(gamma_steps(gammas, threshold), len(accuracies))
        curve.append((threshold, float(steps), accuracies[steps - 1]))
    full = accuracies[-1]
    threshold, taken, accuracy = _cheapest(curve, full - max_drop)
    rule = After(int(taken))
    return Choice(
        *(rule, "gamma", threshold, max_drop, len(labels), accuracy, full, taken, tuple(curve))
    )


def _cheapest(
    curve: list[tuple[float, float, float]], accuracy: float
) -> tuple[float, float, float]:
    """Return the point with the fewest steps that is accurate enough.

    If there are several, it is the most accurate one.
    """
    allowed = [point for point in curve if point[2] >= accuracy]
    return min(allowed, key=lambda point: (point[1], -point[2]))


def exit_steps(leaves_TN: Tensor) -> Tensor:
    """Return the step, from 1, at which each sample may leave for the first time, else T: ``[N]``.

    >>> exit_steps(torch.tensor([[False, True], [False, False], [True, True]])).tolist()
    [3, 1]
    """
    last = torch.ones_like(leaves_TN[:1])
    return torch.cat([leaves_TN[:-1], last]).int().argmax(0) + 1


@torch.no_grad()
def anytime(
    snn: SpikingNetwork, batches: Source, task: TaskName | None = None
) -> tuple[Tensor, Tensor]:
    """Return the answers after every step (mean readout), ``[T, N, K]``, and the labels.

    The arguments are those of :func:`leanspike.evaluation.accuracy`.

    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> snn = spike(ann.eval(), example_input=torch.zeros(1, 8), timesteps=5)
    >>> anytime(snn, [(torch.randn(32, 8), torch.randint(3, (32,)))])[0].shape
    torch.Size([5, 32, 3])
    """
    pairs = batches_for(snn, batches)
    with eval_mode(snn):
        answered = [(readout(one_tensor(snn(x)), "mean"), labels) for x, labels in pairs]
    if not answered:
        raise pairs.nothing("to choose an exit on")
    y_TNK = torch.cat([y for y, _ in answered], 1)
    labels_N = torch.cat([labels for _, labels in answered])
    _task(y_TNK, labels_N, task).check(labels_N, y_TNK)
    return y_TNK, labels_N


def _task(y_TN: Tensor, labels: Tensor, task: TaskName | None) -> Task:
    """Return what the labels are of.

    Raises:
        LeanspikeError: where samples have no one answer to leave with.
    """
    found = Labels(task).task(y_TN, labels)
    if found is None:
        raise refuse_no_labels(y_TN, labels)
    if y_TN.dim() > 3 or found.unit(y_TN) not in ("sample", "label"):
        raise LeanspikeError(
            f"outputs of shape {list(y_TN.shape[1:])} answer for each {found.unit(y_TN)}, and a "
            "sample leaves whole: early exit is for one answer a sample, or several labels"
        )
    return found


def right_samples(task: Task, y_TN: Tensor, labels: Tensor) -> Tensor:
    """Tell which samples are answered correctly, ``[T, N]``.

    With several labels it is the share of them that is right.

    >>> from leanspike.evaluation import Binary
    >>> right_samples(Binary(), torch.tensor([[[0.5], [0.5]]]), torch.tensor([1, 0]))
    tensor([[ True, False]])
    """
    right_TN = task.answers(y_TN) == task.targets(labels, y_TN)
    return right_TN if right_TN.dim() == 2 else right_TN.double().mean(2)


def _thinned(values: Tensor) -> Tensor:
    """Return at most a million entries, evenly spaced: torch.quantile takes at most 16 million."""
    return values[:: max(1, len(values) // 1_000_000)]


def _check_drop(max_drop: float) -> None:
    if not 0 <= max_drop < 1:
        raise LeanspikeError(f"max_drop is {max_drop}; give a fraction, as 0.002 for 0.2 points")
