"""What event cameras saw: a checked record, and its reader for the usual kinds of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from leanspike.data.event_arrays import read_h5, read_npy, read_npz
from leanspike.data.event_columns import ArrayForm, Unit
from leanspike.data.event_formats import (
    Raw,
    UnsaidError,
    read_aedat,
    read_aedat4,
    read_dat,
    read_nmnist,
)
from leanspike.data.event_mat import read_mat
from leanspike.data.event_raw import read_raw
from leanspike.errors import DataError, LeanspikeError

Integers = NDArray[np.integer[Any]]

MOST_PIXELS = 16_384
"""The longest side of a sensor: with a damaged file's side, frames would ask for any memory."""
LONGEST_US = 2**48
"""The longest time between two events: longer ones (eight years) are damage, and T times overflow.
"""


@final
@dataclass(frozen=True, eq=False)
class Events:
    """N events of a camera of ``width`` x ``height`` pixels, in the order of their times.

    ``x`` (0..width-1, from the left), ``y`` (0..height-1, from the top) and ``t`` (in µs, from any
    origin) are integers [N]. ``polarity`` is bool [N], True (ON) where it became brighter. A side
    has 1..16,384 pixels. Less than 2⁴⁸ µs lie between the first event and the last.

    Raises:
        DataError: for arrays of different lengths or of other types, a sensor of another size, an
            event outside the sensor, times that go back, and longer recordings.

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
        """Return the events with start ≤ t < stop (µs)."""
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


CAMERAS: dict[str, Callable[[Path], Raw]] = {
    ".aedat": read_aedat,
    ".aedat4": read_aedat4,
    ".bin": read_nmnist,
    ".dat": read_dat,
    ".mat": read_mat,
    ".raw": read_raw,
}
"""Formats that say themselves what everything in them is."""
ARRAYS: dict[str, Callable[[Path, ArrayForm], Raw]] = {
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".npy": read_npy,
    ".npz": read_npz,
}
"""Formats for any numbers: their reader must say what they do not."""


def read_events(
    path: str | Path,
    sensor: tuple[int, int] | None = None,
    *,
    unit: Unit | None = None,
    columns: str | None = None,
    polarity: tuple[int, int] | None = None,
    sort: bool = False,
) -> Events:
    """Return the events in a file, by its suffix.

    What the file leaves open is asked for, not guessed.

    ======== ============================================================================
    .bin     N-MNIST's 40 bits an event
    .dat     Prophesee's DAT, version 2
    .raw     Prophesee's EVT 2.0 and EVT 3.0
    .aedat   AEDAT 2 (as in CIFAR10-DVS), 3.1 (as in DVS128 Gesture), 4
    .aedat4  AEDAT 4, through the package ``aedat``
    .mat     ST-MNIST's, through SciPy
    .npy     an array with fields x, y, t, p; or [N, 4] with ``columns``
    .npz     arrays x, y, t, p (SpikingJelly's), or one as in .npy
    .h5      a group of x, y, t, p (DSEC's), or one array as in .npy; through h5py
    .hdf5    the same
    ======== ============================================================================

    ``sensor`` is the sensor's (width, height) in pixels. None stands for what the format or the
    file says, else for the smallest sensor that holds all events. The other arguments are for
    arrays (.npy, .npz, .h5, .hdf5):

    - ``unit`` of the times: "s", "ms", "us" or "ns". Times are rounded to whole µs. None: integers
      are µs, floats are refused.
    - ``columns`` of an array [N, 4], such as "txyp".
    - ``polarity``: the values (OFF, ON). None: 0 and 1, or −1 and 1.

    With ``sort`` the events of any file are put in order of time. Without it times that go back are
    refused. The clocks of .dat, .raw and AEDAT 2 begin again at 0, and are followed.

    Raises:
        DataError: with the file's name, if it is of another kind, damaged, without any event, or if
            it is not known what its numbers mean.
        LeanspikeError: for arguments that mean nothing.

    >>> read_events("nowhere.bin")
    Traceback (most recent call last):
    leanspike.errors.DataError: no events in nowhere.bin (No such file or directory); replace ...
    """
    path = Path(path)
    raw = _read(path, ArrayForm(unit, columns, polarity))
    if not len(raw.t):
        raise DataError(f"no events in {path}; replace or remove it")
    order: Any = slice(None)
    back = raw.t[1:] < raw.t[:-1]
    if back.any():
        if not sort:
            event = int(back.argmax()) + 1
            raise DataError(
                f"{path}: t goes back at event {event}, from {raw.t[event - 1]} to "
                f"{raw.t[event]} µs; give sort=True to put the events in order, or cut the file "
                "there if the clock began again"
            )
        order = np.argsort(raw.t, kind="stable")
    if sensor is None:
        sensor = raw.sensor or (int(raw.x.max()) + 1, int(raw.y.max()) + 1)
    try:
        return Events(raw.x[order], raw.y[order], raw.t[order], raw.on[order], *sensor)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read(path: Path, form: ArrayForm) -> Raw:
    suffix = path.suffix.lower()
    if suffix not in CAMERAS and suffix not in ARRAYS:
        known = ", ".join(sorted([*CAMERAS, *ARRAYS]))
        raise DataError(f"{path} is of no known kind of recording; known: {known}")
    if suffix in CAMERAS and form.said:
        raise DataError(f"{path}: a {suffix} file says it itself; leave out {', '.join(form.said)}")
    try:
        return CAMERAS[suffix](path) if suffix in CAMERAS else ARRAYS[suffix](path, form)
    except LeanspikeError:  # a package is missing
        raise
    except UnsaidError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        why = error.strerror or str(error)
    except Exception as error:  # what the libraries raise on damaged files is an open-ended list
        why = " ".join(str(error).split()) or type(error).__name__
    raise DataError(f"no events in {path} ({why}); replace or remove it")
