"""What an evaluation learns about answers: by labels, by a user's function, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, final

from torch import Tensor

from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.accuracy_metric import Accuracy
from leanspike.evaluation.function_metric import Function, FunctionMetric
from leanspike.evaluation.metric import About, Metric, SharedMetric
from leanspike.evaluation.task import Task, TaskName
from leanspike.execute import SpikingNetwork
from leanspike.graph.outputs import mapped, tensors


@final
class Answered:
    """Takes the outputs of each batch with its targets, and gives the fields of a result.

    The arguments are those of :func:`leanspike.evaluate`.

    >>> import torch
    >>> answered = Answered(None, None, None, ())
    >>> answered.add(torch.eye(2)[None], torch.tensor([0, 0]), None)
    >>> answered.fields(n=2)["accuracy"]
    (0.5,)
    """

    def __init__(
        self,
        task: Task | TaskName | None,
        metric: Function | None,
        readout: Literal["sum", "mean"] | None,
        classes: tuple[str, ...],
        metrics: Mapping[str, Metric] | None = None,
        group: Group = ALONE,
        network: SpikingNetwork | None = None,
    ) -> None:
        self.needed = None if task == "none" else task
        self.about = About(0, readout or "mean", task, network)
        labels = "none" if task is None and metric is not None else task
        self.accuracy = Accuracy(classes, readout or "sum", labels, group)
        self.function = None if metric is None else FunctionMetric(metric)
        self.metrics = metrics or {}
        self.group, self.timesteps = group, 0
        functions = [] if self.function is None else [self.function]
        others = [*functions, *self.metrics.values()]
        self.shared = [self.accuracy, *(m for m in others if isinstance(m, SharedMetric))]
        self.shown = [each for each in others if not isinstance(each, SharedMetric)]
        self._begun = False

    def begin(self, timesteps: int) -> None:
        """Begin all metrics, before the first batch."""
        if not self._begun:
            self._begun = True
            for metric in (*self.shown, *self.shared):
                metric.begin(replace(self.about, timesteps=timesteps))

    def add(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """Take a batch: outputs of the steps, targets, and the ANN's outputs.

        Targets are None where there are none, and the ANN's outputs are None without an ANN.
        """
        if not self.timesteps:
            self.timesteps = len(tensors(y_TN)[0])
            _check_ann(y_TN, ann_N)
        self.begin(self.timesteps)
        if self.shown:
            self._show((y_TN, targets, ann_N))
        for metric in self.shared:
            metric.see(y_TN, targets, ann_N)

    def _show(self, own: tuple[Any, Any, Any] | None) -> bool:
        """Show the metrics this process's batch, and the others' of the same turn in their order.

        They see all batches as one process would. None is of a process that has no more; whether
        anybody had one is the answer.
        """
        batches = [own]
        if self.group.size > 1:
            batches = self.group.gathered(mapped(Tensor.cpu, own))
        seen = [batch for batch in batches if batch is not None]
        for y_TN, targets, ann_N in seen:
            self.begin(len(tensors(y_TN)[0]))
            for metric in self.shown:
                metric.see(y_TN, targets, ann_N)
        return bool(seen)

    def add_others(self) -> None:
        """Add up what all processes have learnt, in each of them, after the last batch."""
        while self.group.size > 1 and self.shown and self._show(None):
            pass  # another process has batches left
        self.timesteps = max(self.group.gathered(self.timesteps))
        self.begin(self.timesteps)
        for metric in self.shared:
            metric.add_others(self.group)

    def fields(self, n: int) -> dict[str, Any]:
        """Return what a result of ``n`` samples says about answers.

        Raises:
            LeanspikeError: where some samples have no labels, or no sample has one though a task
                was given.
        """
        rows = {name: each.row().model_dump(mode="json") for name, each in self.metrics.items()}
        fields: dict[str, Any] = {"measured": rows}
        if self.function is not None:
            numbers = self.function.row()
            fields |= {"metrics": numbers.steps, "ann_metrics": numbers.ann}
        labelled, classes = self.accuracy.samples, self.accuracy.classes
        if self.accuracy.score is None and self.needed is None:
            if classes:
                raise LeanspikeError(
                    f"classes has {len(classes)} names, and there are no labels of classes; "
                    "give pairs (x, labels), or leave classes out"
                )
            nothing = {"task": "none", "accuracy": (), "ann_accuracy": None, "chance": None}
            return {**fields, **nothing, "mistakes": None}
        if labelled != n or not n:
            raise LeanspikeError(
                f"{n - labelled} of {n} samples have no labels; give pairs (x, labels) only, or "
                'inputs alone with task="none"'
            )
        return {**fields, **vars(self.accuracy.row())}


def _check_ann(y_TN: Any, ann_N: Any) -> None:
    """Raise unless an ANN has the SNN's outputs, in number and shape."""
    ours, theirs = ([leaf.shape for leaf in tensors(y)] for y in (y_TN, ann_N))
    ours = [shape[1:] for shape in ours]
    if ann_N is None or ours == theirs:
        return
    words = f"outputs of shape {_listed(theirs)}, and the SNN {_listed(ours)}"
    flat = len(ours) == len(theirs) == 1 and len(ours[0]) == len(theirs[0]) == 2
    if flat and theirs[0][1] > 1:
        words = f"{theirs[0][1]} outputs, and the SNN {ours[0][1]}"
    raise LeanspikeError(f"the ANN has {words}; give the ANN that the SNN was made from")


def _listed(shapes: list[Any]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
