"""What training minimises: objects from the outputs of all steps and the labels to a scalar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor
from torch.nn import functional as F

from leanspike.surgery import readout


class Objective(Protocol):
    """A loss: ``y_TNK`` ``[T, N, K]`` (T = 1 for an ANN) and ``labels`` ``[N]`` to a scalar."""

    def __call__(self, y_TNK: Tensor, labels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the last answer: of Σ_t y_t (DIET-SNN) or of its mean (BNTT).

    >>> import torch
    >>> y_TNK = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    >>> round(CrossEntropy("sum")(y_TNK, torch.tensor([0])).item(), 4)  # log(1 + e**-2)
    0.1269
    """

    readout: Literal["sum", "mean"] = "sum"
    label_smoothing: float = 0.0

    def __call__(self, y_TNK: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch, in float32."""
        logits_NK = readout(y_TNK, self.readout)[-1]
        return F.cross_entropy(logits_NK, labels, label_smoothing=self.label_smoothing)
