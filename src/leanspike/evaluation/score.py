"""Right answers, batch after batch, and what else labels tell: chance, mistakes, the ANN's answers.

Shapes: T timesteps, N samples, K outputs; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, final

import torch
from torch import Tensor

from leanspike.distributed import ALONE, Group, in_turn
from leanspike.errors import LeanspikeError
from leanspike.evaluation.mistakes import MistakeFinder, Mistakes
from leanspike.evaluation.record import Record
from leanspike.evaluation.task import UNKNOWN, Task, TaskName, named_task
from leanspike.evaluation.which_task import HOW, find_task
from leanspike.execute import readout

SHARES = (
    "all outputs lie between 0 and 1, as after a sigmoid, and a yes is an output above 0; leave "
    "the sigmoid out of the network, as with nn.Identity() in its place"
)
FEW_CLASSES = 20
"""Up to this number of classes the five likeliest say little."""


@final
class Labels:
    """Says what labels are of: what was told, or what those of the first batch show.

    Args:
        task: a task, its name, or None to have it found.
    """

    def __init__(self, task: Task | TaskName | None = None) -> None:
        self._task = None if task is None else named_task(task)
        self._known = task is not None

    @property
    def none(self) -> bool:
        """Whether it is known that there are no labels."""
        return self._known and self._task is None

    @property
    def known(self) -> Task | None:
        """The task, once it is known."""
        return self._task

    def task(self, y_TN: Tensor, labels: Tensor) -> Task | None:
        """Return the task; None for targets that are no labels.

        >>> told = Labels()
        >>> told.task(torch.zeros(1, 2, 1), torch.tensor([0, 1]))
        Binary()
        """
        if not self._known:
            self._task, self._known = find_task(y_TN, labels), True
        return self._task


def one_tensor(y: Any, whose: str = "the network") -> Tensor:
    """Return the outputs, if they are one tensor of finite values.

    Raises:
        LeanspikeError: for outputs in another structure, or values that are not finite.

    >>> one_tensor((torch.zeros(1), torch.zeros(1)))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: the network has outputs in a tuple; accuracy is of one ...
    """
    if not isinstance(y, Tensor):
        raise LeanspikeError(
            f"{whose} has outputs in a {type(y).__name__}; accuracy is of one tensor: let the "
            "network give that alone by spike(leanspike.Answer(ann, 'logits'), ...) for a dict or "
            f"leanspike.Answer(ann, 0) for a tuple, or measure no accuracy: {HOW}"
        )
    if not y.isfinite().all():
        raise LeanspikeError(
            f"{whose} has outputs that are NaN or infinite; look for a division by 0, or for "
            "weights that grew without bound"
        )
    return y


def refuse_no_labels(y_TN: Tensor, labels: Tensor) -> LeanspikeError:
    """Return the error for targets that are no labels, where labels are needed."""
    return LeanspikeError(no_labels(y_TN, labels) + f"; in leanspike.evaluate {HOW}")


def no_labels(y_TN: Tensor, labels: Tensor) -> str:
    """Say that these targets are no labels of these outputs.

    >>> no_labels(torch.zeros(1, 4, 2, 8, 8), torch.zeros(4))
    'targets of shape [4] and type torch.float32 are no labels of outputs [4, 2, 8, 8]'
    """
    return (
        f"targets of shape {list(labels.shape)} and type {labels.dtype} are no labels of outputs "
        f"{list(y_TN.shape[1:])}"
    )


class Scored(Record):
    """What a score came to.

    Args:
        task, unit: the task's name, and what each answer is of.
        accuracy: after each step, the share of answers that are right.
        ann_accuracy: None without an ANN.
        top5: after each step, the share of samples whose class is among the five largest outputs;
            empty where there are at most 20 classes, or samples have several answers each.
        ann_top5: the ANN's, None without one.
        chance: the accuracy of guessing the commonest class, at least 1 in C.
        mistakes: None where samples have several answers each.
    """

    task: TaskName
    unit: str
    accuracy: tuple[float, ...]
    ann_accuracy: float | None
    top5: tuple[float, ...]
    ann_top5: float | None
    chance: float | None
    mistakes: Mistakes | None


@final
class Score:
    """Counts right answers.

    Args:
        task: the task of all batches.
        mode: the readout, "sum" or "mean"; the answers are the same.
        group: processes that each add batches in turn; :meth:`of_all` adds them up.

    >>> from leanspike.evaluation.task import Multiclass
    >>> score = Score(Multiclass())
    >>> y_TN = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])  # class 0 at first, then class 1
    >>> score.add(y_TN, torch.tensor([1]))
    >>> score.result().accuracy
    (0.0, 1.0)
    """

    def __init__(
        self, task: Task, mode: Literal["sum", "mean"] = "sum", group: Group = ALONE
    ) -> None:
        self.task, self.mode, self.group = task, mode, group
        self.batches: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self.right_T = torch.zeros(0)
        self.ann_right = 0
        self.top5_T: Tensor | None = None
        self.ann_top5 = 0
        self.answers = self.samples = 0
        self.unit = "sample"
        self.seen: Tensor | None = None
        self.wrong = MistakeFinder()
        self.has_ann = False
        self.shares = task.name in ("binary", "multilabel")

    def add(self, y_TN: Tensor, labels: Tensor, ann_1N: Tensor | None = None) -> None:
        """Take a batch: outputs of the steps, labels, and the ANN's outputs as one step."""
        self.task.check(labels, y_TN)
        targets = self.task.targets(labels, y_TN)
        self.shares = self.shares and bool(((y_TN >= 0) & (y_TN <= 1)).all())
        read_TN = readout(y_TN, self.mode)
        answers_TN = self.task.answers(read_TN)
        right_T = (answers_TN == targets).flatten(1).sum(1)
        if self.seen is None:
            self.unit, self.right_T = self.task.unit(y_TN), right_T
            self.seen = torch.zeros_like(_counts(self.task, y_TN, targets))
        else:
            self.right_T = self.right_T + right_T
        self.seen += _counts(self.task, y_TN, targets)
        self.answers += int((targets != UNKNOWN).sum())
        self.samples += len(targets)
        ann_N = None
        if ann_1N is not None:
            self.has_ann = True
            ann_N = self.task.answers(ann_1N)[0]
            self.ann_right += int((ann_N == targets).sum())
        if self.unit == "sample" and y_TN.dim() == 3 and y_TN.shape[2] > FEW_CLASSES:
            among_T = among_largest(read_TN, targets).sum(1)
            self.top5_T = among_T if self.top5_T is None else self.top5_T + among_T
            self.ann_top5 += 0 if ann_1N is None else int(among_largest(ann_1N, targets).sum())
        if self.unit != "sample":
            return
        if self.group.size == 1:
            self.wrong.add(targets, answers_TN[-1], ann_N)
        else:
            theirs = None if ann_N is None else ann_N.cpu()
            self.batches.append((targets.cpu(), answers_TN[-1].cpu(), theirs))

    @staticmethod
    def of_all(own: Score | None, group: Group) -> Score | None:
        """Return the score of all processes' batches, in each of them; None where nobody has one.

        Args:
            own: the score of this process; None if it got no batch.

        >>> Score.of_all(None, ALONE)
        """
        if group.size == 1:
            return own
        each = group.gathered(own)
        scores = [score for score in each if score is not None]
        if not scores:
            return None
        total = scores[0]
        for other in scores[1:]:
            assert total.seen is not None
            assert other.seen is not None
            total.right_T = total.right_T + other.right_T.to(total.right_T.device)
            total.seen = total.seen + other.seen.to(total.seen.device)
            total.ann_right += other.ann_right
            total.ann_top5 += other.ann_top5
            if total.top5_T is not None and other.top5_T is not None:
                total.top5_T = total.top5_T + other.top5_T.to(total.top5_T.device)
            total.answers += other.answers
            total.samples += other.samples
            total.shares = total.shares and other.shares
        for batch in in_turn([[] if score is None else score.batches for score in each]):
            total.wrong.add(*batch)
        return total

    def result(self) -> Scored:
        """Return all figures of the score.

        Raises:
            LeanspikeError: if no answer was asked for.
        """
        if not self.answers or self.seen is None:
            raise LeanspikeError(
                "no label says anything: all are ignore_index; give samples with labels"
            )
        if self.shares and self.samples > 1:
            logging.getLogger("leanspike").warning(SHARES)
        n, classes = self.answers, self.seen.shape[-1]
        shares = [
            max(1 / classes, int(row.max()) / max(1, int(row.sum())))
            for row in self.seen.reshape(-1, classes)
        ]
        return Scored(
            task=self.task.name,
            unit=self.unit,
            accuracy=tuple(count / n for count in self.right_T.tolist()),
            ann_accuracy=self.ann_right / n if self.has_ann else None,
            top5=() if self.top5_T is None else tuple(count / n for count in self.top5_T.tolist()),
            ann_top5=self.ann_top5 / n if self.has_ann and self.top5_T is not None else None,
            chance=sum(shares) / len(shares),
            mistakes=self.wrong.mistakes() if self.unit == "sample" else None,
        )


