"""What event cameras saw: a checked record, and its reader for the usual kinds of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from leanspike.data.event_formats import READERS, Raw
from leanspike.errors import DataError

Integers = NDArray[np.integer[Any]]

MOST_PIXELS = 16_384
"""Of a sensor's side: with those of a damaged file, frames would ask for any memory."""
LONGEST_US = 2**48
"""From the first event to the last: eight years and more are damage; times T must not overflow."""


@final
@dataclass(frozen=True, eq=False)
class Events:
    """N events of a camera of ``width`` x ``height`` pixels, in the order of their times.

    ``x`` (0..width-1, from the left), ``y`` (0..height-1, from the top) and ``t`` (in µs, from
    any origin) are integers [N]; ``polarity`` is bool [N], True (ON) where it became brighter.
    A side has 1..16,384 pixels; from the first event to the last pass less than 2⁴⁸ µs.

    Raises DataError for arrays of different lengths or of other types, a sensor of another size,
    an event outside of it, times that go back, and longer recordings.

    >>> seen = Events(x=np.array([0, 3]), y=np.array([1, 1]), t=np.array([10, 25]),
    ...               polarity=np.array([True, False]), width=4, height=2)
    >>> len(seen), len(seen.between(10, 25))
    (2, 1)
    """

    x: Integers
    y: Integers
    t: Integers
    polarity: NDArray[np.bool_]
    width: int
    height: int

    def __post_init__(self) -> None:
        shapes = [values.shape for values in (self.x, self.y, self.t, self.polarity)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise DataError(f"x, y, t, polarity have shapes {shapes}; give one value per event")
        for name, values in (("x", self.x), ("y", self.y), ("t", self.t)):
            if values.dtype.kind not in "iu":
                raise DataError(f"{name} is {values.dtype}; give integers")
        if self.polarity.dtype != np.bool_:
            raise DataError(f"polarity is {self.polarity.dtype}; give bool, True for ON")
        self._check_places()
        self._check_times()

    def _check_places(self) -> None:
        if not (1 <= self.width <= MOST_PIXELS and 1 <= self.height <= MOST_PIXELS):
            raise DataError(
                f"a sensor of {self.width}x{self.height} pixels; give its true size, "
                f"1..{MOST_PIXELS} a side, or remove what is damaged"
            )
        outside = (self.x < 0) | (self.x >= self.width) | (self.y < 0) | (self.y >= self.height)
        if outside.any():
            event = int(outside.argmax())
            raise DataError(
                f"event {event} is at ({self.x[event]}, {self.y[event]}), outside of the sensor's "
                f"{self.width}x{self.height} pixels; give its true size, or remove what is damaged"
            )

    def _check_times(self) -> None:
        back = self.t[1:] < self.t[:-1]
        if back.any():
            raise DataError(f"t goes back at event {back.argmax() + 1}; sort the events by time")
        if len(self.t) and int(self.t[-1]) - int(self.t[0]) >= LONGEST_US:
            raise DataError(
                f"t goes from {self.t[0]} to {self.t[-1]} µs, more than eight years; give times in "
                "µs, or remove what is damaged"
            )

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: int, stop: int) -> Events:
        """Those with start ≤ t < stop (µs)."""
        first, last = np.searchsorted(self.t, (start, stop))
        part = slice(first, last)
        return Events(
            self.x[part],
            self.y[part],
            self.t[part],
            self.polarity[part],
            self.width,
            self.height,
        )


def read_events(path: str | Path, sensor: tuple[int, int] | None = None) -> Events:
    """The events in a file, by its suffix, put in order of time.

    ======== ==========================================================
    .bin     N-MNIST's 40 bits an event
    .dat     Prophesee's DAT, version 2
    .aedat   AEDAT 2 (as in CIFAR10-DVS), 3.1 (as in DVS128 Gesture), 4
    .aedat4  AEDAT 4, through the package ``aedat``
    .mat     ST-MNIST's, through SciPy
    .npy     an array with fields x, y, t (µs), p; or [N, 4]: x, y, p, t in milliseconds
    ======== ==========================================================

    ``sensor`` is its (width, height) in pixels. None: what the format or the file says, else the
    smallest that holds all events.

    Raises DataError naming the file if it is of another kind, damaged, or without any event.

    >>> read_events("nowhere.bin")
    Traceback (most recent call last):
    leanspike.errors.DataError: no events in nowhere.bin (No such file or directory); replace ...
    """
    path = Path(path)
    raw = _read(path)
    if not len(raw.t):
        raise DataError(f"no events in {path}; replace or remove it")
    order: Any = slice(None)
    if (raw.t[1:] < raw.t[:-1]).any():
        order = np.argsort(raw.t, kind="stable")
    if sensor is None:
        sensor = raw.sensor or (int(raw.x.max()) + 1, int(raw.y.max()) + 1)
    try:
        return Events(raw.x[order], raw.y[order], raw.t[order], raw.on[order], *sensor)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read(path: Path) -> Raw:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is of no known kind of recording; known: {', '.join(READERS)}")
    try:
        return reader(path)
    except DataError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
    except Exception as error:  # what the libraries raise on damaged files is an open-ended list
        why = " ".join(str(error).split()) or type(error).__name__
    raise DataError(f"no events in {path} ({why}); replace or remove it")
