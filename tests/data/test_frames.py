"""Frames against a loop over events; no event is lost or counted twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data.events import Events
from leanspike.data.frames import FrameOptions, to_frames
from leanspike.errors import LeanspikeError

WIDTH, HEIGHT = 7, 5


def record(events, width=WIDTH, height=HEIGHT):
    """(x, y, t, on), in order of time, as a record."""
    x, y, t, on = np.array(events, dtype=np.int64).reshape(-1, 4).T
    return Events(x, y, t, on.astype(bool), width, height)


@st.composite
def records(draw, least=0, most=60):
    event = st.tuples(
        st.integers(0, WIDTH - 1),
        st.integers(0, HEIGHT - 1),
        st.integers(0, 10**12),
        st.integers(0, 1),
    )
    events = draw(st.lists(event, min_size=least, max_size=most))
    return record(sorted(events, key=lambda event: event[2]))


sizes = st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH))


def by_loop(events, timesteps, step_of, size, binary=False):
    height, width = size
    frames = np.zeros((timesteps, 2, height, width), dtype=np.int64)
    for number, (x, y, t, on) in enumerate(
        zip(
            events.x.tolist(),
            events.y.tolist(),
            events.t.tolist(),
            events.polarity.tolist(),
            strict=True,
        )
    ):
        step = step_of(number, t)
        if step < timesteps:
            row, column = y * height // events.height, x * width // events.width
            frames[step, int(on), row, column] += 1
    return np.minimum(frames, 1 if binary else 255)


@given(records(least=1), st.integers(1, 6), sizes, st.booleans())
def test_equal_times(events, timesteps, size, binary):
    first, last = int(events.t[0]), int(events.t[-1])

    def step_of(_, t):
        return next(
            k for k in range(timesteps) if (t - first) * timesteps < (k + 1) * (last - first + 1)
        )

    frames = to_frames(events, FrameOptions(timesteps, "time", binary), size)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, by_loop(events, timesteps, step_of, size, binary))


@given(records(), st.integers(1, 6), sizes)
def test_equal_counts(events, timesteps, size):
    frames = to_frames(events, FrameOptions(timesteps, "count"), size)
    count = len(events)

    def step_of(number, _):
        return number * timesteps // count

    assert np.array_equal(frames, by_loop(events, timesteps, step_of, size))
    each = frames.sum((1, 2, 3), dtype=np.int64)
    assert each.max() - each.min() <= 1


@given(records(), st.integers(1, 6), st.integers(1, 10**12))
def test_fixed_windows(events, timesteps, window):
    options = FrameOptions(timesteps, "window", window_us=window)

    def step_of(_, t):
        return (t - int(events.t[0])) // window

    expected = by_loop(events, timesteps, step_of, (HEIGHT, WIDTH))
    assert np.array_equal(to_frames(events, options), expected)


@given(records(), st.integers(1, 6), sizes, st.sampled_from(["time", "count"]))
def test_every_event_is_counted_once(events, timesteps, size, by):
    frames = to_frames(events, FrameOptions(timesteps, by), size)
    assert frames.sum(dtype=np.int64) == len(events)
    on = int(events.polarity.sum())
    assert frames.sum((0, 2, 3), dtype=np.int64).tolist() == [len(events) - on, on]


def test_counts_stop_at_255():
    frames = to_frames(record([(1, 2, 0, 1)] * 300), FrameOptions(1))
    assert frames[0, 1, 2, 1] == 255
    assert frames.sum(dtype=np.int64) == 255


def test_a_resized_frame_is_the_sum_of_the_pixels_it_covers():
    pixels = [(x, y, 0, 1) for x in range(6) for y in range(4)]
    frames = to_frames(record(pixels, 6, 4), FrameOptions(1), size=(2, 3))
    assert (frames[0, 1] == 4).all()


def test_times_from_a_far_origin_are_told_apart():
    start = 1_600_000_000_000_000  # µs since 1970, as AEDAT 4 has them
    events = record([(0, 0, start, 0), (1, 0, start + 1, 0), (2, 0, start + 2, 0)])
    assert to_frames(events, FrameOptions(3)).nonzero()[0].tolist() == [0, 1, 2]


def test_compact_integers_do_not_overflow():
    events = Events(
        np.array([250, 255], np.uint8),
        np.array([0, 255], np.uint8),
        np.array([0, 2**32 - 1], np.uint32),
        np.array([True, True]),
        256,
        256,
    )
    frames = to_frames(events, FrameOptions(100), size=(128, 128))
    assert np.argwhere(frames).tolist() == [[0, 1, 0, 125], [99, 1, 127, 127]]


def test_the_longest_recording_in_the_most_timesteps():
    events = record([(0, 0, 0, 0), (1, 0, 2**47, 0), (2, 0, 2**48 - 1, 0)])
    frames = to_frames(events, FrameOptions(2**15))
    assert frames.nonzero()[0].tolist() == [0, 2**14, 2**15 - 1]


def test_unsigned_times_beyond_int64_are_told_apart():
    t = np.array([2**63, 2**63 + 1], np.uint64)
    events = Events(np.zeros(2, int), np.zeros(2, int), t, np.zeros(2, bool), 1, 1)
    assert to_frames(events, FrameOptions(2)).nonzero()[0].tolist() == [0, 1]


def test_frames_of_more_values_than_memory_holds_are_refused():
    events = record([(0, 0, 0, 0)], 16_384, 16_384)
    message = (
        "10 frames of 2x16384x16384 are 5,368,709,120 values, more than 268,435,456; give a "
        "smaller size or fewer timesteps"
    )
    with pytest.raises(LeanspikeError, match=message):
        to_frames(events, FrameOptions())
    assert to_frames(events, FrameOptions(), size=(2, 2)).sum() == 1


@pytest.mark.parametrize("size", [(6, 7), (5, 8), (0, 7), (5, 0)])
def test_a_size_that_does_not_fit_is_refused(size):
    with pytest.raises(LeanspikeError, match=r"do not fit a sensor of 7x5; give 1 or more, and at"):
        to_frames(record([(0, 0, 0, 0)]), FrameOptions(), size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": 0}, "timesteps is 0; give 1..32768"),
        ({"timesteps": 2**15 + 1}, "timesteps is 32769; give 1..32768"),
        ({"by": "events"}, "by is 'events'; choose one of time, count, window"),
        ({"by": "window"}, "window_us is None for frames by window; give a number of micro"),
        ({"window_us": 5}, "window_us is 5 for frames by time"),
        ({"by": "window", "window_us": 0}, "window_us is 0; give 1..281474976710656"),
        ({"by": "window", "window_us": 2**63}, "window_us is 9223372036854775808; give 1..28"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(LeanspikeError, match=message):
        FrameOptions(**options)
