"""Targets that are numbers, as in a regression.

Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.execute.answers import check_readout
from leanspike.surgery import readout
from leanspike.train.objective import Around, Objective, Readout, Term, objectives, widened


@final
@objectives.register("squared_error")
class SquaredError(Objective):
    """The mean squared error of the last answer, for targets that are numbers.

        mean (y − target)²              y the sum or the mean of the steps' outputs

    Args:
        readout: "sum" or "mean".

    >>> import torch
    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]]])
    >>> SquaredError("mean")(y_TNK, torch.tensor([[2.0, 3.0]]), torch.zeros(1)).item()
    2.0
    """

    class Config(Term):
        """The mean squared error of the last answer, for targets that are numbers."""

    def __init__(self, readout: Readout = "sum") -> None:
        super().__init__()
        check_readout(readout)
        self.readout = readout

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> SquaredError:
        return cls(around.readout, **options)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        return mean_squared_error(widened(readout(y_TNK, self.readout)[-1]), labels)


def mean_squared_error(y_N: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of (y − target)² over a batch.

    ``[N]`` may stand for ``[N, 1]``, and the reverse.

    Raises:
        LeanspikeError: for targets of another shape than the outputs'.

    >>> import torch
    >>> mean_squared_error(torch.ones(2, 1), torch.tensor([1.0, 3.0])).item()
    2.0
    """
    if targets.numel() != y_N.numel() or len(targets) != len(y_N):
        raise LeanspikeError(
            f"targets of shape {list(targets.shape)} for outputs {list(y_N.shape)}; a squared "
            "error needs a number for each output"
        )
    return (y_N - targets.reshape(y_N.shape).to(y_N.dtype)).square().mean()
