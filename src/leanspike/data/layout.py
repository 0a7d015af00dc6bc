"""Where the images of each class lie: the folders of training, test and validation images."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from leanspike.data.members import Places, chosen
from leanspike.data.split import stratified
from leanspike.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PARTS = ("test", "training", "val", "valid", "validation")  # folders with these names are no class
CLUTTER = ("__MACOSX",)  # ignored, as hidden folders are
ANNOTATIONS = "val_annotations.txt"  # Tiny-ImageNet's: images and their classes, tab-separated

Listed = tuple[Places, Tensor]
"""Where the images lie, and their labels, int64 [N]."""


def list_parts(root: Path) -> tuple[tuple[str, ...], list[Listed], tuple[str, ...]]:
    """Return the classes under ``root``, its parts, and notes.

    The parts are its training, test and perhaps validation images.
    ``leanspike.data.folder.read_image_folder`` describes the layouts.

    Raises:
        DataError: for a folder without such a layout.

    >>> list_parts(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.DataError: no folder nowhere; give the root of nowhere/train/CLASS/IMAGE or ...
    """
    source, classes = _classes(root)
    train = _list(source, classes)
    others = [] if source == root else _other_parts(root, classes)
    if others:
        return classes, [train, *others], ()
    return classes, a_fifth_tests(train), (f"{root} has no test or val folder: {FIFTH}",)


FIFTH = "a fixed fifth of each class tests"


def a_fifth_tests(listed: Listed) -> list[Listed]:
    """Cut the images into two parts, to train and to test; always the same.

    >>> [places for places, _ in a_fifth_tests((["a", "b", "c", "d", "e"], torch.zeros(5).long()))]
    [['a', 'b', 'd', 'e'], ['c']]
    """
    places, labels = listed
    return [
        (chosen(places, part.numpy()), labels[part])
        for part in stratified(labels, round(len(places) / 5))
    ]


def _classes(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that holds a folder of training images per class, and their names."""
    if not root.is_dir():
        raise DataError(
            f"no folder {root}; give the root of {root}/train/CLASS/IMAGE or {root}/CLASS/IMAGE, "
            "or set LEANSPIKE_DATA to it"
        )
    source = root / "train" if (root / "train").is_dir() else root
    classes = _folders(source)
    if not classes:
        raise DataError(
            f"no class folders in {source}; expected {source}/CLASS/IMAGE: give that root, or set "
            "LEANSPIKE_DATA to it"
        )
    parts = [name for name in classes if source == root and name.lower() in PARTS]
    if parts:
        raise DataError(
            f"{root / parts[0]} looks like a part of the images, and {root / 'train'} is missing; "
            "call the parts train, test and val"
        )
    if len(classes) == 1:
        raise DataError(f"{source} has one class only, {classes[0]}; two or more are needed")
    return source, classes


def _other_parts(root: Path, classes: tuple[str, ...]) -> list[Listed]:
    """Return the images of ``test`` and ``val``, as far as their classes are known."""
    parts = []
    for folder in (root / "test", root / "val"):
        found = set(_folders(folder))
        if found & set(classes):
            unknown = sorted(found - set(classes))
            if unknown:
                raise DataError(
                    f"{folder / unknown[0]} is not a class of {root / 'train'}; remove it or add "
                    "training images of it"
                )
            parts.append(_list(folder, classes))
        elif (folder / ANNOTATIONS).is_file():
            parts.append(_annotated(folder, classes))
    return parts


def _annotated(folder: Path, classes: tuple[str, ...]) -> Listed:
    """Return images in ``folder/images`` whose classes a file names, as Tiny-ImageNet's does."""
    path = folder / ANNOTATIONS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    place = {name: number for number, name in enumerate(classes)}
    paths, labels = list[str](), list[int]()
    for number, line in enumerate(lines, start=1):
        name, label, *_ = [*line.split("\t"), "", ""]
        image = folder / "images" / name
        if label not in place or not name or not image.is_file():
            raise DataError(
                f"{path}, line {number}: {line[:80]!r} is not an image of {folder / 'images'} and "
                "a class of the training images; restore the file"
            )
        paths.append(str(image))
        labels.append(place[label])
    if not paths:
        raise DataError(f"{path} names no images; restore it")
    return paths, torch.tensor(labels)


def _folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return tuple(sorted(n for n in names if not n.startswith(".") and n not in CLUTTER))


def _list(folder: Path, classes: tuple[str, ...]) -> Listed:
    paths: list[str] = []
    labels: list[int] = []
    for name in _folders(folder):
        found = sorted(_images(folder / name))
        if not found:
            raise DataError(
                f"no images in {folder / name}; put some there ({', '.join(SUFFIXES)}) "
                "or remove the folder"
            )
        paths += found
        labels += [classes.index(name)] * len(found)
    return paths, torch.tensor(labels)


def _images(folder: Path) -> list[str]:
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(where, file)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
    return found
