"""The images of what a user has, without labels: some hundreds, as a calibration takes them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.batches.source import device_of
from leanspike.batches.values import (
    check_dtype,
    check_iterable,
    is_array,
    is_many,
    is_pair,
    pair_of,
    tensor_of,
)
from leanspike.errors import LeanspikeError

ENOUGH = 512
"""The number of images taken from batches where some hundreds are enough."""


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
    if is_array(source):
        images = tensor_of(source, "the images")
    elif is_pair(source) and not (is_array(source[1]) and source[1].ndim > 1):
        images = tensor_of(source[0], "the images")
    else:
        check_iterable(source, "a tensor of images, a DataLoader or a list of batches")
        images = _gather(source, axis)
    check_dtype(images, network)
    return images.to(device_of(network))


def _gather(source: Iterable[Any], axis: int) -> Tensor:
    """Return the first images of batches, and warn if all of them are of one class."""
    parts: list[Tensor] = []
    classes: set[int] = set()
    labelled = total = 0
    for batch in source:
        labels = None
        images = batch = batch[0] if is_many(batch) and len(batch) == 1 else batch
        if is_many(batch) or isinstance(batch, Mapping):
            images, labels = pair_of(batch)
        images = tensor_of(images, "a batch")
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
