"""Right answers after each step, and what else labels tell, as a metric."""

from __future__ import annotations

import logging
from typing import Any, Literal, final

from torch import Tensor

from leanspike.batches import as_labels
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.metric import About, SharedMetric, StepTable
from leanspike.evaluation.record import Record
from leanspike.evaluation.score import Labels, Score, Scored, no_labels, one_tensor
from leanspike.evaluation.task import Task, TaskName
from leanspike.evaluation.which_task import HOW


@final
class Accuracy(SharedMetric):
    """The share of right answers after each step, and the ANN's.

    Every evaluation has it, and it is in the fields of a result: other figures follow from it.

    Args:
        classes: their names; none where nobody told.
        readout: the answers of "sum" and "mean" are the same.
        labels: what the labels are of.
        group: of several processes.

    >>> import torch
    >>> metric = Accuracy()
    >>> metric.begin(About(timesteps=1))
    >>> metric.see(torch.eye(2)[None], torch.tensor([0, 0]), None)
    >>> metric.row().accuracy
    (0.5,)
    """

    Row = Scored

    def __init__(
        self,
        classes: tuple[str, ...] = (),
        readout: Literal["sum", "mean"] = "sum",
        labels: Task | TaskName | None = None,
        group: Group = ALONE,
    ) -> None:
        self.classes, self.mode, self.group = classes, readout, group
        self.labels = Labels(labels)
        self.score: Score | None = None

    def begin(self, about: About) -> None:  # noqa: ARG002
        """See :class:`Metric`."""
        self.score = None

    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """See :class:`Metric`."""
        if targets is None or self.labels.none:
            return
        y_TN, labels = one_tensor(y_TN), as_labels(targets)
        task = self.labels.task(y_TN, labels)
        if task is None:
            logging.getLogger("leanspike").warning(
                f"{no_labels(y_TN, labels)}: their accuracy is not measured; {HOW}"
            )
            return
        if self.score is None:
            self.score = Score(task, self.mode, self.group)
            self._check_classes(task, y_TN)
        theirs = None if ann_N is None else one_tensor(ann_N, "the ANN").unsqueeze(0)
        self.score.add(y_TN, labels, theirs)

    def _check_classes(self, task: Task, y_TN: Tensor) -> None:
        names = len(self.classes)
        if task.name == "binary" and names not in (0, 2):
            raise LeanspikeError(
                f"classes has {names} names, and one output answers no or yes; give those two, in "
                "that order"
            )
        if task.name != "binary" and names not in (0, y_TN.shape[2]):
            raise LeanspikeError(
                f"classes has {names} names, and the network {y_TN.shape[2]} outputs; give a name "
                "for each output, in their order"
            )

    def add_others(self, group: Group) -> None:
        """See :class:`SharedMetric`."""
        self.score = Score.of_all(self.score, group)

    @property
    def samples(self) -> int:
        """How many had labels."""
        return 0 if self.score is None else self.score.samples

    def row(self) -> Scored:
        """See :class:`Metric`; LeanspikeError where no sample had labels."""
        if self.score is None:
            raise LeanspikeError("no sample has labels; give pairs (x, labels)")
        return self.score.result()

    @classmethod
    def tables(cls, row: Record) -> tuple[StepTable, ...]:
        """See :class:`Metric`."""
        assert isinstance(row, Scored)
        found = (
            StepTable("Accuracy", row.accuracy, row.ann_accuracy, "%", counted=True),
            StepTable("Top-5 accuracy", row.top5, row.ann_top5, "%", counted=True),
        )
        return tuple(table for table in found if table.snn)
