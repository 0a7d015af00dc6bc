"""Mean and variance of values that are shown batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import torch
from torch import Tensor

from leanspike.distributed import ALONE, Group

_others: ContextVar[Group] = ContextVar("leanspike_others", default=ALONE)


@contextmanager
def with_others(group: Group) -> Iterator[None]:
    """Let :meth:`Moments.add_all` put the chunks of all processes together for a while.

    The chunks go from process to process: the first one has the first chunk, the next one the
    second.

    >>> moments = Moments((0,))
    >>> with with_others(ALONE):
    ...     moments.add_all(torch.tensor([[1.0], [3.0]]).split(1))
    >>> moments.mean
    tensor([2.], dtype=torch.float64)
    """
    before = _others.set(group)
    try:
        yield
    finally:
        _others.reset(before)


@final
class Moments:
    """Mean and variance over some axes, in float64, without a copy of all values.

    The sums of squares of two parts are joined by means of the distance between their means (Chan,
    Golub and LeVeque 1979). So no digits are lost where the mean is large.

    Args:
        axes: the axes that are averaged over.

    >>> moments = Moments((0,))
    >>> for x in (torch.tensor([[1.0]]), torch.tensor([[2.0], [6.0]])):
    ...     moments.add(x)
    >>> moments.mean, moments.variance()
    (tensor([3.], dtype=torch.float64), tensor([7.], dtype=torch.float64))
    """

    def __init__(self, axes: Sequence[int]) -> None:
        self.axes = tuple(axes)
        self.n = 0
        self.mean: Tensor
        self.squares: Tensor

    def add(self, x: Tensor) -> None:
        """Show some values."""
        self._put(*self._of(x))

    def add_all(self, chunks: Iterable[Tensor]) -> None:
        """Show several chunks, and those of other processes, in the order of one process."""
        group = _others.get()
        if group.size == 1:
            for x in chunks:
                self.add(x)
            return
        for n, mean, squares in group.in_turn([self._of(x) for x in chunks]):
            self._put(n, mean, squares)

    def _of(self, x: Tensor) -> tuple[int, Tensor, Tensor]:
        values = x.detach().double()
        mean = values.mean(self.axes)
        squares = values.var(self.axes, correction=0) * (n := values.numel() // mean.numel())
        return n, mean, squares

    def _put(self, n: int, mean: Tensor, squares: Tensor) -> None:
        if self.n == 0:
            self.n, self.mean, self.squares = n, mean, squares
            return
        apart, total = mean - self.mean, self.n + n
        self.squares = self.squares + squares + apart**2 * (self.n * n / total)
        self.mean = self.mean + apart * (n / total)
        self.n = total

    def variance(self, correction: int = 1) -> Tensor:
        """Return the sum of squares divided by n − ``correction``."""
        return self.squares / torch.tensor(self.n - correction, dtype=torch.float64)


@torch.no_grad()
def keep_statistics(running: Tensor, found: Tensor, momentum: float) -> None:
    """Move running statistics towards those of a batch, as PyTorch's norms do.

    >>> running = torch.tensor([1.0])
    >>> keep_statistics(running, torch.tensor([3.0]), 0.25)
    >>> running
    tensor([1.5000])
    """
    running.copy_(momentum * found.to(running.dtype) + (1 - momentum) * running)
