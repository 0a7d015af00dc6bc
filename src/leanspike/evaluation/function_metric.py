"""A function of the user's as a metric: after each step of the SNN, and of the ANN once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Literal, final

from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.evaluation.metric import About, Metric, StepTable
from leanspike.evaluation.record import Record
from leanspike.execute import readout
from leanspike.graph.outputs import mapped, tensors

Number = float | int | Tensor
Function = Callable[[Any, Any], Number | Mapping[str, Number]]
"""From outputs ``[N, ...]``, in the network's own structure, and targets to one or more numbers."""


class Numbers(Record):
    """What a function gave: each of its numbers after every step, and the ANN's."""

    steps: dict[str, tuple[float, ...]]
    ann: dict[str, float]


@final
class FunctionMetric(Metric):
    """The mean of a function over batches, each weighted by its samples.

    >>> import torch
    >>> metric = FunctionMetric(lambda y, target: (y - target).abs().mean())
    >>> metric.begin(About(timesteps=2))
    >>> y_TN = torch.tensor([[[2.0], [0.0]], [[0.0], [0.0]]])  # read out as 2, 0; then 1, 0
    >>> metric.see(y_TN, torch.tensor([[1.0], [0.0]]), None)
    >>> metric.row().steps
    {'metric': (0.5, 0.0)}
    """

    Row = Numbers

    def __init__(self, function: Function) -> None:
        if not callable(function):
            raise LeanspikeError(
                f"metric is a {type(function).__name__}; give a function from outputs and targets "
                "to a number, or to a dict of numbers"
            )
        self.function = function
        self.mode: Literal["sum", "mean"] = "mean"
        self._sums: dict[str, list[float]] = {}
        self._ann: dict[str, float] = {}
        self._samples = 0

    def begin(self, about: About) -> None:
        self.mode = about.readout

    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        if targets is None:
            raise LeanspikeError(
                "metric has no targets: the batches are inputs alone; give pairs, such as "
                "(x, x) for an autoencoder"
            )
        first = tensors(y_TN)[0]
        samples = first.shape[1]
        read = mapped(lambda y: readout(y, self.mode), y_TN)
        for t in range(len(first)):
            for name, value in self._numbers(_at(read, t), targets).items():
                self._sums.setdefault(name, [0.0] * len(first))[t] += value * samples
        if ann_N is not None:
            for name, value in self._numbers(ann_N, targets).items():
                self._ann[name] = self._ann.get(name, 0.0) + value * samples
        self._samples += samples

    def row(self) -> Numbers:
        samples = self._samples
        return Numbers(
            steps={name: tuple(v / samples for v in sums) for name, sums in self._sums.items()},
            ann={name: value / samples for name, value in self._ann.items()},
        )

    @classmethod
    def tables(cls, row: Record) -> tuple[StepTable, ...]:
        assert isinstance(row, Numbers)
        return tuple(
            StepTable(name, values, row.ann.get(name)) for name, values in row.steps.items()
        )

    def _numbers(self, y_N: Any, targets: Any) -> dict[str, float]:
        value = self.function(y_N, targets)
        named = value if isinstance(value, Mapping) else {_name(self.function): value}
        numbers = {str(name): _number(name, each) for name, each in named.items()}
        if not numbers or (self._sums and set(numbers) != set(self._sums)):
            raise LeanspikeError(
                f"metric gave {', '.join(numbers) or 'nothing'}, and "
                f"{', '.join(self._sums) or 'no number'} before; give the same numbers each time"
            )
        return numbers


def _at(y_TN: Any, t: int) -> Any:
    return mapped(lambda y: y[t], y_TN)


def _name(function: Function) -> str:
    """Return the function's name; a function without a name is "metric".

    >>> import torch
    >>> _name(torch.nn.functional.mse_loss), _name(torch.nn.L1Loss()), _name(lambda y, target: 0)
    ('mse_loss', 'L1Loss', 'metric')
    """
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "metric"


def _number(name: str, value: object) -> float:
    """Return a finite number from a number, or from a tensor of one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real):
        found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise LeanspikeError(
            f"metric {name} gave {found}; give a number for a batch, as the mean over its samples"
        )
    if not math.isfinite(value):
        raise LeanspikeError(
            f"metric {name} is {value}; a mean over batches needs finite numbers: leave samples "
            "without an answer out, or bound the number"
        )
    return float(value)
