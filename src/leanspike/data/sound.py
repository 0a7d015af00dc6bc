"""Images that cannot be decoded: found before anything is trained, named, counted, left out.

They are found once, by decoding every image on all cores. The result is kept in the folder that
LEANSPIKE_CACHE names, or else in the data's own folder, where that can be written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leanspike.data.decoded import digest_of
from leanspike.data.layout import Listed
from leanspike.data.members import Place, Places, chosen, opened
from leanspike.data.survey import as_bytes, check_claim, check_pixels, in_words
from leanspike.errors import DataError, LeanspikeError
from leanspike.files import write_text
from leanspike.optional import import_optional

SHOWN = 3  # bad images that a note names; the file has them all
AT_ONCE = 10_000  # images that threads are given at once: each of them waits in memory

Bad = dict[int, tuple[str, str]]
"""By place: the image's name, and what is wrong with it."""


def home(root: Path) -> Path:
    """Return the folder for what is found out about the data in ``root``.

    It is the folder that LEANSPIKE_CACHE names, or else ``root``.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, LEANSPIKE_CACHE="caches"):
    ...     home(Path("images"))
    PosixPath('caches')
    """
    named = os.environ.get("LEANSPIKE_CACHE")
    return Path(named).expanduser() if named else root


def without_bad(
    listed: Sequence[Listed], classes: Sequence[str], root: Path
) -> tuple[list[Listed], tuple[str, ...]]:
    """Return the parts without the images that cannot be decoded, and a note that names those.

    Raises:
        DataError: if a class has no training image left.
    """
    parts: list[Listed] = []
    bad: list[tuple[str, str]] = []
    for places, labels in listed:
        found = _bad(places, root)
        bad += found.values()
        good = np.setdiff1d(np.arange(len(places)), np.fromiter(found, np.int64, len(found)))
        parts.append((chosen(places, good), labels[torch.from_numpy(good)]))
    _check_classes(listed[0][1], parts[0][1], classes)
    total = sum(len(places) for places, _ in listed)
    if not bad:
        return parts, (f"none of {total:,} images is bad",)
    shown = ", ".join(f"{name} ({why})" for name, why in bad[:SHOWN])
    more = "" if len(bad) <= SHOWN else f" and {len(bad) - SHOWN} more"
    if more and all(_file(places, root).is_file() for places, _ in listed):
        more += f", all named in {home(root)}"
    return parts, (f"{len(bad):,} of {total:,} images are bad and left out: {shown}{more}",)


def why_bad(place: Place) -> str | None:
    """Return what is wrong with the image there; None for an image that can be decoded.

    >>> why_bad("nowhere.png")
    "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.png'"
    """
    import_optional("PIL.Image", "vision")
    try:
        with opened(place) as image:
            check_pixels(image)
            check_claim(place, image)
            as_bytes(image, 3)
    except Exception as error:  # what PIL raises on damaged files is an open-ended list
        return in_words(error)
    return None


def _file(places: Places, root: Path) -> Path:
    return home(root) / f".leanspike-{digest_of(places, 'bad images')}.json"


def _bad(places: Places, root: Path) -> Bad:
    """Return the bad images, from what was kept, or by decoding all."""
    path = _file(places, root)
    with suppress(OSError, ValueError, TypeError):  # a damaged file counts as missing
        return {int(n): (str(name), str(why)) for n, name, why in json.loads(path.read_text())}
    found: Bad = {}
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(places), AT_ONCE):
            part = places[first : first + AT_ONCE]
            for number, why in enumerate(pool.map(why_bad, part), start=first):
                if why is not None:
                    found[number] = (str(places[number]), why)
    with suppress(LeanspikeError):  # nothing is kept in a folder that cannot be written
        write_text(path, json.dumps([[n, *named] for n, named in found.items()], indent=1))
    return found


def _check_classes(before: Tensor, after: Tensor, classes: Sequence[str]) -> None:
    lost = sorted(set(before.tolist()) - set(after.tolist()))
    if lost:
        raise DataError(
            f"all training images of class {classes[lost[0]]} are bad; replace them, or remove the "
            "class"
        )
