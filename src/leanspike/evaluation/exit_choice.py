"""Choosing an early exit on validation data, and measuring what it saves on the test set.

Shapes: T timesteps, N samples, K classes; ``_TNK`` is ``[T, N, K]``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from leanspike.batches import Source
from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import batches_for, check_classes, check_labels
from leanspike.evaluation.early_exit import (
    After,
    Confident,
    Measure,
    confidence,
    exit_early,
    gamma_steps,
)
from leanspike.evaluation.energy import OperationCounter, Prices
from leanspike.evaluation.exit_result import ClassExit, EarlyExit
from leanspike.evaluation.result import Result
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


@dataclass(frozen=True)
class Choice:
    """A rule chosen on validation data, and what it came to there.

    ``by`` is "gamma" or a measure of confidence; ``max_drop`` and the accuracies are fractions,
    ``full_accuracy`` that of all T steps; ``curve`` holds (threshold, mean steps, accuracy) of
    the thresholds there were, with the rule's latest step; ``n`` samples. Made by
    :func:`choose_confidence` and :func:`choose_gamma`:

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
) -> Choice:
    """The threshold and the latest step with the fewest steps that cost at most ``max_drop``.

    A sample leaves when it is sure, or when more steps help those no more who never become sure.

    Args:
        anytime_TNK: the answers after every step of validation samples (mean readout).
        labels: ``[N]``.
        measure: see :func:`confidence`.
        max_drop: the accuracy that may be lost, as a fraction (0.002 is 0.2 points).

    >>> anytime_TNK = torch.tensor([[[5.0, 0.0], [0.1, 0.0]], [[5.0, 0.0], [0.0, 5.0]]])
    >>> choice = choose_confidence(anytime_TNK, torch.tensor([0, 1]), max_drop=0.0)
    >>> choice.mean_steps, choice.accuracy  # the first sample leaves after one step
    (1.5, 1.0)
    """
    _check_drop(max_drop)
    sure_TN = confidence(anytime_TNK, measure)
    right_TN = anytime_TNK.argmax(-1) == labels
    # Between two neighbouring quantiles lie too few samples to matter.
    levels = torch.linspace(0, 1, 201, dtype=torch.float64, device=sure_TN.device)
    early = _thinned(sure_TN[:-1].flatten().double())  # none if there is but one step
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
    rule = Confident(measure, threshold, latest if latest < len(sure_TN) else None)
    return Choice(
        *(rule, measure, threshold, max_drop, len(labels), accuracy, full, mean_steps),
        curve=tuple(curves[latest]),
    )


def choose_gamma(
    gammas: Mapping[str, Sequence[float]],
    anytime_TNK: Tensor,
    labels: Tensor,
    max_drop: float = 0.002,
) -> Choice:
    """The highest threshold for :func:`gamma_steps` within ``max_drop`` of all T steps' accuracy.

    Args: see :func:`choose_confidence`.

    >>> anytime_TNK = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
    >>> gammas = {"norm": (0.9, 0.5, 0.1)}
    >>> choose_gamma(gammas, anytime_TNK, torch.tensor([1])).rule
    After(steps=2)
    """
    _check_drop(max_drop)
    right_TN = anytime_TNK.argmax(-1) == labels
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
    """The point with the fewest steps that is accurate enough; of those, the most accurate."""
    allowed = [point for point in curve if point[2] >= accuracy]
    return min(allowed, key=lambda point: (point[1], -point[2]))


def exit_steps(leaves_TN: Tensor) -> Tensor:
    """The step, from 1, at which each sample may leave for the first time; else T. ``[N]``.

    >>> exit_steps(torch.tensor([[False, True], [False, False], [True, True]])).tolist()
    [3, 1]
    """
    last = torch.ones_like(leaves_TN[:1])
    return torch.cat([leaves_TN[:-1], last]).int().argmax(0) + 1


@torch.no_grad()
def anytime(snn: SpikingNetwork, batches: Source) -> tuple[Tensor, Tensor]:
    """The answers after every step (mean readout) ``[T, N, K]`` and the labels ``[N]``.

    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> snn = spike(ann.eval(), example_input=torch.zeros(1, 8), timesteps=5)
    >>> anytime(snn, [(torch.randn(32, 8), torch.randint(3, (32,)))])[0].shape
    torch.Size([5, 32, 3])
    """
    pairs = batches_for(snn, batches)
    with eval_mode(snn):
        answered = [(readout(snn(x), "mean"), labels) for x, labels in pairs]
    if not answered:
        raise pairs.nothing("to choose an exit on")
    y_TNK = torch.cat([y for y, _ in answered], 1)
    labels_N = torch.cat([labels for _, labels in answered])
    check_classes(y_TNK)
    check_labels(labels_N, y_TNK.shape[2])
    return y_TNK, labels_N


