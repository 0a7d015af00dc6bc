"""Right answers, after every timestep.

Shapes: T timesteps, N samples, K outputs; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from leanspike.batches import Batches, Source, Targets
from leanspike.distributed import ALONE, Group
from leanspike.evaluation.score import Labels, Score, one_tensor, refuse_no_labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.execute import Gradient
from leanspike.graph.outputs import mapped
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


def batches_for(network: nn.Module, batches: Source, targets: Targets = "labels") -> Batches:
    """Return what a user gave as pairs for that network.

    >>> x, labels = next(iter(batches_for(nn.Identity(), (torch.eye(2), [0, 1]))))
    >>> labels
    tensor([0, 1])
    """
    if isinstance(batches, Batches):
        return Batches(batches.source, network, batches.axis, targets)
    axis = network.plan.encoder.batch_axis if isinstance(network, SpikingNetwork) else 0
    return Batches(batches, network, axis, targets)


def outputs(
    network: nn.Module, x: Tensor, timesteps: int | None = None, gradient: Gradient = "bptt"
) -> Any:
    """Return the outputs of every step ``[T, N, ...]``; an ANN answers in a single step.

    ``gradient`` is for a spiking network, see :meth:`leanspike.SpikingNetwork.forward`.
    """
    if isinstance(network, SpikingNetwork):
        return network(x, timesteps, gradient)
    return mapped(lambda y_N: y_N.unsqueeze(0), network(x))


def count_correct(
    y_TN: Tensor,
    labels: Tensor,
    mode: Literal["sum", "mean"] = "sum",
    task: Task | TaskName | None = None,
) -> Tensor:
    """Count how many answers are right after each step, int64 ``[T]``.

    Args:
        y_TN: the outputs of the steps, ``[T, N, ...]``.
        labels: as in :func:`accuracy`.
        mode: the readout.
        task: as in :func:`accuracy`.

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])  # class 0 at first, then class 1
    >>> count_correct(y_TNK, torch.tensor([1])).tolist()
    [0, 1]
    """
    found = Labels(task).task(y_TN, labels)
    if found is None:
        raise refuse_no_labels(y_TN, labels)
    answers_TN = found.answers(readout(y_TN, mode))
    return (answers_TN == found.targets(labels, y_TN)).flatten(1).sum(1)


@torch.no_grad()
def accuracy(
    network: nn.Module,
    batches: Source,
    timesteps: int | None = None,
    *,
    task: Task | TaskName | None = None,
    dtype: torch.dtype = torch.float32,
    group: Group = ALONE,
) -> list[float]:
    """Measure the fraction of answers that are right after each step (one entry for an ANN).

    Args:
        network: put into eval mode for the measurement, and back after it.
        batches: a DataLoader, a list of batches or one pair: input ``[N, ...]`` and labels; see
            :func:`leanspike.evaluation.measure`.
        timesteps: T; default the network's own.
        task: "multiclass" (the largest of K outputs), "binary" (whether one output is above 0) or
            "multilabel" (whether each of K is above 0; the share of labels that are right).
            Default: what the shapes and types of the first batch say, see
            :func:`leanspike.evaluation.find_task`.
        dtype: bfloat16 computes under autocast.
        group: processes that each have batches of their own, in turn. Each process gets the
            fraction over all.

    Raises:
        LeanspikeError: if there are no samples, or labels that do not fit these outputs.

    >>> accuracy(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 1]))])
    [0.6666666666666666]
    >>> accuracy(nn.Identity(), [(torch.tensor([[0.3], [-0.2]]), torch.tensor([1.0, 1.0]))])
    [0.5]
    """
    told, score = Labels(task), None
    pairs = batches_for(network, batches)
    with eval_mode(network):
        for x, labels in pairs:
            if not len(labels):
                continue
            with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
                y_TN = one_tensor(outputs(network, x, timesteps))
            found = told.task(y_TN, labels)
            if found is None:
                raise refuse_no_labels(y_TN, labels)
            score = score or Score(found, group=group)
            score.add(y_TN, labels)
    score = Score.of_all(score, group)
    if score is None or not score.samples:
        raise pairs.nothing("to measure the accuracy on")
    return list(score.result().accuracy)
