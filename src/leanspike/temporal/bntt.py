"""BNTT, the norm of Kim & Panda 2021: batch normalisation through time.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, ...]``.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from leanspike.backends import NormScale
from leanspike.temporal.norm import TemporalNorm, norms


@norms.register("bntt")
@final
class BNTT(TemporalNorm):
    """Batch normalisation through time: every timestep has statistics and a scale of its own.

        y_t = γ_t · (x_t − μ_t) / √(σ_t² + ε)         γ_t, μ_t, σ_t per channel

    Source: Kim & Panda 2021, arXiv 2010.01729, eq. 5. As in its code, ε is 1e-4, there is no shift
    β, and all γ begin at 1. Running variances are the unbiased ones, as in ``nn.BatchNorm2d``. The
    arguments are those of :class:`TemporalNorm`; ``bias=True`` adds a shift β_t.

    >>> import torch
    >>> norm = BNTT(channels=2, timesteps=3)
    >>> y_TN = norm(5 + torch.randn(3, 8, 2, 4, 4))
    >>> y_TN.mean((1, 3, 4)).abs().max().item() < 1e-5  # of each step and channel
    True
    >>> norm(torch.randn(4, 8, 2, 4, 4))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: BNTT has parameters for 3 timesteps and is asked for 4; ...
    """

    per_step = True

    def __init__(
        self,
        channels: int,
        timesteps: int,
        *,
        bias: bool = False,
        eps: float = 1e-4,
        momentum: float = 0.1,
        synchronise: bool = False,
    ) -> None:
        super().__init__(
            *(channels, timesteps), bias=bias, eps=eps, momentum=momentum, synchronise=synchronise
        )

    def scale_in_training(self, timesteps: int) -> NormScale | None:
        return self._plain_scale(timesteps)

    def _train(self, x_TN: Tensor) -> Tensor:
        return self._batch_norm(x_TN)
