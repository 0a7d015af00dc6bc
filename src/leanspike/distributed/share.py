"""A part of a batch whose rest others have: what is drawn at random is drawn for the whole batch.

So a sample's dropout mask, its random spikes and its augmentation do not depend on how many
processes there are, or into how many micro-batches a batch is cut.
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
        rows: their places in the whole batch, int64.
        of: how many samples the whole batch has.
        together: how many of them all processes compute now: those of a micro-batch.

    >>> Share(torch.tensor([2, 3]), of=8, together=4).weight
    0.25
    """

    rows: Tensor
    of: int
    together: int

    @property
    def weight(self) -> float:
        """Their part of the batch."""
        return len(self.rows) / self.of


_share: ContextVar[Share | None] = ContextVar("leanspike_share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """While it lasts, what is computed is that share of a batch; None: all of it.

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
    """Return the share of a batch that is computed now; None: all of it.

    >>> current_share()
    """
    return _share.get()


def drawn(shape: Sequence[int], draw: Callable[[Sequence[int]], Tensor], axis: int = 0) -> Tensor:
    """Random numbers of this shape, as they are for these samples in the whole batch.

    Args:
        shape: of what is needed; several entries of ``axis`` may be of one sample, side by side.
        draw: from a shape to numbers, of which one sample's do not depend on another's.
        axis: that of the samples.

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
    """The mean over all samples that are computed together, of what is one over these samples.

    >>> mean_of_all(torch.ones(2))
    tensor([1., 1.])
    """
    share = _share.get()
    if share is None:
        return mean
    return joined().summed(mean * (len(share.rows) / share.together))


def share_of_known(known: Tensor) -> Tensor:
    """What a mean over ``known`` answers counts, beside one over as many as there are samples.

    Where some samples have fewer labels than others, a mean over all labels is not that of the
    processes' means, weighted by their samples.

    >>> share_of_known(torch.tensor(3.0))
    tensor(1.)
    """
    share = _share.get()
    if share is None:
        return torch.ones_like(known)
    total = joined().summed(known)
    return known * (share.together / len(share.rows)) / total.clamp(min=1)


def split_batch(samples: int, micro_batches: int, group: Group) -> list[Share]:
    """Return what a process has of each micro-batch of a batch.

    A micro-batch is a stretch of the batch, and a process has a stretch of each. Of numbers that do
    not divide, the first ones get a sample more.

    >>> [share.rows.tolist() for share in split_batch(7, 2, Group(rank=0, size=3))]
    [[0, 1], [4]]
    """
    micro = torch.arange(samples).tensor_split(micro_batches)
    return [Share(rows.tensor_split(group.size)[group.rank], samples, len(rows)) for rows in micro]
