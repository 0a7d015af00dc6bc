"""The values of rate gradients that depend on time: their steps, and the mean of these."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor


@final
class Timed:
    """A value that depends on time: all its steps, without gradients, and their mean, with them.

    Sizes are such pairs, too: the size of the stacked batch, and that of the batch.

    Args:
        steps: all steps.
        mean: the mean that autograd follows. None: it is made when it is read.
        average: a function that returns the mean's value, if no mean is given.
        follow: a function that gives a value the gradients of the mean, if no mean is given.

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
        """Return the mean, with a value that was computed elsewhere."""
        if self._follow is None or "mean" in vars(self):
            return self.mean
        with torch.enable_grad():
            return self._follow(value)
