"""Right answers, after every timestep.

Shapes: T timesteps, N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork, readout


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
    if labels.shape != y_TNK.shape[1:2] or labels.is_floating_point():
        raise LeanspikeError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype}; expected a whole "
            f"number for each of the {y_TNK.shape[1]} samples"
        )
    return (readout(y_TNK, mode).argmax(-1) == labels).sum(1)


@torch.no_grad()
def accuracy(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    timesteps: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    """The fraction of samples answered correctly after each step (one entry for an ANN).

    Args:
        network: put into eval mode for the measurement and back after it.
        batches: pairs of input ``[N, ...]`` and labels ``[N]``, on the network's device.
        timesteps: T; default the network's own.
        dtype: bfloat16 computes under autocast.

    Raises:
        LeanspikeError: if there are no samples.

    >>> accuracy(nn.Identity(), [(torch.eye(3), torch.tensor([0, 1, 1]))])
    [0.6666666666666666]
    """
    correct: Tensor | None = None
    n = 0
    with eval_mode(network):
        for x, labels in batches:
            with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
                y_TNK = outputs(network, x, timesteps)
            right = count_correct(y_TNK, labels)
            correct = right if correct is None else correct + right
            n += len(labels)
    if correct is None or n == 0:
        raise LeanspikeError("no samples to measure the accuracy on; the split is empty")
    return [count / n for count in correct.tolist()]
