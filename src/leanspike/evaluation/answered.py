"""What an evaluation learns of answers: by labels, by a function of the user's, or not at all."""

from __future__ import annotations

import logging
from typing import Any, Literal, final

from torch import Tensor

from leanspike.batches import as_labels
from leanspike.distributed import ALONE, Group
from leanspike.errors import LeanspikeError
from leanspike.evaluation.metric import Function, Metric
from leanspike.evaluation.score import Labels, Score, no_labels, one_tensor
from leanspike.evaluation.task import Task, TaskName
from leanspike.evaluation.which_task import HOW
from leanspike.graph.outputs import tensors


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
        group: Group = ALONE,
    ) -> None:
        self.needed = None if task == "none" else task
        self.labels = Labels("none" if task is None and metric is not None else task)
        self.mode: Literal["sum", "mean"] = readout or "sum"
        self.metric = None if metric is None else Metric(metric, readout or "mean")
        self.classes, self.group = classes, group
        self.score: Score | None = None
        self.timesteps = 0

    def add(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """A batch: outputs of the steps, targets (None: none), the ANN's outputs (None: no ANN)."""
        if not self.timesteps:
            self.timesteps = len(tensors(y_TN)[0])
            _check_ann(y_TN, ann_N)
        if self.metric is not None:
            if targets is None:
                raise LeanspikeError(
                    "metric has no targets: the batches are inputs alone; give pairs, of an "
                    "autoencoder (x, x)"
                )
            self.metric.add(y_TN, targets, ann_N)
        if targets is not None and not self.labels.none:
            self._score(one_tensor(y_TN), as_labels(targets), ann_N)

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
        """Add up what all processes have learnt, in each of them."""
        self.timesteps = max(self.group.gathered(self.timesteps))
        self.score = Score.of_all(self.score, self.group)
        if self.metric is not None:
            self.metric.add_others(self.group)

    def fields(self, n: int) -> dict[str, Any]:
        """What a result of ``n`` samples says of answers.

        Raises:
            LeanspikeError: where some samples have no labels, or all though a task was told.
        """
        metrics = {} if self.metric is None else self.metric.steps()
        ann_metrics = {} if self.metric is None else self.metric.ann()
        fields: dict[str, Any] = {"metrics": metrics, "ann_metrics": ann_metrics}
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
