"""What a split holds, as one short text, so that changed samples are noticed.

Samples in memory are read whole. Samples in files count by all names and sizes, and by the contents
of some. Reading all contents would take as long as an epoch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from leanspike.data.event_split import EventSplit
from leanspike.data.folder import FolderSplit
from leanspike.data.members import Members
from leanspike.data.split import SPLIT_SEED, Split
from leanspike.errors import DataError

READ = 256
"""Samples in files whose contents count; always the same ones."""
AT_ONCE = 4096
"""Samples in memory that are read together."""


def digest_of(split: Split) -> str:
    """Return ``whole`` or ``sampled``, what was read, and 32 hexadecimal digits of its SHA-256.

    - ``whole``: all samples and labels.
    - ``sampled``: all labels, and the contents of 256 samples. Files add their names and sizes, but
      not their folder. Parts of tar files add their sizes.

    Raises:
        DataError: for a file that cannot be read.

    >>> from leanspike.data import synthetic
    >>> digest_of(synthetic((1, 4, 4), train=8).train)
    'whole:8:...'
    """
    digest = hashlib.sha256(split.labels.numpy().tobytes())
    drawn = _drawn(len(split))
    if not split.lazy:
        _add_samples(digest, split, torch.arange(len(split)))
        return f"whole:{len(split)}:{digest.hexdigest()[:32]}"
    paths = paths_of(split)
    if isinstance(split, FolderSplit) and isinstance(split.paths, Members):
        _add_members(digest, split.paths, drawn.tolist())
    elif paths is None:
        _add_samples(digest, split, drawn)
    else:
        _add_files(digest, paths, drawn.tolist())
    return f"sampled:{len(drawn)} of {len(split)}:{digest.hexdigest()[:32]}"


def paths_of(split: Split) -> Sequence[str] | None:
    """Return the file of each sample; None where samples have no files of their own.

    >>> from leanspike.data import synthetic
    >>> print(paths_of(synthetic((1, 4, 4), train=8).train))
    None
    """
    if isinstance(split, FolderSplit) and isinstance(split.paths, list):
        return split.paths
    if isinstance(split, EventSplit):
        return [split.source.recordings[place].path for place in split.places]
    return None


def _drawn(count: int) -> torch.Tensor:
    """Return the samples whose contents count, in ascending order."""
    drawn = np.random.RandomState(SPLIT_SEED).permutation(count)[:READ]
    return torch.from_numpy(np.sort(drawn))


def _add_samples(digest: hashlib._Hash, split: Split, indices: torch.Tensor) -> None:
    for part in torch.split(indices, AT_ONCE):
        samples, _ = split.batch(part)
        digest.update(samples.contiguous().numpy().tobytes())


def _add_files(digest: hashlib._Hash, paths: Sequence[str], drawn: Iterable[int]) -> None:
    """Add names and sizes of all files, and the contents of some."""
    try:
        for path in paths:
            digest.update(f"{os.path.basename(path)}\0{os.stat(path).st_size}\0".encode())
        for index in drawn:
            digest.update(Path(paths[index]).read_bytes())
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); restore it") from None


def _add_members(digest: hashlib._Hash, places: Members, drawn: Iterable[int]) -> None:
    """Add sizes of all parts, and the contents of some."""
    digest.update(places.size.tobytes())
    for index in drawn:
        place = places[index]
        try:
            digest.update(place.read())
        except OSError as error:
            raise DataError(f"{place.path} cannot be read ({error}); restore it") from None
