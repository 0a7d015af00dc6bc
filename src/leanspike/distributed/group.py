"""The processes of a run, and their exchange of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast, final

from torch import Tensor, distributed

Value = TypeVar("Value")


@final
@dataclass(frozen=True)
class Group:
    """The processes that work together, seen from one of them.

    Args:
        rank: the number of this process, from 0.
        size: the number of processes. A single one exchanges values with itself only.

    Each method but :meth:`own` is called by all processes, in the same order.

    >>> Group(rank=2, size=3).first, ALONE.first
    (False, True)
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def own(self, items: Iterable[Value]) -> Iterator[Value]:
        """Yield the items of this process, when items are dealt out in turn.

        >>> list(Group(rank=1, size=3).own("abcdefg"))
        ['b', 'e']
        """
        return islice(items, self.rank, None, self.size)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            distributed.barrier()

    def agreed(self, value: Value) -> Value:
        """Return the value of the first process.

        >>> ALONE.agreed("this")
        'this'
        """
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def gathered(self, value: Value) -> list[Value]:
        """Return the values of all processes, in their order.

        >>> ALONE.gathered(3)
        [3]
        """
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        distributed.all_gather_object(said, value)
        return cast(list[Value], said)

    def in_turn(self, own: list[Value]) -> list[Value]:
        """Merge the lists of all processes in turn, which is the inverse of :meth:`own`.

        >>> ALONE.in_turn([1, 2])
        [1, 2]
        """
        return in_turn(self.gathered(own))

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, entry by entry, with the same bits in each.

        >>> import torch
        >>> ALONE.summed(torch.ones(2))
        tensor([1., 1.])
        """
        if self.size == 1:
            return values
        total = values.detach().contiguous().clone()
        distributed.all_reduce(total)
        return total


def in_turn(lists: Sequence[list[Value]]) -> list[Value]:
    """Merge lists by taking one entry of each in turn, until all are empty.

    >>> in_turn([[1, 4], [2, 5], [3]])
    [1, 2, 3, 4, 5]
    """
    longest = max(map(len, lists))
    return [each[place] for place in range(longest) for each in lists if place < len(each)]


ALONE = Group()
"""The group of a single process."""


def joined() -> Group:
    """Return the group that this process joined by ``torch.distributed``, or :data:`ALONE`.

    >>> joined()
    Group(rank=0, size=1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return Group(distributed.get_rank(), distributed.get_world_size())
    return ALONE
