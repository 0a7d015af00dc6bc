"""Distillation by response: the answers of a student are drawn to a teacher's.

Shapes: T timesteps (1 for an ANN), N samples, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import Binary, Multiclass, Task, TaskName
from leanspike.execute.answers import check_readout
from leanspike.section import NonNegative, Positive
from leanspike.surgery import readout
from leanspike.train.objective import Around, Objective, Readout, Term, objectives, task_of, widened
from leanspike.train.teacher import Teacher


@final
@objectives.register("response")
class Response(Objective):
    """Distillation by response: how far the answer is from a teacher's soft answer.

        τ² · KL( softmax(teacher / τ) ‖ softmax(student / τ) )

    Source: Hinton et al. 2015, arXiv 1503.02531. KDSNN, arXiv 2304.05627, trains an SNN by it; its
    τ is not known to us. The factor τ² keeps the size of the gradient as τ changes. For one output,
    or for each of several labels, the classes are no and yes.

    Args:
        teacher: any module from the same input to logits ``[N, K]``, or a :class:`Teacher` shared
            with other objectives.
        temperature: τ, above 0.
        readout: the student's answer, as in :class:`CrossEntropy`.
        each_step: whether the teacher supervises every step's output by itself instead of the last
            answer (temporal-wise distillation, ICML 2025). The loss is then the mean over the
            steps.
        task: what the outputs answer. Default: "binary" for one output, "multiclass" for more, and
            "multilabel" where the labels have the shape of the outputs.

    >>> import torch
    >>> teacher = nn.Linear(3, 2)
    >>> x, labels = torch.rand(4, 3), torch.zeros(4, dtype=torch.long)
    >>> round(Response(teacher)(teacher(x).unsqueeze(0), labels, x).item(), 6)
    0.0
    """

    class Config(Term):
        """Knowledge distillation by response: the teacher's soft answers."""

        weight: NonNegative = 0.5
        """The factor of this term."""
        temperature: Positive = 2.0
        """Answers are divided by it before the softmax: the higher, the softer."""
        each_step: bool = False
        """The teacher supervises the output of every step, not only the last answer."""

    taught: ClassVar[bool] = True

    def __init__(
        self,
        teacher: nn.Module | Teacher,
        temperature: float = 2.0,
        readout: Readout = "sum",
        each_step: bool = False,
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_readout(readout)
        self.teacher = Teacher.of(teacher)
        self.temperature, self.readout, self.each_step = temperature, readout, each_step
        self.labels = Labels(task)

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> Response:
        return cls(around.teacher(), readout=around.readout, **options)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        answers = widened(y_TNK) if self.each_step else readout(y_TNK, self.readout)[-1:]
        taught_NK = self.teacher.logits(x)
        if taught_NK.shape != answers.shape[1:]:
            raise LeanspikeError(
                f"the teacher answers {tuple(taught_NK.shape)}, the student "
                f"{tuple(answers.shape[1:])}; they must know the same classes"
            )
        task = soft_task(self.labels, y_TNK, labels)
        return divergence(task.logits(answers), task.logits(taught_NK[None]), self.temperature)


def divergence(student: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return τ² · KL of the student's soft answers from the teacher's, as a mean over the answers.

    Both are logits ``[..., C]``, and ``temperature`` is τ.

    >>> import torch
    >>> round(divergence(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), 2.0).item(), 4)
    0.4438
    """
    target = F.log_softmax(taught / temperature, -1)
    soft = F.log_softmax(student / temperature, -1)
    each = F.kl_div(soft, target.expand_as(soft), reduction="none", log_target=True)
    return temperature**2 * each.sum(-1).mean()


def soft_task(told: Labels, y_TNK: Tensor, labels: Tensor) -> Task:
    """Return what the outputs answer, also where the labels do not tell.

    >>> import torch
    >>> soft_task(Labels(), torch.zeros(5, 2, 1), torch.zeros(2)).name
    'binary'
    """
    single = y_TNK.dim() == 2 or y_TNK.shape[2] == 1
    known = told.known is not None or told.none
    if known or (labels.shape == y_TNK.shape[1:] and not single):
        return task_of(told, y_TNK, labels)
    return Binary() if single else Multiclass()


def check_temperature(temperature: float) -> None:
    """Raise LeanspikeError unless ``temperature`` is finite and above 0.

    >>> check_temperature(0.0)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: temperature is 0.0; give a number above 0
    """
    if not 0 < temperature < math.inf:
        raise LeanspikeError(f"temperature is {temperature}; give a number above 0")
