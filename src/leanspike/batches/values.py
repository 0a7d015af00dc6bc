"""What a user gives as input and labels: which kind it is, and as tensors.

Shapes: N samples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import Dataset

from leanspike.errors import LeanspikeError

FORMS = "a DataLoader, a list of (x, y) batches or one pair (x, y)"


def is_array(value: Any) -> TypeGuard[Tensor | np.ndarray[Any, Any]]:
    return isinstance(value, Tensor | np.ndarray)


def is_many(value: Any) -> TypeGuard[tuple[Any, ...] | list[Any]]:
    return isinstance(value, tuple | list)


def is_pair(source: Any) -> bool:
    """Return whether a list is one input with its labels, rather than two batches."""
    if not is_many(source) or len(source) != 2 or not is_array(source[0]):
        return False
    labels = source[1]
    batch = is_many(labels) and any(is_array(part) and part.ndim > 0 for part in labels[:1])
    return is_array(labels) or (is_many(labels) and not batch)


def is_structured(source: Any) -> bool:
    """Return whether a source is one input with targets in a structure."""
    pair = is_many(source) and len(source) == 2 and is_array(source[0])
    return pair and (isinstance(source[1], Mapping) or isinstance(source, tuple))


def check_iterable(source: Any, forms: str) -> None:
    if isinstance(source, Dataset):
        name = type(source).__name__
        raise LeanspikeError(
            f"a {name} gives single samples; give torch.utils.data.DataLoader(dataset, 128)"
        )
    if is_array(source) or isinstance(source, Mapping | str) or not isinstance(source, Iterable):
        raise LeanspikeError(f"this is a {type(source).__name__}; give {forms}")


def pair_of(batch: Any, plain: bool = True) -> tuple[Tensor, Any]:
    """Return input and labels of a batch. ``plain`` labels must be numbers."""
    if isinstance(batch, Mapping):
        keys = ", ".join(map(repr, batch))
        raise LeanspikeError(
            f"a batch is a dict of {keys}; give pairs of input and labels, as "
            "[(b[INPUT], b[LABELS]) for b in batches], with the two keys"
        )
    if not is_many(batch):
        raise LeanspikeError(f"a batch is a {type(batch).__name__}, with no labels; give {FORMS}")
    if len(batch) != 2:
        raise LeanspikeError(
            f"a batch has {len(batch)} parts; give input and labels only, as "
            "[(x, y) for x, y, *_ in batches]"
        )
    x, labels = batch
    x = tensor_of(x, "the input of a batch")
    if plain:
        return x, as_labels(labels)
    return x, tree_map_only(np.ndarray, lambda part: tensor_of(part, "targets"), labels)


def as_labels(labels: Any) -> Tensor:
    """Return labels as a tensor, int64 if they are whole numbers.

    >>> as_labels([True, False])
    tensor([1, 0])
    """
    if not is_array(labels):
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            raise LeanspikeError(
                f"labels are a {type(labels).__name__} without plain numbers; give each sample the "
                "number of its class, as [0, 2, 1]"
            ) from None
    numbers = tensor_of(labels, "the labels")
    if numbers.is_complex():
        raise LeanspikeError(f"labels are {numbers.dtype}; give real numbers, as labels.real")
    return numbers if numbers.is_floating_point() else numbers.long()


def tensor_of(value: Any, what: str) -> Tensor:
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