def _thinned(values: Tensor) -> Tensor:
    """At most a million entries, evenly spaced: torch.quantile takes no more than 16 million."""
    return values[:: max(1, len(values) // 1_000_000)]


def _check_drop(max_drop: float) -> None:
    if not 0 <= max_drop < 1:
        raise LeanspikeError(f"max_drop is {max_drop}; give a fraction, as 0.002 for 0.2 points")


@torch.no_grad()
def measure_exit(snn: SpikingNetwork, choice: Choice, batches: Source, full: Result) -> EarlyExit:
    """What a chosen exit comes to on the test set: steps, time and energy, all of them measured.

    Every batch is run whole and with samples leaving, in turn, so that both are timed alike; the
    operations are counted in a third run.

    Args:
        snn: in eval mode after it as before it.
        choice: from validation data.
        batches: of the test set.
        full: the evaluation of all T steps on the same data.

    >>> from leanspike import evaluate, spike
    >>> _ = torch.manual_seed(0)
    >>> hidden = torch.nn.Linear(8, 16), torch.nn.ReLU()
    >>> ann = torch.nn.Sequential(*hidden, torch.nn.Linear(16, 3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=5)
    >>> data = [(torch.randn(32, 8), torch.randint(3, (32,)))]
    >>> choice = choose_confidence(*anytime(snn, data), max_drop=0.1)
    >>> early = measure_exit(snn, choice, data, full=evaluate(snn, data))
    >>> early.mean_steps < 5, early.snn_pj < early.full_snn_pj, sum(early.leaving)
    (True, True, 1.0)
    """
    counter = OperationCounter(snn)
    right, steps, labels_seen = [], [], []
    seconds = full_seconds = 0.0
    with eval_mode(snn):
        for number, (x, labels) in enumerate(batches_for(snn, batches)):
            if number == 0:  # whatever the first call has to prepare
                exit_early(snn, x, choice.rule)
            begun = _now(x)
            snn(x)
            between = _now(x)
            exits = exit_early(snn, x, choice.rule)
            seconds += _now(x) - between
            full_seconds += between - begun
            counter.begin_batch(len(labels))
            exit_early(snn, x, choice.rule, observer=counter)
            right.append(exits.logits.argmax(-1) == labels)
            steps.append(exits.steps)
            labels_seen.append(labels)
    right_N, steps_N, labels_N = torch.cat(right), torch.cat(steps), torch.cat(labels_seen)
    mean_steps = steps_N.double().mean().item()
    prices = Prices(full.energy.mac_pj, full.energy.ac_pj)
    layers = sum(row.snn_pj for row in counter.rows(prices))
    membranes = full.energy.membrane_pj * mean_steps / full.timesteps
    snn_pj = layers + membranes + counter.norm_pj(prices)[1]
    return EarlyExit(
        by=choice.by,
        threshold=choice.threshold if math.isfinite(choice.threshold) else None,
        latest=choice.rule.latest if isinstance(choice.rule, Confident) else None,
        max_drop=choice.max_drop,
        validation_n=choice.n,
        validation_accuracy=choice.accuracy,
        validation_full_accuracy=choice.full_accuracy,
        validation_mean_steps=choice.mean_steps,
        curve=tuple((mean, accuracy) for _, mean, accuracy in choice.curve),
        n=len(right_N),
        accuracy=right_N.double().mean().item(),
        full_accuracy=full.accuracy[-1],
        mean_steps=mean_steps,
        leaving=_shares(steps_N, full.timesteps),
        classes=_by_class(right_N, steps_N, labels_N, full.classes, full.timesteps),
        snn_pj=snn_pj,
        full_snn_pj=full.energy.snn_pj,
        seconds=seconds,
        full_seconds=full_seconds,
    )


def _now(x: Tensor) -> float:
    """Seconds, when all that was asked of the device of ``x`` is done."""
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)
    return time.perf_counter()


def _shares(steps_N: Tensor, timesteps: int) -> tuple[float, ...]:
    """The share of the samples that leaves after each step."""
    counts = torch.bincount(steps_N - 1, minlength=timesteps)
    return tuple((counts.double() / len(steps_N)).tolist())


def _by_class(
    right_N: Tensor, steps_N: Tensor, labels_N: Tensor, names: Sequence[str], timesteps: int
) -> tuple[ClassExit, ...]:
    """Each class that occurs, for itself."""
    rows = []
    for label in sorted(set(labels_N.tolist())):
        its = labels_N == label
        rows.append(
            ClassExit(
                name=names[label] if label < len(names) else str(label),
                n=int(its.sum()),
                accuracy=right_N[its].double().mean().item(),
                mean_steps=steps_N[its].double().mean().item(),
                leaving=_shares(steps_N[its], timesteps),
            )
        )
    return tuple(rows)