def among_largest(y_TNK: Tensor, targets: Tensor, most: int = 5) -> Tensor:
    """Tell whether the output of the right class is among the ``most`` largest, bool ``[T, N]``.

    Among equal outputs the class of the lower number counts as the larger one, as in an argmax.

    >>> y_TNK = torch.tensor([[[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]]])
    >>> among_largest(y_TNK, torch.tensor([2, 2]), most=2)
    tensor([[ True, False]])
    """
    its = y_TNK.gather(2, targets.clamp(min=0).expand(len(y_TNK), -1).unsqueeze(2))
    before = torch.arange(y_TNK.shape[2], device=y_TNK.device) < targets.unsqueeze(1)
    larger = (y_TNK > its) | ((y_TNK == its) & before)
    return (larger.sum(2) < most) & (targets != UNKNOWN)


def _counts(task: Task, y_TN: Tensor, targets: Tensor) -> Tensor:
    """Count how often each class is right, ``[C]``.

    Several labels are counted each by itself, ``[K, C]``.
    """
    if task.name == "multilabel":
        yes = targets.movedim(1, 0).flatten(1).sum(1)
        return torch.stack([targets.numel() // targets.shape[1] - yes, yes], 1)
    classes = 2 if task.name == "binary" else y_TN.shape[2]
    return torch.bincount(targets[targets != UNKNOWN].flatten(), minlength=classes)
