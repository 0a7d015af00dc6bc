"""Right answers, after every timestep.

Shapes: T timesteps, N samples, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from leanspike.batches import Batches, Source
from leanspike.errors import LeanspikeError
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


def batches_for(network: nn.Module, batches: Source) -> Batches:
    """What a user gave, as pairs for that network.

    >>> x, labels = next(iter(batches_for(nn.Identity(), (torch.eye(2), [0, 1]))))
    >>> labels
    tensor([0, 1])
    """
    if isinstance(batches, Batches):
        return Batches(batches.source, network, batches.axis)
    axis = network.plan.encoder.batch_axis if isinstance(network, SpikingNetwork) else 0
    return Batches(batches, network, axis)


def outputs(network: nn.Module, x: Tensor, timesteps: int | None = None) -> Tensor:
    """The outputs of every step ``[T, N, K]``; an ANN answers in a single step."""
    if isinstance(network, SpikingNetwork):
        y_TNK: Tensor = network(x, timesteps)
        return y_TNK
    y_NK: Tensor = network(x)
    return y_NK.unsqueeze(0)


def count_correct(y_TNK: Tensor, labels: Tensor, mode: Literal["sum", "mean"] = "sum") -> Tensor:
    """How many samples are answered correctly after each step, int64 ``[T]``.

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])  # class 0 at first, then class 1
    >>> count_correct(y_TNK, torch.tensor([1])).tolist()
    [0, 1]
    """
    check_classes(y_TNK)
    if labels.shape != y_TNK.shape[1:2] or labels.is_floating_point():
        raise LeanspikeError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype}; expected a whole "
            f"number for each of the {y_TNK.shape[1]} samples{_as_numbers(labels, y_TNK)}"
        )
    return (readout(y_TNK, mode).argmax(-1) == labels).sum(1)


def check_classes(y_TNK: Tensor, whose: str = "the network") -> None:
    """Raise unless these are outputs for classes: ``[T, N, K]`` with K of 2 or more.

    >>> check_classes(torch.zeros(5, 8, 1))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: the network has outputs of shape [8, 1]; ...
    """
    if y_TNK.dim() == 3 and y_TNK.shape[2] >= 2:
        return
    shape = list(y_TNK.shape[1:])
    single = y_TNK.dim() == 2 or shape[1:] == [1]
    way = "give a yes or no two outputs, as nn.Linear(..., 2), or " if single else ""
    raise LeanspikeError(
        f"{whose} has outputs of shape {shape}; accuracy is measured of classes, outputs [N, K] "
        f"with K of 2 or more: {way}count spikes alone, with counter = SpikeCounter(snn) of "
        "leanspike.evaluate, snn.run(x, observer=counter) and counter.rows()"
    )


def check_labels(labels: Tensor, outputs: int) -> None:
    """Raise unless each label is the number of an output, from 0.

    >>> check_labels(torch.tensor([1, 3, 2]), outputs=3)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: label 3, and the network's 3 outputs are 0 to 2; ... labels - 1
    """
    if len(labels) == 0:
        return
    low, high = (int(value) for value in labels.aminmax())
    if low >= 0 and high < outputs:
        return
    fits = f"and the network's {outputs} outputs are 0 to {outputs - 1}"
    if low < 0:
        raise LeanspikeError(
            f"label {low}, {fits}; leave those samples out, as x[labels >= 0] and "
            "labels[labels >= 0]"
        )
    way = "they seem to count from 1: give labels - 1"
    if low < 1 or high > outputs:
        way = f"give the labels of its classes, or a network of {high + 1} outputs or more"
    raise LeanspikeError(f"label {high}, {fits}; {way}")


def _as_numbers(labels: Tensor, y_TNK: Tensor) -> str:
    """The way from such labels to the numbers of classes, if it is plain."""
    if labels.shape == y_TNK.shape[1:]:
        return "; of one-hot rows give labels.argmax(1)"
    if labels.shape == (*y_TNK.shape[1:2], 1):
        return "; give labels[:, 0]"
    if labels.shape == y_TNK.shape[1:2] and bool((labels == labels.round()).all()):
        return "; give labels.long()"
    return ""


@torch.no_grad()
def accuracy(
    network: nn.Module,
    batches: Source,
    timesteps: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """The fraction of samples answered correctly after each step (one entry for an ANN).

    Args:
        network: put into eval mode for the measurement and back after it.
        batches: a DataLoader, a list of batches or one pair: input ``[N, ...]`` and labels
            ``[N]``; see :func:`leanspike.evaluation.measure`.
        timesteps: T; default the network's own.
        dtype: bfloat16 computes under autocast.

    Raises:
        LeanspikeError: if there are no samples, or labels that are no numbers of outputs.

    >>> accuracy(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 1]))])
    [0.6666666666666666]
    """
    correct: Tensor | None = None
    n = 0
    pairs = batches_for(network, batches)
    with eval_mode(network):
        for x, labels in pairs:
            with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
                y_TNK = outputs(network, x, timesteps)
            right = count_correct(y_TNK, labels)
            check_labels(labels, y_TNK.shape[2])
            correct = right if correct is None else correct + right
            n += len(labels)
    if correct is None or n == 0:
        raise pairs.nothing("to measure the accuracy on")
    return [count / n for count in correct.tolist()]
