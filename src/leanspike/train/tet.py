"""Temporal efficient training: the labels, on the output of every step.

Shapes: T timesteps, N samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, final

from pydantic import Field
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.section import Finite
from leanspike.train.objective import (
    Around,
    Objective,
    Term,
    check_smoothing,
    objectives,
    task_of,
    widened,
)


@final
@objectives.register("tet")
class TET(Objective):
    """Temporal efficient training: every step's output has to answer by itself.

        (1 − ρ) · mean_t CE(y_t, label) + ρ · mean (y_t − φ)²

    Source: Deng et al., ICLR 2022, arXiv 2202.11946, eqs. 7 to 9, where ρ is called λ. The second
    term keeps outliers of single steps down; ρ = 0 leaves it out. Read out such a network by
    "mean".

    Args:
        regularisation: ρ, in [0, 1).
        target: φ, the level that outputs are drawn to.
        label_smoothing: in [0, 1).
        task: as in :class:`CrossEntropy`.

    >>> import torch
    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])
    >>> loss = TET(regularisation=0.0)(y_TNK, torch.tensor([0]), torch.zeros(1))
    >>> round(loss.item(), 4)  # the mean of log(1 + e**-1) and log(1 + e**-3)
    0.1809
    """

    class Config(Term):
        """Temporal efficient training (TET): the labels, on the output of every step."""

        regularisation: Annotated[float, Field(ge=0, lt=1)] = 0.05
        """The share ρ of the second part, which draws outputs to the target."""
        target: Finite = 1.0
        """The level that outputs are drawn to."""

    def __init__(
        self,
        regularisation: float = 0.05,
        target: float = 1.0,
        label_smoothing: float = 0.0,
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= regularisation < 1:
            raise LeanspikeError(f"regularisation is {regularisation}; give a number in [0, 1)")
        if not math.isfinite(target):
            raise LeanspikeError(f"target is {target}; give a finite number")
        check_smoothing(label_smoothing)
        self.regularisation, self.target = regularisation, target
        self.label_smoothing = label_smoothing
        self.labels = Labels(task)

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> TET:
        return cls(label_smoothing=around.label_smoothing, task=around.task, **options)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        y_TNK = widened(y_TNK)
        task = task_of(self.labels, y_TNK, labels)
        each = labels.repeat(len(y_TNK), *[1] * (labels.dim() - 1))
        entropy = task.loss(y_TNK.flatten(0, 1), each, self.label_smoothing)
        spread = (y_TNK - self.target).square().mean()
        return (1 - self.regularisation) * entropy + self.regularisation * spread
