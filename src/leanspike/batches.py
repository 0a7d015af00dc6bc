"""Batches for a network from a user's data: a DataLoader, a list, arrays, or one pair.

Shapes: N samples of a batch; images are ``[N, ...]``, frames ``[T, N, ...]``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, TypeGuard, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.data import Dataset

from leanspike.errors import LeanspikeError

ENOUGH = 512
"""The number of images taken from batches where some hundreds are enough."""
CHUNK = 128
"""The samples of a batch that is cut from one pair."""
Source = Iterable[Any]
"""All that :class:`Batches` takes."""
FORMS = "a DataLoader, a list of (x, y) batches or one pair (x, y)"
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
        alone = targets != "labels" and _is_array(source)
        loose = targets == "of any kind" and _is_structured(source)
        self.pair = source if alone or loose or _is_pair(source) else None
        self.source = source
        if targets != "labels" and isinstance(source, list):
            _check_two(source, axis)
        if self.pair is None:
            _check_iterable(source, FORMS if targets == "labels" else ANY_FORMS)

    @property
    def once(self) -> bool:
        """Whether the source can be iterated only once."""
        return isinstance(self.source, Iterator)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        place = _device(self.network)
        for x, targets in map(self._parts, self.source if self.pair is None else [self.pair]):
            if isinstance(targets, Tensor):
                check_lengths(x, targets, self.axis)
            check_dtype(x, self.network)
            for x_N, targets_N in self._chunks(x, targets):
                yield x_N.to(place), tree_map_only(Tensor, lambda part: part.to(place), targets_N)

    def _parts(self, batch: Any) -> tuple[Tensor, Any]:
        """Return the input and targets of a batch."""
        if self.targets != "labels":
            if _is_many(batch) and len(batch) == 1:
                batch = batch[0]
            if _is_array(batch):
                return _tensor(batch, "a batch"), None
        return _pair(batch, plain=self.targets != "of any kind")

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


def images_of(source: Any, network: nn.Module, axis: int = 0) -> Tensor:
    """Return all images of a tensor or array, or the first 512 of batches, without reading more.

    Args:
        source: a tensor or NumPy array of images; a DataLoader or list of batches, each of
            images or a pair ``(images, labels)``; or one such pair.
        network: the network to whose device the images are sent.
        axis: the axis of the samples (1 for frames).

    Raises:
        LeanspikeError: for a source without images.

    >>> loader = [(torch.rand(300, 8), torch.arange(300) % 3)] * 5
    >>> images_of(loader, nn.Linear(8, 3)).shape
    torch.Size([512, 8])
    """
    if _is_array(source):
        images = _tensor(source, "the images")
    elif _is_pair(source) and not (_is_array(source[1]) and source[1].ndim > 1):
        images = _tensor(source[0], "the images")
    else:
        _check_iterable(source, "a tensor of images, a DataLoader or a list of batches")
        images = _gather(source, axis)
    check_dtype(images, network)
    return images.to(_device(network))


def check_lengths(x: Tensor, labels: Tensor, axis: int) -> None:
    """Raise LeanspikeError unless there is a label, or a row of labels, for each sample."""
    if x.dim() > axis and (labels.dim() == 0 or len(labels) != x.shape[axis]):
        raise LeanspikeError(
            f"labels of shape {tuple(labels.shape)}; expected a whole number for each of the "
            f"{x.shape[axis]} samples in x {list(x.shape)}, [{x.shape[axis]}]"
        )


def check_dtype(x: Tensor, network: nn.Module) -> None:
    """Raise LeanspikeError for float64 input, as NumPy's arrays often are, if the network is not.

    >>> check_dtype(torch.zeros(1, dtype=torch.float64), nn.Linear(1, 1))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: input of type torch.float64, but the network computes in ...
    """
    own = next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype)
    if x.dtype == torch.float64 and own != x.dtype:
        raise LeanspikeError(
            f"input of type {x.dtype}, but the network computes in {own}; give x.float(), or for "
            'an array x.astype("float32")'
        )


def _gather(source: Iterable[Any], axis: int) -> Tensor:
    """Return the first images of batches, and warn if all of them are of one class."""
    parts: list[Tensor] = []
    classes: set[int] = set()
    labelled = total = 0
    for batch in source:
        labels = None
        images = batch = batch[0] if _is_many(batch) and len(batch) == 1 else batch
        if _is_many(batch) or isinstance(batch, Mapping):
            images, labels = _pair(batch)
        images = _tensor(images, "a batch")
        if labels is not None and labels.dim() == 1:
            classes |= set(labels.tolist())
            labelled += len(labels)
        parts.append(images)
        total += images.shape[axis] if images.dim() > axis else 0
        if total >= ENOUGH:
            break
    if not parts:
        raise LeanspikeError(
            "no images to calibrate on: the batches are empty, or were used up before; "
            "give some hundreds of training images"
        )
    if labelled >= 32 and len(classes) == 1:
        logging.getLogger("leanspike").warning(
            f"the first {labelled} images are all of class {classes.pop()}; give a loader that "
            "shuffles, or images of all classes"
        )
    try:
        return torch.cat(parts, axis).narrow(axis, 0, min(total, ENOUGH))
    except RuntimeError:
        shapes = sorted({str(list(part.shape)) for part in parts})
        raise LeanspikeError(
            f"the batches hold images of several shapes ({', '.join(shapes)}); give only images, "
            "of one size"
        ) from None


def _pair(batch: Any, plain: bool = True) -> tuple[Tensor, Any]:
    """Return input and labels of a batch. ``plain`` labels must be numbers."""
    if isinstance(batch, Mapping):
        keys = ", ".join(map(repr, batch))
        raise LeanspikeError(
            f"a batch is a dict of {keys}; give pairs of input and labels, as "
            "[(b[INPUT], b[LABELS]) for b in batches], with the two keys"
        )
    if not _is_many(batch):
        raise LeanspikeError(f"a batch is a {type(batch).__name__}, with no labels; give {FORMS}")
    if len(batch) != 2:
        raise LeanspikeError(
            f"a batch has {len(batch)} parts; give input and labels only, as "
            "[(x, y) for x, y, *_ in batches]"
        )
    x, labels = batch
    x = _tensor(x, "the input of a batch")
    if plain:
        return x, as_labels(labels)
    return x, tree_map_only(np.ndarray, lambda part: _tensor(part, "targets"), labels)


def as_labels(labels: Any) -> Tensor:
    """Return labels as a tensor, int64 if they are whole numbers.

    >>> as_labels([True, False])
    tensor([1, 0])
    """
    if not _is_array(labels):
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            raise LeanspikeError(
                f"labels are a {type(labels).__name__} without plain numbers; give each sample the "
                "number of its class, as [0, 2, 1]"
            ) from None
    numbers = _tensor(labels, "the labels")
    if numbers.is_complex():
        raise LeanspikeError(f"labels are {numbers.dtype}; give real numbers, as labels.real")
    return numbers if numbers.is_floating_point() else numbers.long()


def _tensor(value: Any, what: str) -> Tensor:
    """Return a tensor or array as a tensor."""
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise LeanspikeError(f"{what}: {kind}; give a tensor or an array of numbers")
    if value.dtype.kind == "u" and value.dtype.itemsize > 1:
        value = value.astype(np.int64)
    ready = value.flags.writeable and value.flags.c_contiguous
    return torch.from_numpy(value if ready else value.copy())


def _is_array(value: Any) -> TypeGuard[Tensor | np.ndarray[Any, Any]]:
    return isinstance(value, Tensor | np.ndarray)


def _is_many(value: Any) -> TypeGuard[tuple[Any, ...] | list[Any]]:
    return isinstance(value, tuple | list)


def _is_pair(source: Any) -> bool:
    """Whether a list is one input with its labels, rather than two batches."""
    if not _is_many(source) or len(source) != 2 or not _is_array(source[0]):
        return False
    labels = source[1]
    batch = _is_many(labels) and any(_is_array(part) and part.ndim > 0 for part in labels[:1])
    return _is_array(labels) or (_is_many(labels) and not batch)


def _part(targets: Any, some: slice) -> Any:
    return tree_map_only(Tensor, lambda leaf: leaf[some], targets)


def _is_structured(source: Any) -> bool:
    """Whether a source is one input with targets in a structure."""
    pair = _is_many(source) and len(source) == 2 and _is_array(source[0])
    return pair and (isinstance(source[1], Mapping) or isinstance(source, tuple))


def _check_two(source: list[Any], axis: int) -> None:
    """Raise LeanspikeError for two alike tensors, which may be batches, or input and targets."""
    if len(source) == 2 and all(_is_array(part) and part.ndim > 1 for part in source):
        first, second = source
        if first.shape[axis + 1 :] == second.shape[axis + 1 :]:
            raise LeanspikeError(
                f"a list of two tensors, {list(first.shape)} and {list(second.shape)}: for two "
                "batches give [(x,) for x in batches], for inputs and targets the tuple (x, y)"
            )


def _check_iterable(source: Any, forms: str) -> None:
    if isinstance(source, Dataset):
        name = type(source).__name__
        raise LeanspikeError(
            f"a {name} gives single samples; give torch.utils.data.DataLoader(dataset, 128)"
        )
    if _is_array(source) or isinstance(source, Mapping | str) or not isinstance(source, Iterable):
        raise LeanspikeError(f"this is a {type(source).__name__}; give {forms}")


def _device(network: nn.Module) -> torch.device | None:
    """Return the device of the network's first tensor, or None if it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return None if first is None else first.device
