"""The values of rate gradients that depend on time: their steps, and the mean of these."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree


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


def timed_in(args: Any, kwargs: Any) -> list[Timed]:
    """Return the values among arguments that depend on time.

    >>> [value.steps for value in timed_in((Timed(2, 1), 3), {})]
    [2]
    """
    return [part for part in pytree.tree_leaves((args, kwargs)) if isinstance(part, Timed)]


def steps_in(part: Any) -> Any:
    """Return arguments with all steps in the places of values that depend on time.

    >>> steps_in((Timed(2, 1), 3))
    (2, 3)
    """
    return fx.node.map_aggregate(part, _steps_of)


def means_in(part: Any) -> Any:
    """Return arguments with means in the places of values that depend on time.

    >>> means_in((Timed(2, 1), 3))
    (1, 3)
    """
    return fx.node.map_aggregate(part, _mean_of)


def _steps_of(leaf: Any) -> Any:
    return leaf.steps if isinstance(leaf, Timed) else leaf


def _mean_of(leaf: Any) -> Any:
    return leaf.mean if isinstance(leaf, Timed) else leaf
