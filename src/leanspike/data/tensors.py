"""Tensors of any numbers with any targets, from files of NumPy or safetensors.

There are three layouts:

- a file .npz or .safetensors with arrays ``x_train``, ``y_train``, ``x_test``, ``y_test`` and
  perhaps ``x_val``, ``y_val``;
- a folder with such arrays as files .npy;
- a folder with train.npz, test.npz and perhaps val.npz (or .safetensors) of arrays ``x`` and ``y``.

Arrays ``x`` and ``y`` alone give a fixed fifth to the test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from leanspike.data.split import Parts, TaskName, TensorSplit, held_out
from leanspike.errors import DataError

ENDINGS = (".npy", ".npz", ".safetensors")
NAMES = re.compile("[xy](_(train|test|val))?")
MOST_AXES = 4  # the samples' axis included; with more, nobody knows which axis is time

Arrays = dict[str, tuple[NDArray[Any], str]]
"""By name: an array, and where it stood."""


def read_tensors(root: Path) -> Parts:
    """Read all of a data set's arrays into memory.

    ``x`` are N samples of one to three axes. Bytes [N, C, H, W] (or [N, H, W], grey) are images,
    all else becomes float32. ``y`` says by type and shape what is asked for:

    - whole numbers [N]: one class each, from 0 on;
    - 0 and 1 of any type, [N, K] with K ≥ 2: several labels at once;
    - floats 0 and 1, [N] or [N, 1]: yes or no;
    - other floats, [N] or [N, ...]: numbers, as of a regression.

    Raises:
        DataError: with the array's name, for what is missing, damaged, not finite or of other
            shapes.

    >>> read_tensors(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.DataError: no arrays at nowhere; give a file .npz or .safetensors with ...
    """
    arrays = _arrays(root)
    whole = "x" in arrays
    parts = ("",) if whole else ("_train", "_test", *(["_val"] if "x_val" in arrays else []))
    inputs = [_inputs(arrays, f"x{part}", root) for part in parts]
    targets = [_array(arrays, f"y{part}", root) for part in parts]
    task, labels = _targets([array for array, _ in targets], targets[0][1])
    splits = []
    for (x, where), (_, there), y in zip(inputs, targets, labels, strict=True):
        if x.shape[1:] != inputs[0][0].shape[1:] or x.dtype != inputs[0][0].dtype:
            raise DataError(
                f"{where} are {x.dtype} {list(x.shape)}, and {inputs[0][1]} "
                f"{inputs[0][0].dtype} {list(inputs[0][0].shape)}; give all parts alike"
            )
        if len(x) != len(y) or not len(x):
            raise DataError(
                f"{where} has {len(x)} samples, and {there} has {len(y)} targets; give one for each"
            )
        splits.append(TensorSplit(x, y))
    notes: tuple[str, ...] = ()
    if whole:
        (all_of_it,) = splits
        kept, held = held_out(all_of_it.labels, round(len(all_of_it) / 5))
        splits = [all_of_it.select(kept), all_of_it.select(held)]
        notes = (f"{root} has no test part: a fixed fifth tests",)
    train, test, *val = splits
    return Parts(_names(root, task, labels), train, test, val[0] if val else None, notes, task)


def _arrays(root: Path) -> Arrays:
    """Return all arrays by their names: x and y, or those of parts."""
    inside = sorted(root.iterdir()) if root.is_dir() else []
    files = [root] if root.is_file() else [path for path in inside if path.suffix in ENDINGS]
    found: Arrays = {}
    for path in files:
        for name, array in _load(path).items():
            stem = path.stem if path.suffix == ".npy" else name
            if path.stem in ("train", "test", "val") and path.suffix != ".npy":
                stem = f"{name}_{path.stem}"
            if NAMES.fullmatch(stem):
                if stem in found:
                    raise DataError(f"{stem} is in {found[stem][1]} and {path}; remove one")
                found[stem] = array, f"{stem} in {path}"
    if not found:
        raise DataError(
            f"no arrays at {root}; give a file .npz or .safetensors with x_train, y_train, x_test "
            "and y_test, or a folder with such .npy files (data.root, or LEANSPIKE_DATA)"
        )
    return found


def _load(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as stream:
            if path.suffix == ".npy":
                return {"": np.load(stream, allow_pickle=False)}
            if path.suffix == ".npz":
                with np.load(stream, allow_pickle=False) as arrays:
                    return dict(arrays)
    except Exception as error:  # what the libraries raise on damaged files is an open-ended list
        why = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({why}); write it again") from error
    raise DataError(f"{path} is of no known kind; give one of {', '.join(ENDINGS)}")


def _array(arrays: Arrays, name: str, root: Path) -> tuple[NDArray[Any], str]:
    if name not in arrays:
        raise DataError(f"no {name} in {root}, which has {', '.join(sorted(arrays))}; add it there")
    array, where = arrays[name]
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is of {array.dtype}; give floats or whole numbers")
    if not array.ndim or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        what = "has values that are NaN or infinite" if array.ndim else "is a single number"
        raise DataError(f"{where} {what}; give finite numbers, a row for each sample")
    return array, where


def _inputs(arrays: Arrays, name: str, root: Path) -> tuple[Tensor, str]:
    array, where = _array(arrays, name, root)
    if not 2 <= array.ndim <= MOST_AXES:
        raise DataError(
            f"{where} is {list(array.shape)}; give samples of one to three axes, [N, F], [N, C, L] "
            "or [N, C, H, W]"
        )
    if array.dtype == np.uint8 and array.ndim > 2:
        return torch.from_numpy(array if array.ndim == 4 else array[:, None]), where
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), where


def _targets(arrays: list[NDArray[Any]], where: str) -> tuple[TaskName, list[Tensor]]:
    """Return what the targets of all parts ask for, and these targets as labels."""
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"{where} and the targets of other parts have rows of shapes {shapes}; give all alike"
        )
    (row,) = shapes
    floats = any(array.dtype.kind == "f" for array in arrays)
    yes_no = all(bool(((array == 0) | (array == 1)).all()) for array in arrays)
    if not floats and row in ((), (1,)):
        labels = [torch.from_numpy(array.reshape(-1).astype(np.int64)) for array in arrays]
        least = min(int(each.min()) for each in labels if len(each))
        if least < 0:
            raise DataError(f"{where} has class {least}; number the classes from 0 on")
        return "multiclass", labels
    wide = [torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in arrays]
    if yes_no and row in ((), (1,)):
        return "binary", [each.reshape(-1) for each in wide]
    if yes_no and len(row) == 1:
        if all(bool((each.sum(1) == 1).all()) for each in wide):
            raise DataError(
                f"{where} has a single 1 in each row, as classes have, not labels; give the "
                "numbers of the classes, y.argmax(1), as whole numbers"
            )
        return "multilabel", wide
    if not floats:
        raise DataError(
            f"{where} are whole numbers {[len(arrays[0]), *row]}; give classes [N], labels 0 and 1 "
            "[N, K], or floats"
        )
    return "none", wide


def _names(root: Path, task: TaskName, labels: list[Tensor]) -> tuple[str, ...]:
    """Return a name for each class or label; no names for targets that are numbers."""
    if task == "none":
        return ()
    if task == "binary":
        count = 2
    else:
        count = 1 + max(int(each.max()) for each in labels)
        count = labels[0].shape[1] if task == "multilabel" else max(2, count)
    path = (root if root.is_dir() else root.parent) / "classes.txt"
    if not path.is_file():
        return tuple(map(str, range(count)))
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split("\n"))
    names = tuple(name.strip() for name in names if name.strip())
    if len(names) < count or (task != "multiclass" and len(names) > count):
        raise DataError(f"{path} names {len(names)} classes, and there are {count}; mend it")
    return names
