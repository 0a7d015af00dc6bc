"""What outputs answer: one class of several, yes or no, or several labels at once.

In each case an answer is a choice among C classes with a logit each. One output z stands for two of
them, with the logits (0, z). Its sigmoid is their softmax, and its threshold 0 tells the larger
one. So accuracy, confidence, loss and distillation are written once, for classes.

Shapes: T timesteps, N samples, K outputs, P any further axes, as the rows and columns of pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from leanspike.data.split import TaskName as TaskName
from leanspike.distributed import current_share, share_of_known
from leanspike.errors import LeanspikeError
from leanspike.evaluation.labels import check_labels, check_one_class, check_yes_or_no, no_numbers

UNKNOWN = -100
"""A target that no answer is asked for, as in PyTorch's ``ignore_index``."""


class Task(ABC):
    """How outputs answer, and what labels say of them."""

    name: ClassVar[TaskName]

    @abstractmethod
    def logits(self, y_TN: Tensor) -> Tensor:
        """Return the logits of each answer's classes, ``[T, N, ..., C]``, from the outputs."""

    @abstractmethod
    def targets(self, labels: Tensor, y_TN: Tensor) -> Tensor:
        """Return the right class of each answer, int64 ``[N, ...]``.

        It is ``UNKNOWN`` where no answer is asked for.

        Raises:
            LeanspikeError: for labels of another shape than these outputs'.
        """

    @abstractmethod
    def check(self, labels: Tensor, y_TN: Tensor) -> None:
        """Raise LeanspikeError unless the values of labels are those of classes."""

    @abstractmethod
    def loss(self, y_N: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of the answers in ``y_N`` ``[N, ...]``."""

    def unit(self, y_TN: Tensor) -> str:
        """Return what has one answer: a "sample", or each "label", "pixel" or "position" in it.

        >>> Multiclass().unit(torch.zeros(5, 2, 21, 8, 8)), Multilabel().unit(torch.zeros(5, 2, 3))
        ('pixel', 'label')
        """
        axes = self.logits(y_TN[:, :1]).dim() - 3
        return {0: "sample", 1: "position", 2: "pixel"}.get(axes, "voxel")

    def answers(self, y_TN: Tensor) -> Tensor:
        """Return the class of each answer, int64 ``[T, N, ...]``.

        >>> Binary().answers(torch.tensor([[[0.3], [-0.3], [0.0]]]))
        tensor([[1, 0, 0]])
        """
        return self.logits(y_TN).argmax(-1)


@final
@dataclass(frozen=True)
class Multiclass(Task):
    """One class of K: the largest of the outputs ``[N, K]``, or ``[N, K, P]``, one for each pixel.

    Labels are whole numbers ``[N]``, or ``[N, P]``. In one-hot rows ``[N, K]`` the largest entry
    counts.

    Args:
        ignore_index: the label of pixels that are left out.

    >>> Multiclass(ignore_index=255).targets(torch.tensor([[0, 255]]), torch.zeros(1, 1, 3, 2))
    tensor([[   0, -100]])
    """

    name: ClassVar[TaskName] = "multiclass"
    ignore_index: int = UNKNOWN

    def logits(self, y_TN: Tensor) -> Tensor:
        return y_TN if y_TN.dim() == 3 else y_TN.movedim(2, -1)

    def targets(self, labels: Tensor, y_TN: Tensor) -> Tensor:
        _check_classes(y_TN)
        if labels.shape == y_TN.shape[1:]:
            labels = labels.argmax(1)
        if labels.shape != (y_TN.shape[1], *y_TN.shape[3:]) or labels.is_floating_point():
            raise no_numbers(labels, y_TN)
        if labels.dim() > 1 and self.ignore_index != UNKNOWN:
            return labels.masked_fill(labels == self.ignore_index, UNKNOWN)
        return labels

    def check(self, labels: Tensor, y_TN: Tensor) -> None:
        targets = self.targets(labels, y_TN)
        if labels.shape == y_TN.shape[1:]:
            check_one_class(labels)
        if targets.dim() > 1:
            targets = targets[targets != UNKNOWN]
        check_labels(targets, y_TN.shape[2], pixels=labels.dim() > 1)

    def loss(self, y_N: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        _check_classes(y_N[None])
        if labels.shape == y_N.shape and labels.is_floating_point():  # probabilities of classes
            target = labels.to(y_N.dtype)
        else:
            target = self.targets(labels, y_N[None])
        shared = current_share() is not None and not target.is_floating_point()
        loss = F.cross_entropy(
            y_N,
            target,
            ignore_index=UNKNOWN,
            reduction="sum" if shared else "mean",
            label_smoothing=label_smoothing,
        )
        if not shared:
            return loss
        known = (target != UNKNOWN).sum().to(loss.dtype)
        return loss / known.clamp(min=1) * share_of_known(known)


@final
@dataclass(frozen=True)
class Binary(Task):
    """Yes or no: whether the one output ``[N]``, ``[N, 1]`` or ``[N, 1, P]`` is above 0.

    Labels are 0 or 1, of any type, ``[N]`` or ``[N, 1]``, with P where the outputs have it.

    >>> Binary().targets(torch.tensor([[True], [False]]), torch.zeros(5, 2, 1))
    tensor([1, 0])
    """

    name: ClassVar[TaskName] = "binary"

    def logits(self, y_TN: Tensor) -> Tensor:
        return _two(_one(y_TN))

    def targets(self, labels: Tensor, y_TN: Tensor) -> Tensor:
        return (self._aligned(labels, y_TN) > 0.5).long()

    def check(self, labels: Tensor, y_TN: Tensor) -> None:
        check_yes_or_no(self._aligned(labels, y_TN), "one output answers")

    def loss(self, y_N: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        labels = self._aligned(labels, y_N[None])
        return _yes_or_no_loss(_one(y_N[None])[0], labels, label_smoothing)

    def _aligned(self, labels: Tensor, y_TN: Tensor) -> Tensor:
        shape = _one(y_TN).shape[1:]
        if labels.shape not in (shape, (*shape[:1], 1, *shape[1:])):
            raise LeanspikeError(
                f"labels of shape {tuple(labels.shape)}; expected 0 or 1 for each of the "
                f"{shape[0]} samples, {list(shape)}"
            )
        return labels.reshape(shape)


@final
@dataclass(frozen=True)
class Multilabel(Task):
    """Several labels at once: whether each output of ``[N, K]`` or ``[N, K, P]`` is above 0.

    Labels are 0 or 1, of any type and of the outputs' shape. Accuracy is the share of labels that
    are right (one less the Hamming loss), each by itself.

    >>> Multilabel().answers(torch.tensor([[[1.0, -1.0, 2.0]]]))
    tensor([[[1, 0, 1]]])
    """

    name: ClassVar[TaskName] = "multilabel"

    def unit(self, y_TN: Tensor) -> str:  # noqa: ARG002
        return "label"

    def logits(self, y_TN: Tensor) -> Tensor:
        return _two(y_TN)

    def targets(self, labels: Tensor, y_TN: Tensor) -> Tensor:
        self._check_shape(labels, y_TN.shape[1:])
        return (labels > 0.5).long()

    def check(self, labels: Tensor, y_TN: Tensor) -> None:
        self._check_shape(labels, y_TN.shape[1:])
        check_yes_or_no(labels, "each of several outputs answers")

    def loss(self, y_N: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        self._check_shape(labels, y_N.shape)
        return _yes_or_no_loss(y_N, labels, label_smoothing)

    def _check_shape(self, labels: Tensor, shape: torch.Size) -> None:
        if labels.shape != shape:
            raise LeanspikeError(
                f"labels of shape {tuple(labels.shape)}; expected 0 or 1 for each output, "
                f"{list(shape)}"
            )


TASKS: dict[str, Task] = {task.name: task for task in (Multiclass(), Binary(), Multilabel())}


def named_task(task: Task | TaskName) -> Task | None:
    """Return a task by its name; None for "none".

    Raises:
        LeanspikeError: for an unknown name.

    >>> named_task("binary")
    Binary()
    """
    if isinstance(task, Task) or task == "none":
        return task if isinstance(task, Task) else None
    if task not in TASKS:
        raise LeanspikeError(f"task is {task!r}; choose one of {', '.join(TASKS)}, none")
    return TASKS[task]


def _check_classes(y_TN: Tensor) -> None:
    if y_TN.dim() < 3 or y_TN.shape[2] < 2:
        raise LeanspikeError(
            f"outputs of shape {list(y_TN.shape[1:])} are not of classes, one output for each; "
            'one output answers yes or no: give task="binary"'
        )


def _one(y_TN: Tensor) -> Tensor:
    """Return the one output of each sample, ``[T, N, P]``."""
    if y_TN.dim() > 2 and y_TN.shape[2] != 1:
        raise LeanspikeError(
            f"outputs of shape {list(y_TN.shape[1:])}; a yes or no is one output, [N] or [N, 1]: "
            'give task="multiclass" or task="multilabel"'
        )
    return y_TN if y_TN.dim() == 2 else y_TN.squeeze(2)


def _two(z: Tensor) -> Tensor:
    """Return the logits of no and yes."""
    return torch.stack([torch.zeros_like(z), z], -1)


def _yes_or_no_loss(z: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the binary cross-entropy; labels may be probabilities."""
    target = labels.to(z.dtype)
    if bool(((target < 0) | (target > 1)).any()):
        check_yes_or_no(target, "an output answers")
    target = target * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(z, target)
