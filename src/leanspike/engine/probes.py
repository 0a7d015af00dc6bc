"""Finding out what an operation does to entries by running it on chosen numbers.

An operation that may move entries gets the numbers of the entries. One that may pool gets rows and
columns of ones. One that may scale and shift channels gets 0 and 1. Each finding is compared with a
run on random numbers, so that no operation is mistaken for another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leanspike_runtime.program import Array, Pair, Pool
from leanspike_runtime.reference import moved

Run = Callable[[Sequence[Tensor]], Any]
"""An operation as a function of its signals, ``[N, C, ...]`` each in float64."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """The windows of a pool: sums, y = weight·Σ, or maxima.

    The last windows reach ``over`` rows and columns further than the padding (``ceil_mode``).
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    shape: Shape
    weight: float
    over: Pair = (0, 0)

    @property
    def image(self) -> Pair:
        """The rows and columns of the output."""
        height, width = (1, 1, *self.shape[1:])[-2:]
        return height, width

    @property
    def sizes(self) -> dict[str, Any]:
        """Kernel, stride and padding, as a node of a program has them."""
        return {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}


def random_like(shapes: Sequence[Shape]) -> list[Tensor]:
    """Return random numbers, all different, some of them negative."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, *shape, dtype=torch.float64, generator=generator) for shape in shapes]


def channels_of(run: Run, shapes: Sequence[Shape]) -> tuple[list[Array], Array] | None:
    """Return scales and shift, ``[C]`` each, of ``y = Σ scale_k·x_k + shift``; None if not so.

    >>> scales, shift = channels_of(lambda x: 3 * x[0] - x[1] + 0.5, [(2,), (2,)])
    >>> [scale.tolist() for scale in scales], shift.tolist()
    ([[3.0, 3.0], [-1.0, -1.0]], [0.5, 0.5])
    >>> channels_of(lambda x: x[0] * x[1], [(2,), (2,)]) is None
    True
    """
    if len(set(shapes)) != 1:
        return None
    zeros = [torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes]
    shift = run(zeros)
    if not isinstance(shift, Tensor) or shift.shape != zeros[0].shape:
        return None
    scales = [
        run([one + 1 if place == chosen else one for place, one in enumerate(zeros)]) - shift
        for chosen in range(len(shapes))
    ]
    found = [_per_channel(part) for part in (*scales, shift)]
    x = random_like(shapes)
    wanted = sum((scale * part for scale, part in zip(scales, x, strict=True)), start=shift)
    if any(part is None for part in found) or not torch.allclose(run(x), wanted, rtol=1e-6):
        return None
    *each, last = (part for part in found if part is not None)
    return each, last


def _per_channel(values: Tensor) -> Array | None:
    """Return the values ``[C]`` if all pixels of a channel are equal, else None."""
    rows = values[0].reshape(values.shape[1], -1)
    same = bool((rows - rows[:, :1]).abs().max() <= 1e-9 * (1 + rows.abs().max()))
    found: Array = rows[:, 0].numpy()
    return found if same else None


def places_of(result: Tensor, run: Run, shapes: Sequence[Shape]) -> Array | None:
    """Return the number of the signals' entry, from 0, that each entry of a sample is, or None.

    -1 stands for an entry of 0. ``result`` is the operation's output for `numbered`. None: the
    operation does not only move entries.
    """
    places = result.round().long()
    total = sum(map(prod, shapes))
    if len(result) != 1 or bool(((places < 0) | (places > total)).any()):
        return None
    x = random_like(shapes)
    entries = torch.cat([torch.zeros(1, dtype=torch.float64), *(part.flatten() for part in x)])
    found = run(x)
    right = found.shape == places.shape and torch.equal(found, entries[places])
    return (places[0] - 1).numpy() if right else None


def numbered(shapes: Sequence[Shape]) -> list[Tensor]:
    """Return the numbers of all entries, from 1."""
    first, found = 1, []
    for shape in shapes:
        numbers = torch.arange(first, first + prod(shape), dtype=torch.float64)
        found.append(numbers.view(1, *shape))
        first += prod(shape)
    return found


def window_of(run: Run, shape: Shape, maximum: bool = False) -> Window | None:
    """Return the windows of a pool of one signal, or None if it is no pool with equal windows.

    With ``maximum`` it takes the maximum of each window instead of a sum.

    >>> window_of(lambda x: torch.nn.functional.avg_pool2d(x[0], 2), (3, 8, 8))
    Window(kernel=(2, 2), stride=(2, 2), padding=(0, 0), shape=(3, 4, 4), weight=0.25, over=(0, 0))
    >>> window_of(lambda x: x[0].mean((2, 3)), (3, 8, 8)).kernel
    (8, 8)
    """
    ones = run([torch.ones(1, *shape, dtype=torch.float64)])
    pixels, left = shape[1:], tuple(ones.shape[2:])
    if not pixels or ones.shape[1] != shape[0] or len(left) not in (0, len(pixels)):
        return None
    sides = [_side(run, shape, axis) for axis in range(len(pixels))]
    if any(side is None for side in sides):
        return None
    found = [(1, 1, 0, 0)] * (2 - len(pixels)) + [side for side in sides if side is not None]
    kernel, stride, padding, over = zip(*found, strict=True)
    weight = 1.0 if maximum else float(ones.abs().max()) / prod(kernel)
    window = Window(kernel, stride, padding, tuple(ones.shape[1:]), weight, over)
    return window if _pools_so(run, shape, window, maximum) else None


def _pools_so(run: Run, shape: Shape, window: Window, maximum: bool) -> bool:
    """Whether the windows and the operation give the same for random numbers."""
    (x,) = random_like([shape])
    image = x.view(shape[0], *(1, 1, *shape[1:])[-2:]).permute(1, 2, 0).numpy()
    around = [(0, over) for over in window.over]
    image = np.pad(image, [*around, (0, 0)], constant_values=-np.inf if maximum else 0)
    height, width = (1, 1, *window.shape[1:])[-2:]
    pool = Pool(
        "max_pool" if maximum else "sum_pool",
        *("", (height, width, shape[0]), "analog", (0,)),
        *(window.kernel, window.stride, window.padding),
    )
    pooled = moved(pool, [image[None, None]])[0, 0].transpose(2, 0, 1) * window.weight
    return np.allclose(run([x]).numpy().ravel(), pooled.ravel())


def _side(run: Run, shape: Shape, axis: int) -> tuple[int, int, int, int] | None:
    """Return kernel, stride, padding and overhang along an axis of pixels."""
    length = shape[1 + axis]
    lines = torch.eye(length, dtype=torch.float64).view(
        length, 1, *(length if place == axis else 1 for place in range(len(shape) - 1))
    )
    y = run([lines.expand(length, 1, *shape[1:]).contiguous()])
    y = y.view(*y.shape, *[1] * (len(shape) + 1 - y.dim()))
    reached = y.movedim(2 + axis, 1).flatten(2).ne(0).any(2).T.numpy()  # [out, in]
    begins, ends = reached.argmax(1), length - reached[:, ::-1].argmax(1)
    if not (reached.sum(1) == ends - begins).all() or not reached.any(1).all():
        return None
    return _regular(begins, ends, length)


def _regular(begins: Array, ends: Array, length: int) -> tuple[int, int, int, int] | None:
    """Return kernel, stride, padding and overhang of windows with these begins and ends, or None.

    The overhang is the smallest of all that would do.
    """
    found = []
    for padding in range(length // 2 + 1):
        kernel = int(ends[0]) + padding
        if 2 * padding > kernel:
            continue
        for stride in range(1, length + 1):
            starts = np.arange(len(begins)) * stride - padding
            alike = np.array_equal(begins, starts.clip(0)) and np.array_equal(
                ends, (starts + kernel).clip(max=length)
            )
            over = max(0, int(starts[-1]) + kernel - length - padding)
            more = length + 2 * padding + over - kernel
            if alike and more // stride + 1 == len(begins):
                found.append((kernel, stride, padding, over))
    return min(found, key=lambda sides: sides[-1], default=None)
