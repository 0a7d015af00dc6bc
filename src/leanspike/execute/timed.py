"""A value of rate gradients that depends on time: its steps, and their mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor


@final
class Timed:
    """What depends on time: all its steps, without gradients, and their mean, with them.

    (Sizes are two as well: of the stacked batch, and of the batch.)

    Args:
        steps: all of them.
        mean: what autograd follows; None: it is made when it is asked for.
        average: without a mean, gives its value from the steps.
        follow: without a mean, gives a value the gradients of the mean.

    >>> steps = torch.tensor([[1.0], [3.0]])
    >>> Timed(steps, None, lambda: steps.mean(0), lambda value: 1 * value).mean
    tensor([2.])
    """

    def __init__(
        self,
        steps: Any,
        mean: Any = None,
        average: Callable[[], Tensor] | None = None,
        follow: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.steps = steps
        self._average, self._follow = average, follow
        if average is None:
            self.mean = mean

    @cached_property
    def mean(self) -> Any:
        """The mean of the steps."""
        assert self._average is not None
        return self.carrying(self._average())

    def carrying(self, value: Tensor) -> Any:
        """Return the mean, whose value somebody has computed already."""
        if self._follow is None or "mean" in vars(self):
            return self.mean
        with torch.enable_grad():
            return self._follow(value)
