"""TEBN, the norm of Duan et al. 2022: temporal effective batch norm.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, ...]``, ``_TC`` is ``[T, C]``.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from leanspike.backends import NormScale
from leanspike.temporal.norm import TemporalNorm, norms
from leanspike.temporal.synchronise import together


@norms.register("tebn")
@final
class TEBN(TemporalNorm):
    """Temporal effective batch norm: one norm for all steps, weighted anew at each.

        y_t = p_t · (γ · (x_t − μ) / √(σ² + ε) + β)         μ, σ over all steps and samples

    Source: Duan et al. 2022, "Temporal Effective Batch Normalization in Spiking Neural Networks",
    NeurIPS, eqs. 7 and 8. Each step has one learned number p_t, which begins at 1. The arguments
    are those of :class:`TemporalNorm`.

    >>> norm = TEBN(channels=2, timesteps=3)
    >>> norm.step_weight.tolist()
    [1.0, 1.0, 1.0]
    """

    per_step = False

    def __init__(
        self,
        channels: int,
        timesteps: int,
        *,
        bias: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        synchronise: bool = False,
    ) -> None:
        super().__init__(
            *(channels, timesteps), bias=bias, eps=eps, momentum=momentum, synchronise=synchronise
        )
        self.step_weight = nn.Parameter(torch.ones(timesteps))

    def scale_in_training(self, timesteps: int) -> NormScale | None:
        if together(self.synchronise):
            return None
        return NormScale(*self.learned(timesteps), self.eps, together=True)

    def _train(self, x_TN: Tensor) -> Tensor:
        y_TN = self._batch_norm(x_TN)
        p_T = self.step_weight[: len(x_TN)]
        return (y_TN * p_T.view(-1, *[1] * (x_TN.dim() - 1))).to(y_TN.dtype)

    def learned(self, timesteps: int) -> tuple[Tensor, Tensor | None]:
        """Return p·γ and p·β, see :meth:`TemporalNorm.learned`."""
        weight_TC, bias_TC = super().learned(timesteps)
        p_T1 = self.step_weight[:timesteps, None]
        return p_T1 * weight_TC, None if bias_TC is None else p_T1 * bias_TC
