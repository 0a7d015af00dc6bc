"""Cross-entropy of the last answer with the labels.

Shapes: T timesteps (1 for an ANN), N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.execute.answers import check_readout
from leanspike.surgery import readout
from leanspike.train.objective import (
    Around,
    Objective,
    Readout,
    Term,
    check_smoothing,
    objectives,
    task_of,
)


@final
@objectives.register("cross_entropy")
class CrossEntropy(Objective):
    """Cross-entropy of the last answer: of Σ_t y_t (DIET-SNN) or of its mean (BNTT).

    For one output, or for several labels, it is the binary cross-entropy with logits. Its labels
    may be probabilities.

    Args:
        readout: "sum" or "mean".
        label_smoothing: in [0, 1).
        task: what the labels are of, see :func:`leanspike.evaluation.accuracy`. Default: what the
            labels of the first batch show.

    >>> import torch
    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    >>> loss = CrossEntropy("sum")(y_TNK, torch.tensor([0]), torch.zeros(1))
    >>> round(loss.item(), 4)  # log(1 + e**-2)
    0.1269
    >>> loss = CrossEntropy("sum")(torch.tensor([[[2.0]]]), torch.tensor([1]), torch.zeros(1))
    >>> round(loss.item(), 4)  # one logit, above 0: the same
    0.1269
    """

    class Config(Term):
        """The labels, on the answer after the last step."""

    def __init__(
        self,
        readout: Readout = "sum",
        label_smoothing: float = 0.0,
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        check_readout(readout)
        check_smoothing(label_smoothing)
        self.readout, self.label_smoothing = readout, label_smoothing
        self.labels = Labels(task)

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> CrossEntropy:
        return cls(around.readout, around.label_smoothing, around.task, **options)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        logits_NK = readout(y_TNK, self.readout)[-1]
        task = task_of(self.labels, y_TNK, labels)
        return task.loss(logits_NK, labels, self.label_smoothing)
