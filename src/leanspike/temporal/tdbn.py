"""TDBN, the norm of Zheng et al. 2021: threshold-dependent batch norm.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from leanspike.backends import NormScale
from leanspike.errors import LeanspikeError
from leanspike.temporal.norm import TemporalNorm, norms


@norms.register("tdbn")
@final
class TDBN(TemporalNorm):
    """Threshold-dependent batch norm: one norm for all steps, scaled to the neurons' threshold.

        y = γ · α·v · (x − μ) / √(σ² + ε) + β         μ, σ over all steps and samples

    Source: Zheng et al. 2021, arXiv 2011.05280, eqs. 7 and 8. α is 1 in a chain, and 1/√2 where two
    branches of a residual network meet. With α·v = 1 the norm is plain batch norm over time. The
    other arguments are those of :class:`TemporalNorm`.

    Args:
        threshold: v, of the neurons that follow; ``spike(norm="tdbn")`` takes it from its neuron.
        alpha: α, the same for all norms of a network that ``spike`` made.

    >>> import torch
    >>> y_TN = TDBN(channels=2, timesteps=3, threshold=0.5)(torch.randn(3, 8, 2, 4, 4))
    >>> round(y_TN.std(correction=0).item(), 3)
    0.5
    """

    per_step = False
    folds = True

    def __init__(
        self,
        channels: int,
        timesteps: int,
        *,
        threshold: float = 1.0,
        alpha: float = 1.0,
        bias: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        synchronise: bool = False,
    ) -> None:
        super().__init__(
            *(channels, timesteps), bias=bias, eps=eps, momentum=momentum, synchronise=synchronise
        )
        if not (threshold > 0 and alpha > 0):
            raise LeanspikeError(f"threshold is {threshold}, alpha {alpha}; give numbers above 0")
        self.threshold, self.alpha = threshold, alpha

    def scale_in_training(self, timesteps: int) -> NormScale | None:
        return self._plain_scale(timesteps)

    def _train(self, x_TN: Tensor) -> Tensor:
        return self._batch_norm(x_TN)

    @property
    def gain(self) -> float:
        """The constant factor α·v."""
        return self.alpha * self.threshold

    @property
    def options(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "alpha": self.alpha, **super().options}
