"""The share of a batch that a process computes. Random numbers are drawn for the whole batch.

So a sample's dropout mask, random spikes and augmentation do not depend on the number of processes
or of micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leanspike.distributed.group import Group, joined


@final
@dataclass(frozen=True, eq=False)
class Share:
    """The samples of a batch that are computed here and now.

    Args:
        rows: the places of these samples in the whole batch, int64.
        of: the number of samples in the whole batch.
        together: the number of samples that all processes compute now, in a micro-batch.

    >>> Share(torch.tensor([2, 3]), of=8, together=4).weight
    0.25
    """

    rows: Tensor
    of: int
    together: int

    @property
    def weight(self) -> float:
        """The part of these samples in the batch."""
        return len(self.rows) / self.of


_share: ContextVar[Share | None] = ContextVar("leanspike_share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Compute that share of a batch inside the context; None is the whole batch.

    >>> with sharing(Share(torch.tensor([1]), of=2, together=2)):
    ...     drawn((1, 1), lambda shape: torch.arange(2).view(*shape))
    tensor([[1]])
    """
    before = _share.set(share)
    try:
        yield
    finally:
        _share.reset(before)


def current_share() -> Share | None:
    """Return the share of a batch that is computed now; None is the whole batch.

    >>> current_share()
    """
    return _share.get()


def drawn(shape: Sequence[int], draw: Callable[[Sequence[int]], Tensor], axis: int = 0) -> Tensor:
    """Return random numbers of this shape, as these samples have them in the whole batch.

    Args:
        shape: the shape of the numbers. A sample may have several entries of ``axis`` in a row.
        draw: the function from a shape to numbers, in which samples do not depend on each other.
        axis: the axis of the samples.

    >>> drawn((2,), torch.ones)
    tensor([1., 1.])
    """
    share = _share.get()
    if share is None or shape[axis] % len(share.rows):
        return draw(shape)
    pieces = shape[axis] // len(share.rows)
    with sharing(None):
        whole = draw([*shape[:axis], share.of * pieces, *shape[axis + 1 :]])
    rows = (share.rows[:, None] * pieces + torch.arange(pieces)).flatten()
    return whole.index_select(axis, rows.to(whole.device))


def mean_of_all(mean: Tensor) -> Tensor:
    """Return the mean over all samples computed together, from the mean over these samples.

    >>> mean_of_all(torch.ones(2))
    tensor([1., 1.])
    """
    share = _share.get()
    if share is None:
        return mean
    return joined().summed(mean * (len(share.rows) / share.together))


def share_of_known(known: Tensor) -> Tensor:
    """Return the weight of a mean over ``known`` answers, beside one over the samples.

    If some samples have fewer labels than others, the mean over all labels is not the processes'
    means weighted by their samples.

    >>> share_of_known(torch.tensor(3.0))
    tensor(1.)
    """
    share = _share.get()
    if share is None:
        return torch.ones_like(known)
    total = joined().summed(known)
    return known * (share.together / len(share.rows)) / total.clamp(min=1)


def split_batch(samples: int, micro_batches: int, group: Group) -> list[Share]:
    """Return the share of a process in each micro-batch of a batch.

    A micro-batch is a stretch of the batch, and a process has a stretch of each. If numbers do not
    divide, the first stretches have a sample more.

    >>> [share.rows.tolist() for share in split_batch(7, 2, Group(rank=0, size=3))]
    [[0, 1], [4]]
    """
    micro = torch.arange(samples).tensor_split(micro_batches)
    return [Share(rows.tensor_split(group.size)[group.rank], samples, len(rows)) for rows in micro]
