"""Lookahead: slow weights that move towards the trained ones, and where those begin again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from leanspike.errors import LeanspikeError
from leanspike.section import Count, NonNegative, Section


class Lookahead(Section):
    """Slow weights, which every few steps move towards the trained ones and take their place."""

    steps: Count = 5
    """Steps of the optimizer between two moves."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """A move keeps `decay**steps` of the slow weights at the end of the training; 0: nothing."""
    growth: NonNegative = 3.0
    """What is kept grows with this power of the share of the steps taken; 0: it is constant."""

    def kept(self, done: float) -> float:
        """Return the share of the slow weights that a move keeps, ``decay**steps · done**growth``.

        ``done`` is the share of all steps that were taken, in (0, 1]. A move is

            slow ← slow + (1 − kept) · (fast − slow),    fast ← slow

        and holds for all parameters and for the norms' statistics. Slow and fast weights begin as
        the same. The default is airbench's (Jordan 2024, arXiv 2404.00498). ``growth=0`` is
        Lookahead as it was published (Zhang et al. 2019, arXiv 1907.08610), with
        α = 1 − decay**steps. Its α = ½ at 5 steps is a decay of 0.87.

        >>> Lookahead().kept(0.5), Lookahead(steps=2, decay=0.5, growth=0).kept(0.1)
        (0.096..., 0.25)
        """
        return float(self.decay**self.steps * done**self.growth)

    def check_alone(self, average: float | None) -> None:
        """Raise LeanspikeError where there is another average beside the slow weights."""
        if average is not None:
            raise LeanspikeError(
                f"average is {average} and there is a lookahead, and a stage ends with the weights "
                "of one; leave one of them out"
            )

    def check(self, stage: str, total: int) -> None:
        """Raise LeanspikeError where a stage ends before the slow weights have moved."""
        if 0 < total < self.steps:
            raise LeanspikeError(
                f"stage {stage}: lookahead.steps is {self.steps}, and the stage has {total} steps, "
                f"after which nothing has moved; set lookahead.steps to {total} or less"
            )


def slow_weights(network: nn.Module, lookahead: Lookahead, total: int) -> AveragedModel:
    """Return a copy of a network that holds its slow weights, as ``module``.

    ``update_parameters(network)`` is a move of them; ``total`` is the number of all steps. The
    network stays as it is, see :func:`begin_at`.
    """

    def move(slow: Sequence[Tensor], fast: Sequence[Tensor], moves: Tensor | int) -> None:
        share = 1 - lookahead.kept(int(moves) * lookahead.steps / total)
        for before, target in zip(slow, fast, strict=True):
            if before.is_floating_point():
                before.lerp_(target, share)
            else:
                before.copy_(target)  # the batches that a norm has counted

    ahead = AveragedModel(network, multi_avg_fn=move, use_buffers=True)
    ahead.update_parameters(network)  # the first is a copy, and no move
    return ahead


def begin_at(slow: nn.Module, network: nn.Module) -> None:
    """Give a network all parameters and buffers of its copy, in place.

    >>> network, slow = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> begin_at(slow, network)
    >>> torch.equal(network.weight, slow.weight)
    True
    """
    pairs = zip(
        chain(network.parameters(), network.buffers()),
        chain(slow.parameters(), slow.buffers()),
        strict=True,
    )
    with torch.no_grad():
        for value, of_slow in pairs:
            value.copy_(of_slow)
