"""What an evaluation learns of answers: by labels, by a function of the user's, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, final

from torch import Tensor

from leanspike.batches import as_labels
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.function_metric import Function, FunctionMetric
from leanspike.evaluation.metric import About, Metric
from leanspike.evaluation.score import Labels, Score, no_labels, one_tensor
from leanspike.evaluation.task import Task, TaskName
from leanspike.evaluation.which_task import HOW
from leanspike.graph.outputs import mapped, tensors


@final
class Answered:
    """Takes the outputs of each batch with its targets, and gives the fields of a result.

    Args: of :func:`leanspike.evaluate`.

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
    ) -> None:
        self.needed = None if task == "none" else task
        self.labels = Labels("none" if task is None and metric is not None else task)
        self.mode: Literal["sum", "mean"] = readout or "sum"
        self.about = About(0, readout or "mean", task)
        self.metric = None if metric is None else FunctionMetric(metric)
        self.metrics = metrics or {}
        self.classes, self.group = classes, group
        self.score: Score | None = None
        self.timesteps = 0
        self._begun = False

    def add(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """A batch: outputs of the steps, targets (None: none), the ANN's outputs (None: no ANN)."""
        if not self.timesteps:
            self.timesteps = len(tensors(y_TN)[0])
            _check_ann(y_TN, ann_N)
        if self._observers():
            self._show((y_TN, targets, ann_N))
        if targets is not None and not self.labels.none:
            self._score(one_tensor(y_TN), as_labels(targets), ann_N)

    def _show(self, own: tuple[Any, Any, Any] | None) -> bool:
        """To the metrics this process's batch and, in their order, the others' of the same turn.

        All metrics see all batches as one process would. None is of a process that has no more;
        whether anybody had one is the answer.
        """
        batches = [own]
        if self.group.size > 1:
            batches = self.group.gathered(mapped(Tensor.cpu, own))
        seen = [batch for batch in batches if batch is not None]
        for y_TN, targets, ann_N in seen:
            if not self._begun:
                self._begun = True
                about = replace(self.about, timesteps=len(tensors(y_TN)[0]))
                for metric in self._observers():
                    metric.begin(about)
            for metric in self._observers():
                metric.see(y_TN, targets, ann_N)
        return bool(seen)

    def _observers(self) -> list[Metric]:
        """Whoever sees each batch."""
        own = [] if self.metric is None else [self.metric]
        return [*own, *self.metrics.values()]

    def _score(self, y_TN: Tensor, labels: Tensor, ann_N: Any) -> None:
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

    def add_others(self) -> None:
        """Add up what all processes have learnt, in each of them, after the last batch."""
        while self.group.size > 1 and self._observers() and self._show(None):
            pass  # another process has batches left
        self.timesteps = max(self.group.gathered(self.timesteps))
        self.score = Score.of_all(self.score, self.group)

    def fields(self, n: int) -> dict[str, Any]:
        """What a result of ``n`` samples says of answers.

        Raises:
            LeanspikeError: where some samples have no labels, or all though a task was told.
        """
        rows = {name: each.row().model_dump(mode="json") for name, each in self.metrics.items()}
        fields: dict[str, Any] = {"measured": rows}
        if self.metric is not None:
            numbers = self.metric.row()
            fields |= {"metrics": numbers.steps, "ann_metrics": numbers.ann}
        if self.score is None and self.needed is None:
            if self.classes:
                raise LeanspikeError(
                    f"classes has {len(self.classes)} names, and there are no labels of classes; "
                    "give pairs (x, labels), or leave classes out"
                )
            nothing = {"task": "none", "accuracy": (), "ann_accuracy": None, "chance": None}
            return {**fields, **nothing, "mistakes": None}
        labelled = 0 if self.score is None else self.score.samples
        if labelled != n or self.score is None:
            raise LeanspikeError(
                f"{n - labelled} of {n} samples have no labels; give pairs (x, labels) only, or "
                'inputs alone with task="none"'
            )
        return {**fields, **vars(self.score.result())}


def _check_ann(y_TN: Any, ann_N: Any) -> None:
    """That an ANN has the SNN's outputs, in number and shape."""
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
