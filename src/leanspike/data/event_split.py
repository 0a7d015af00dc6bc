"""Recordings of event cameras as a split of frames, made when a batch asks for them.

Frames that fit in memory stay there. If the environment variable LEANSPIKE_CACHE names a folder,
they are kept on disk too, over all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leanspike.data.decoded import cache_of
from leanspike.data.event_columns import Unit
from leanspike.data.events import read_events
from leanspike.data.frames import FrameOptions, to_frames
from leanspike.data.split import Split
from leanspike.errors import DataError

VERSION = 1  # how recordings become frames: a new version makes cached frames void
THREADS = 4  # few, as a recording may take some hundred MB while it is read


class Recording(NamedTuple):
    """A file, its label, and the part of it that counts: start ≤ t < stop in µs (None: all).

    ``unit`` and ``columns`` say what a file of arrays leaves open (see ``read_events``).
    """

    path: str
    label: int
    span: tuple[int, int] | None = None
    unit: Unit | None = None
    columns: str | None = None


@final
class RecordedFrames:
    """Recordings of one kind of sensor as frames: from memory, from the disk, or made anew.

    ``sensor`` is its (width, height), ``size`` the frames' (H, W). With ``keep`` the frames stay in
    memory.

    Raises:
        DataError: for a recording that is not there, damaged, or has no events.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        sensor: tuple[int, int],
        size: tuple[int, int],
        options: FrameOptions,
        *,
        keep: bool,
    ) -> None:
        self.recordings = recordings
        self.sensor = sensor
        self.size = size
        self.options = options
        self.keep = keep
        self.shape = (options.timesteps, 2, *size)
        paths = [recording.path for recording in recordings]
        spans = [recording.span for recording in recordings]
        key = repr((VERSION, sensor, size, options, spans))
        self.cache = cache_of("recording", paths, self.shape, key=key)
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def read(self, place: int) -> NDArray[np.uint8]:
        """Return the frames of the recording at ``place``: uint8 [T, 2, H, W]."""
        found = self._kept.get(place)
        if found is None:
            found = self._from_disk(place)
        if self.keep:
            self._kept[place] = found
        return found

    def _from_disk(self, place: int) -> NDArray[np.uint8]:
        """Return frames from the cache, or make them and put them there."""
        if self.cache is None:
            return self._make(self.recordings[place])
        found = self.cache.read(place)
        if found is None:
            found = self._make(self.recordings[place])
            self.cache.write(place, found)
        return found

    def _make(self, recording: Recording) -> NDArray[np.uint8]:
        events = read_events(
            recording.path,
            self.sensor,
            unit=recording.unit,
            columns=recording.columns,
            sort=True,  # the formats of the data sets promise no order
        )
        if recording.span is not None:
            start, stop = recording.span
            events = events.between(start, stop)
            if not len(events):
                raise DataError(
                    f"no events from {start} to {stop} µs in {recording.path}; replace or remove it"
                )
        return to_frames(events, self.options, self.size)


@final
class EventSplit(Split):
    """The frames of recordings; ``places`` (default: all) are this split's recordings.

    A small pool of threads makes the frames, one recording in each thread.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "0.bin")
    ...     _ = path.write_bytes(bytes([3, 5, 0x80, 0, 7, 3, 5, 0, 0, 9]))  # ON at 7 µs, OFF at 9
    ...     frames = RecordedFrames([Recording(str(path), label=4)], (34, 34), (17, 17),
    ...                             FrameOptions(timesteps=2), keep=True)
    ...     images, labels = EventSplit(frames).batch(torch.tensor([0]))
    >>> images.shape, images.nonzero().tolist(), labels.tolist()
    (torch.Size([1, 2, 2, 17, 17]), [[0, 0, 1, 2, 1], [0, 1, 0, 2, 1]], [4])
    """

    lazy = True

    def __init__(self, source: RecordedFrames, places: Sequence[int] | None = None) -> None:
        self.source = source
        self.places = range(len(source.recordings)) if places is None else places
        labels = [source.recordings[place].label for place in self.places]
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.frames = source.options.timesteps

    @property
    def in_memory(self) -> bool:
        return self.source.keep

    @property
    def shape(self) -> tuple[int, int, int]:
        return 2, *self.source.size

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        places = [self.places[index] for index in indices.tolist()]
        # NumPy fills the array, as torch's threads would take cores from the training.
        frames = np.empty((len(places), *self.source.shape), dtype=np.uint8)
        with ThreadPoolExecutor(THREADS) as pool:
            for row, found in enumerate(pool.map(self.source.read, places)):
                frames[row] = found
        return torch.from_numpy(frames), self.labels[indices]

    def select(self, indices: Tensor) -> EventSplit:
        return EventSplit(self.source, [self.places[index] for index in indices.tolist()])
