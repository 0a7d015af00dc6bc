"""What an early exit saves on the test set: steps, time and energy.

Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from leanspike.batches import Source
from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import batches_for
from leanspike.evaluation.early_exit import Confident, exit_early
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.exit_choice import Choice, right_samples
from leanspike.evaluation.exit_result import ClassExit, EarlyExit
from leanspike.evaluation.prices import Prices
from leanspike.evaluation.result import Result
from leanspike.evaluation.task import named_task
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork


@torch.no_grad()
def measure_exit(snn: SpikingNetwork, choice: Choice, batches: Source, full: Result) -> EarlyExit:
    """Measure a chosen exit on the test set: steps, time and energy.

    Each batch is run whole, and with samples leaving, in turn. Both are thus timed alike. A third
    run counts the operations.

    Args:
        snn: in eval mode after it as before it.
        choice: from validation data.
        batches: batches of the test set.
        full: the evaluation of all T steps on the same data.

    Raises:
        LeanspikeError: for a result without an accuracy.

    >>> from leanspike import evaluate, spike
    >>> from leanspike.evaluation import anytime, choose_confidence
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
    task = named_task(full.task)
    if task is None:
        raise LeanspikeError("the result has no accuracy; evaluate with labels for an early exit")
    counter = OperationCounter(snn)
    right, steps, labels_seen = [], [], []
    seconds = full_seconds = 0.0
    with eval_mode(snn):
        for number, (x, labels) in enumerate(batches_for(snn, batches)):
            if number == 0:  # the first call prepares things that must not be timed
                exit_early(snn, x, choice.rule)
            begun = _now(x)
            snn(x)
            between = _now(x)
            exits = exit_early(snn, x, choice.rule)
            seconds += _now(x) - between
            full_seconds += between - begun
            counter.begin_batch(len(labels))
            exit_early(snn, x, choice.rule, observer=counter)
            right.append(right_samples(task, exits.logits[None], labels)[0])
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
    """Return the time in seconds, when the device of ``x`` has done all its work."""
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)
    return time.perf_counter()


def _shares(steps_N: Tensor, timesteps: int) -> tuple[float, ...]:
    """Return the share of the samples that leaves after each step."""
    counts = torch.bincount(steps_N - 1, minlength=timesteps)
    return tuple((counts.double() / len(steps_N)).tolist())


def _by_class(
    right_N: Tensor, steps_N: Tensor, labels_N: Tensor, names: Sequence[str], timesteps: int
) -> tuple[ClassExit, ...]:
    """Return a row for each class that occurs; none where samples have several labels."""
    rows: list[ClassExit] = []
    if right_N.is_floating_point():
        return ()
    labels_N = labels_N.flatten().long()
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
