"""What training minimises: objects from the outputs of all steps and the labels to a scalar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.surgery import readout


class Objective(Protocol):
    """A loss: ``y_TNK`` ``[T, N, K]`` (T = 1 for an ANN), ``labels`` ``[N]``, input to a scalar."""

    def __call__(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the last answer: of Σ_t y_t (DIET-SNN) or of its mean (BNTT).

    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    >>> loss = CrossEntropy("sum")(y_TNK, torch.tensor([0]), torch.zeros(1))
    >>> round(loss.item(), 4)  # log(1 + e**-2)
    0.1269
    """

    readout: Literal["sum", "mean"] = "sum"
    label_smoothing: float = 0.0

    def __call__(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """The mean over the batch, in float32."""
        logits_NK = readout(y_TNK, self.readout)[-1]
        return F.cross_entropy(logits_NK, labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Response:
    """Distillation by response: how far the last answer is from a teacher's soft one.

        τ² · KL( softmax(teacher / τ) ‖ softmax(student / τ) )

    (Hinton et al. 2015, arXiv 1503.02531; KDSNN, arXiv 2304.05627, trains an SNN so; its τ is not
    known to us.) The factor τ² keeps the gradient's size as τ changes.

    Args:
        teacher: any module from the same input to logits ``[N, K]``. It is put into eval mode and
            gets no gradient.
        temperature: τ, above 0.
        readout: the student's answer, as in :class:`CrossEntropy`.
        dtype: bfloat16 lets the teacher compute under autocast.

    >>> teacher = nn.Linear(3, 2)
    >>> x, labels = torch.rand(4, 3), torch.zeros(4, dtype=torch.long)
    >>> round(Response(teacher)(teacher(x).unsqueeze(0), labels, x).item(), 6)
    0.0
    """

    teacher: nn.Module
    temperature: float = 2.0
    readout: Literal["sum", "mean"] = "sum"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise LeanspikeError(f"temperature is {self.temperature}; give a number above 0")
        self.teacher.eval()

    def __call__(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """The mean over the batch, in float32."""
        mixed = self.dtype != torch.float32
        with torch.no_grad(), torch.autocast(x.device.type, self.dtype, enabled=mixed):
            taught_NK = self.teacher(x)
        logits_NK = readout(y_TNK, self.readout)[-1]
        if taught_NK.shape != logits_NK.shape:
            raise LeanspikeError(
                f"the teacher answers {tuple(taught_NK.shape)}, the student "
                f"{tuple(logits_NK.shape)}; they must know the same classes"
            )
        student = F.log_softmax(logits_NK / self.temperature, -1)
        target = F.log_softmax(taught_NK.float() / self.temperature, -1)
        divergence = F.kl_div(student, target, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence


@dataclass(frozen=True)
class Weighted:
    """A sum of objectives, each with its weight.

    >>> loss = Weighted(((0.25, CrossEntropy()), (0.75, CrossEntropy())))
    >>> round(loss(torch.zeros(1, 1, 2), torch.tensor([0]), torch.zeros(1)).item(), 4)  # log 2
    0.6931
    """

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        """The weighted sum."""
        return torch.stack([w * objective(y_TNK, labels, x) for w, objective in self.terms]).sum()
