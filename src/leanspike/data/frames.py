"""Events as frames: how many of each polarity fell on each pixel in each timestep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leanspike.data.events import LONGEST_US, Events
from leanspike.errors import LeanspikeError
from leanspike.section import Count, Section

By = Literal["time", "count", "window"]

MOST_TIMESTEPS = 2**15
"""2⁴⁸ µs, the longest recording, times T fits an int64."""
MOST_VALUES = 2**28
"""T·2·H·W of one recording: 256 MiB of frames, and eight times that on the way to them."""


@dataclass(frozen=True)
class FrameOptions:
    """How a recording becomes ``timesteps`` frames.

    - ``by`` "time": equal parts of the time from its first to its last event.
    - ``by`` "count": equal numbers of events (to within one).
    - ``by`` "window": ``window_us`` microseconds each, from the first event on. What comes after
      the last window is left out, and windows without events stay empty.
    - ``binary``: whether there was an event, not how many.

    Raises:
        LeanspikeError: for a value out of range (``timesteps`` is 1..32,768), and for ``window_us``
            without "window" or the other way round.

    >>> FrameOptions(timesteps=8, by="window", window_us=10_000)
    FrameOptions(timesteps=8, by='window', binary=False, window_us=10000)
    """

    timesteps: int = 10
    by: By = "time"
    binary: bool = False
    window_us: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.timesteps <= MOST_TIMESTEPS:
            raise LeanspikeError(f"timesteps is {self.timesteps}; give 1..{MOST_TIMESTEPS}")
        if self.by not in get_args(By):
            raise LeanspikeError(f"by is {self.by!r}; choose one of {', '.join(get_args(By))}")
        if (self.by == "window") != (self.window_us is not None):
            raise LeanspikeError(
                f"window_us is {self.window_us} for frames by {self.by}; "
                "give a number of microseconds for frames by window, and only for them"
            )
        if self.window_us is not None and not 1 <= self.window_us <= LONGEST_US:
            raise LeanspikeError(f"window_us is {self.window_us}; give 1..{LONGEST_US}")


class FramesSection(Section):
    """How a recording of events becomes frames, one for each timestep."""

    timesteps: Count = 10
    """Frames of a recording; `spike.timesteps` must be the same."""
    by: By = "time"
    """Each frame gets an equal part of the time, as many events, or `window_us` microseconds."""
    binary: bool = False
    """A pixel says whether there was an event, not how many."""
    window_us: Count | None = None
    """Microseconds of a frame; for "window", and only there."""

    def create(self) -> FrameOptions:
        """Return the options that this section stands for.

        >>> FramesSection(timesteps=8).create()
        FrameOptions(timesteps=8, by='time', binary=False, window_us=None)
        """
        return FrameOptions(self.timesteps, self.by, self.binary, self.window_us)


def to_frames(
    events: Events, options: FrameOptions, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Count the events of each frame, uint8 [T, 2, H, W], where channel 0 is OFF and 1 is ON.

    ``size`` is (H, W), at most the sensor's (None: the sensor's own). Pixel x goes to column ⌊x·W /
    width⌋, y to row ⌊y·H / height⌋, so that every event is counted once. More than 255 events count
    as 255.

    Raises:
        LeanspikeError: for a size that does not fit, and for frames of more than 2²⁸ values.

    >>> seen = Events(x=np.array([0, 3, 3]), y=np.array([1, 1, 1]), t=np.array([10, 20, 25]),
    ...               polarity=np.array([True, False, False]), width=4, height=2)
    >>> to_frames(seen, FrameOptions(timesteps=2), size=(1, 2)).tolist()
    [[[[0, 0]], [[1, 0]]], [[[0, 2]], [[0, 0]]]]
    """
    height, width = (events.height, events.width) if size is None else size
    if not (1 <= height <= events.height and 1 <= width <= events.width):
        raise LeanspikeError(
            f"frames of {width}x{height} pixels do not fit a sensor of "
            f"{events.width}x{events.height}; give 1 or more, and at most that"
        )
    shape = (options.timesteps, 2, height, width)
    if math.prod(shape) > MOST_VALUES:
        raise LeanspikeError(
            f"{options.timesteps} frames of 2x{height}x{width} are {math.prod(shape):,} values, "
            f"more than {MOST_VALUES:,}; give a smaller size or fewer timesteps"
        )
    step = _steps(events, options)
    row = events.y.astype(np.int64) * height // events.height
    column = events.x.astype(np.int64) * width // events.width
    cell = ((2 * step + events.polarity) * height + row) * width + column
    in_time = step < options.timesteps
    counts = np.bincount(cell[in_time], minlength=math.prod(shape))
    most = 1 if options.binary else 255
    return np.minimum(counts, most, out=counts).astype(np.uint8).reshape(shape)


def _steps(events: Events, options: FrameOptions) -> NDArray[np.int64]:
    """Return the frame of each event, 0 .. T-1, or more for events that come too late."""
    count = len(events)
    if options.by == "count" or not count:
        return np.arange(count) * options.timesteps // max(count, 1)
    t = events.t.astype(np.int64)
    since: NDArray[np.int64] = t - t[0]
    if options.window_us is not None:
        return since // options.window_us
    whole = int(since[-1]) + 1
    return since * options.timesteps // whole
