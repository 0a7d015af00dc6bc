"""A data set, by its name, with its fixed split and its normalisation constants."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanspike.data.dataset import Dataset as Dataset
from leanspike.data.dataset import describe as describe
from leanspike.data.named import Source, datasets
from leanspike.data.split import SPLIT_SEED, Split, held_out
from leanspike.data.statistics import channel_statistics
from leanspike.errors import DataError, LeanspikeError

MEASURED = 1000
"""Training images in files of which mean and std are measured."""


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    validation: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the data set ``name``, a key of ``DATASETS``, with its fixed split.

    A package of your own may offer others, by entry points in the group ``leanspike.datasets``:
    functions that return a :class:`Source`. ``options`` are the keyword arguments of the function.

    ``root`` is the folder that holds the data set's own folder. For ``image_folder`` and
    ``webdataset`` it holds their ``train``, or what is in it; for ``tensors`` it may be a file.
    None means the environment variable LEANSPIKE_DATA, else ``data``. Nothing is downloaded.

    ``validation`` training images are held out, stratified by class, the same ones whatever the
    seed of a run. None means the data set's default, or its own validation images.
    ``mean`` and ``std`` replace the data set's own; those that are not known are measured, on at
    most 1,000 training images in files.

    The option ``image_size`` (pixels) is for images in files, recordings of events and
    ``synthetic*``. Images in files have ``channels``, 1 or 3 (None: 1 if all are grey), and
    ``skip_bad``: those that cannot be decoded are left out, and ``notes`` name them. Recordings
    have ``frames``, a :class:`FrameOptions` (None: 10 of equal time).

    Raises:
        DataError: in one line with the way out, for an unknown name, files that are missing or
            damaged, or a number that does not fit.

    >>> data = load_dataset("digits")
    >>> data.shape, len(data.train), len(data.val), len(data.test)
    ((1, 8, 8), 1294, 144, 359)
    >>> load_dataset("synthetic", options={"image_size": 8}).shape
    (3, 8, 8)
    >>> load_dataset("cifar")
    Traceback (most recent call last):
    leanspike.errors.DataError: unknown data set 'cifar'; did you mean 'cifar10'? known: digits, ...
    """
    root = None if root is None else Path(root)
    source = _source(name, options or {})
    if root is not None and not source.has_files:
        raise DataError(
            f"root is {root}, and {name} reads no files; leave data.root out, or name a data set "
            "that does (data.name=image_folder for images of your own)"
        )
    parts = source.read(root or data_root())
    mean, std = _constants(parts.train, mean or source.mean, std or source.std)
    train, val, notes = parts.train, parts.val, parts.notes
    if val is None or validation is not None:
        if val is not None:
            notes = (*notes, f"validation is {validation} training images; val is left out")
        kept, held = held_out(train.labels, _held_out(source, len(train), validation))
        train, val = train.select(kept), train.select(held)
    return Dataset(
        name,
        parts.classes,
        parts.train.shape,
        mean,
        std,
        train,
        val,
        parts.test,
        parts.train.frames,
        notes,
        parts.task,
    )


def _constants(
    train: Split, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the constants that are given, or measure them on training images.

    Images in files are measured on a sample.
    """
    if mean is not None and std is not None:
        return mean, std
    if train.lazy and len(train) > MEASURED:
        drawn = np.random.RandomState(SPLIT_SEED).permutation(len(train))[:MEASURED]
        train = train.select(torch.from_numpy(np.sort(drawn)))
    measured = channel_statistics(train)
    if std is None and max(measured[1]) == 0:
        raise DataError(
            f"all {len(train)} training images that were measured have one and the same colour; "
            "give other images, or data.mean and data.std"
        )
    return mean or measured[0], std or tuple(value or 1.0 for value in measured[1])


def _source(name: str, options: Mapping[str, Any]) -> Source:
    if name not in datasets:
        known = datasets.names()
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DataError(f"unknown data set '{name}'; {hint}known: {', '.join(known)}")
    try:
        source = datasets.create(name, options)
    except LeanspikeError as error:
        raise DataError(str(error)) from None
    if not isinstance(source, Source):
        raise DataError(
            f"data set {name} gave a {type(source).__name__}; its function must return a Source"
        )
    return source


def data_root() -> Path:
    """Return where data sets lie unless the caller says otherwise.

    It is LEANSPIKE_DATA, or else ``data``.
    """
    return Path(os.environ.get("LEANSPIKE_DATA") or "data")


def _held_out(source: Source, images: int, validation: int | None) -> int:
    if validation is None:
        validation = source.validation
    if validation is None:
        validation = min(round(images / 10), 10_000)
    if not 0 <= validation < images:
        raise DataError(
            f"validation is {validation}; give 0..{images - 1} of the {images} training images"
        )
    return validation
