"""Images in tar files, in the layout of the package webdataset, at any place at once.

The layout is ``ROOT/train/*.tar``, with or without ``ROOT/test/*.tar`` and ``ROOT/val/*.tar``; or
``ROOT/*.tar``, whose names may say "train", "val" and "test". What a tar file holds is read once
(see ``leanspike.data.shard_index``). Then each image is read where it lies. So a shuffled epoch is
one permutation of all images, as it is with a folder of images, and can be resumed at any step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from leanspike.data.folder import check_size, to_parts
from leanspike.data.layout import FIFTH, SUFFIXES, Listed, a_fifth_tests
from leanspike.data.shard_index import ShardIndex, index_of
from leanspike.data.sound import home
from leanspike.data.split import Parts
from leanspike.errors import DataError

NAMES = ("classes.txt", "classnames.txt", "class_names.txt")
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def read_shards(
    root: Path, image_size: int | None, channels: int | None = None, skip_bad: bool = False
) -> Parts:
    """List the images in the tar files under ``root``; nothing is decoded yet.

    Labels are numbers of classes, or their names. ``ROOT/classes.txt`` holds the names in order,
    one a line. Without it the names are the numbers up to the largest, or all names in alphabetical
    order. The test part is chosen, and ``skip_bad`` works, as in ``leanspike.data.folder``.

    Raises:
        DataError: for missing or damaged tar files, samples without a label, or labels that are not
            of the classes.

    >>> read_shards(Path("nowhere"), None)
    Traceback (most recent call last):
    leanspike.errors.DataError: no folder nowhere; give the root of nowhere/train/000000.tar, ...
    """
    check_size(image_size)
    shards = _shards(root)
    files = [path for paths in shards.values() for path in paths]
    index = index_of(files, home(root))
    _check_each_has_images(shards, index)
    classes, labels = _classes(root, index)
    ends = np.cumsum([len(paths) for paths in shards.values()])
    part = np.searchsorted(ends, index.members.file, side="right")
    listed: dict[str, Listed] = {}
    for number, name in enumerate(shards):
        its = np.flatnonzero(part == number)
        listed[name] = index.members.at(its), torch.from_numpy(labels[its])
    train, *others = listed.values()
    notes = () if others else (f"{root} has no tar files to test or validate: {FIFTH}",)
    parts = [train, *others] if others else a_fifth_tests(train)
    return to_parts(root, classes, parts, notes, image_size, channels, skip_bad)


def _check_each_has_images(shards: Mapping[str, Sequence[str]], index: ShardIndex) -> None:
    files = [path for paths in shards.values() for path in paths]
    empty = np.flatnonzero(np.bincount(index.members.file, minlength=len(files)) == 0)
    if len(empty):
        raise DataError(
            f"no images in {files[empty[0]]}; put some there ({', '.join(SUFFIXES)}) or remove it"
        )


def _shards(root: Path) -> dict[str, list[str]]:
    """Return the tar files of each part, in order of their names: "train" first."""
    if not root.is_dir():
        raise DataError(
            f"no folder {root}; give the root of {root}/train/000000.tar, or set LEANSPIKE_DATA to "
            "it"
        )
    found: dict[str, list[str]] = {}
    for name in ("train", "test", "val"):
        inside = _tars(root / name) if (root / name).is_dir() else []
        if inside:
            found[name] = inside
    if not found:
        for path in _tars(root):
            words = re.findall("[a-z]+", Path(path).name.lower())
            named = [PARTS[word] for word in words if word in PARTS]
            found.setdefault(named[0] if named else "train", []).append(path)
    if "train" not in found:
        where = "of the training images " if found else ""
        packed = sorted(path.name for path in root.rglob("*.tar.*"))[:1]
        hint = f"unpack {packed[0]} and the like (gunzip)" if packed else "give that root"
        raise DataError(
            f"no tar files {where}in {root}; expected {root}/train/000000.tar with KEY.jpg and "
            f"KEY.cls: {hint}, or set LEANSPIKE_DATA to it"
        )
    return {name: found[name] for name in ("train", "test", "val") if name in found}


def _tars(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*.tar") if not path.name.startswith("."))


def _classes(root: Path, index: ShardIndex) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes, and the class of each image, int64 [N]."""
    names = _named(root)
    numbers = all(text.isascii() and text.isdigit() and len(text) < 10 for text in index.texts)
    if names is None:
        largest = max(map(int, index.texts), default=-1) if numbers else 0
        names = tuple(map(str, range(largest + 1))) if numbers else tuple(sorted(index.texts))
        if largest >= max(1000, 10 * len(index.texts)):
            raise DataError(f"the labels of {root} go up to {largest}; number classes from 0 on")
    place = {name: number for number, name in enumerate(names)}
    if numbers:
        place = {text: int(text) for text in index.texts}
    wrong = [text for text in index.texts if not 0 <= place.get(text, -1) < len(names)]
    if wrong:
        at = int(np.flatnonzero(index.text == index.texts.index(wrong[0]))[0])
        raise DataError(
            f"{index.members[at]} is of class {wrong[0]!r}, and {root} has {len(names)} classes, "
            f"{names[0]} to {names[-1]}; mend {NAMES[0]} there, or the label"
        )
    if len(names) < 2:
        raise DataError(f"{root} has one class only, {names[0]}; two or more are needed")
    found = np.array([place[text] for text in index.texts], dtype=np.int64)
    return names, found[index.text]


def _named(root: Path) -> tuple[str, ...] | None:
    """Return the names of the classes that a file in ``root`` lists."""
    for name in NAMES:
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
            names = tuple(line.strip() for line in lines if line.strip())
            if not names or len(set(names)) < len(names):
                raise DataError(f"{root / name} must name each class once, one a line; mend it")
            return names
    return None
