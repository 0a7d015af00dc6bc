"""What a user has, as batches for a network: a DataLoader, a list, arrays, one pair.

Shapes: N samples of a batch; images are ``[N, ...]``, frames ``[T, N, ...]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from leanspike.batches.values import (
    FORMS,
    check_dtype,
    check_iterable,
    check_lengths,
    is_array,
    is_many,
    is_pair,
    is_structured,
    pair_of,
    tensor_of,
)
from leanspike.errors import LeanspikeError

CHUNK = 128
"""The samples of a batch that is cut from one pair."""
Source = Iterable[Any]
"""All that :class:`Batches` takes."""
ANY_FORMS = f"{FORMS}, or inputs alone"
Targets = Literal["labels", "if any", "of any kind"]
"""The targets beside inputs: labels, labels or nothing, or anything for a user's function."""


@final
class Batches:
    """Pairs of input and labels on the network's device, which can be iterated as ``source`` can.

    Args:
        source: a DataLoader or another iterable of pairs; a list of pairs; or one pair
            ``(x, y)``, which is taken 128 samples at a time. Data are tensors or NumPy arrays,
            labels also a list.
        network: the network to whose device the pairs are sent.
        axis: the axis of the samples in ``x`` (1 for frames ``[T, N, ...]``).
        targets: the targets beside an input. "labels": numbers, whole ones as int64; "if any":
            such labels, or None for inputs alone; "of any kind": targets in any structure.

    Raises:
        LeanspikeError: when iterated, for anything but a pair of input and labels.

    >>> import numpy as np
    >>> pairs = Batches((np.zeros((200, 8), np.float32), [0] * 200), nn.Linear(8, 3))
    >>> [len(labels) for _, labels in pairs], [len(labels) for _, labels in pairs]
    ([128, 72], [128, 72])
    """

    def __init__(
        self, source: Source, network: nn.Module, axis: int = 0, targets: Targets = "labels"
    ) -> None:
        self.network = network
        self.axis = axis
        self.targets = targets
        alone = targets != "labels" and is_array(source)
        loose = targets == "of any kind" and is_structured(source)
        self.pair = source if alone or loose or is_pair(source) else None
        self.source = source
        if targets != "labels" and isinstance(source, list):
            _check_two(source, axis)
        if self.pair is None:
            check_iterable(source, FORMS if targets == "labels" else ANY_FORMS)

    @property
    def once(self) -> bool:
        """Whether the source can be iterated only once."""
        return isinstance(self.source, Iterator)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        place = device_of(self.network)
        for x, targets in map(self._parts, self.source if self.pair is None else [self.pair]):
            if isinstance(targets, Tensor):
                check_lengths(x, targets, self.axis)
            check_dtype(x, self.network)
            for x_N, targets_N in self._chunks(x, targets):
                yield x_N.to(place), tree_map_only(Tensor, lambda part: part.to(place), targets_N)

    def _parts(self, batch: Any) -> tuple[Tensor, Any]:
        """Return the input and targets of a batch."""
        if self.targets != "labels":
            if is_many(batch) and len(batch) == 1:
                batch = batch[0]
            if is_array(batch):
                return tensor_of(batch, "a batch"), None
        return pair_of(batch, plain=self.targets != "of any kind")

    def _chunks(self, x: Tensor, targets: Any) -> Iterator[tuple[Tensor, Any]]:
        """Yield one pair in chunks of samples, or whole if its targets cannot be cut."""
        samples = x.shape[self.axis] if x.dim() > self.axis else 0
        leaves = [] if targets is None else tree_leaves(targets)
        cut = all(isinstance(leaf, Tensor) and leaf.shape[:1] == (samples,) for leaf in leaves)
        if self.pair is None or not cut or not samples:
            yield x, targets
            return
        for start in range(0, samples, CHUNK):
            size = min(CHUNK, samples - start)
            yield x.narrow(self.axis, start, size), _part(targets, slice(start, start + size))

    def nothing(self, purpose: str) -> LeanspikeError:
        """Return the error for a source without samples."""
        if self.once:
            return LeanspikeError(
                f"no samples {purpose}: the {type(self.source).__name__} was used up before, or is "
                f"empty; give {FORMS}"
            )
        return LeanspikeError(f"no samples {purpose}; the split is empty")


def _part(targets: Any, some: slice) -> Any:
    return tree_map_only(Tensor, lambda leaf: leaf[some], targets)


def _check_two(source: list[Any], axis: int) -> None:
    """Raise LeanspikeError for two alike tensors, which may be batches, or input and targets."""
    if len(source) == 2 and all(is_array(part) and part.ndim > 1 for part in source):
        first, second = source
        if first.shape[axis + 1 :] == second.shape[axis + 1 :]:
            raise LeanspikeError(
                f"a list of two tensors, {list(first.shape)} and {list(second.shape)}: for two "
                "batches give [(x,) for x in batches], for inputs and targets the tuple (x, y)"
            )


def device_of(network: nn.Module) -> torch.device | None:
    """Return the device of the network's first tensor, or None if it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return None if first is None else first.device
