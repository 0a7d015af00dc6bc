"""Self-distillation: the outputs of a network's own steps are drawn to each other.

Shapes: T timesteps, N samples, K outputs, C classes of an answer.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final, get_args

import torch
from torch import Tensor

from leanspike.distributed import mean_of_all
from leanspike.errors import LeanspikeError
from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.section import Positive
from leanspike.train.objective import Objective, Term, objectives, widened
from leanspike.train.response import check_temperature, divergence, soft_task

Learner = Literal["least_sure", "surest"]


@final
@objectives.register("self_distillation")
class SelfDistillation(Objective):
    """The least sure step learns from the surest one, without a teacher beside the network.

        τ² · KL( softmax(y_s / τ) ‖ softmax(y_w / τ) )

    y_s is the output of the step s with the highest confidence, and y_w that of the step w with the
    lowest. The confidence of a step is the largest probability among the classes at a temperature
    of 1. It is a mean over the batch of all processes.

    Source: Ding et al., NeurIPS 2025, arXiv 2510.07924: "Strong2Weak", with τ = 2 and a weight of
    1. There s and w belong to a batch, not to each sample, and change from batch to batch. With
    ``learner="surest"`` the two change places: "Weak2Strong". No gradient reaches the step that
    teaches; the paper does not say. The factor τ² is that of :class:`Response`.

    Each step's own output counts, not the answer so far: read out such a network by "mean". Labels
    have no part in this term, so name a term with labels beside it. For one output, or for each of
    several labels, the classes are no and yes.

    Args:
        temperature: τ, above 0.
        learner: which of the two steps learns from the other.
        task: as in :class:`Response`.

    >>> y_TNK = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])  # the second step is surer
    >>> x, labels = torch.zeros(1), torch.tensor([0])
    >>> round(SelfDistillation()(y_TNK, labels, x).item(), 4)
    0.4438
    >>> SelfDistillation()(y_TNK[:1], labels, x)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: self-distillation is between steps, and the outputs are of 1...
    """

    class Config(Term):
        """Self-distillation, without a teacher: the least sure step learns from the surest one."""

        temperature: Positive = 2.0
        """Answers are divided by it before the softmax: the higher, the softer."""
        learner: Learner = "least_sure"
        """Which of the two steps learns from the other."""

    between_steps: ClassVar[bool] = True

    def __init__(
        self,
        temperature: float = 2.0,
        learner: Learner = "least_sure",
        task: Task | TaskName | None = None,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        if learner not in get_args(Learner):
            choices = ", ".join(get_args(Learner))
            raise LeanspikeError(f"learner is {learner!r}; choose one of {choices}")
        self.temperature, self.learner = temperature, learner
        self.labels = Labels(task)

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        if len(y_TNK) < 2:
            raise LeanspikeError(
                f"self-distillation is between steps, and the outputs are of {len(y_TNK)}; give 2 "
                "timesteps or more, or leave it out (an ANN has no steps)"
            )
        logits_TNC = soft_task(self.labels, y_TNK, labels).logits(widened(y_TNK))
        confidence_T = mean_of_all(_confidence(logits_TNC))
        surest, least = confidence_T.argmax(keepdim=True), confidence_T.argmin(keepdim=True)
        taught, learns = (surest, least) if self.learner == "least_sure" else (least, surest)
        target = logits_TNC.detach().index_select(0, taught)
        return divergence(logits_TNC.index_select(0, learns), target, self.temperature)


@torch.no_grad()
def _confidence(logits_TNC: Tensor) -> Tensor:
    """Return how sure each step is, ``[T]``: the mean of its answers' largest probabilities."""
    return logits_TNC.softmax(-1).amax(-1).flatten(1).mean(1)
