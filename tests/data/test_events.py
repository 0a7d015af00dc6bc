"""The record of events is checked; every kind of recording becomes one, or is refused."""

import contextlib

import numpy as np
import pytest
from event_files import (
    EXAMPLE,
    aedat2_bytes,
    bin_bytes,
    dat_bytes,
    event_lists,
    in_order,
    read_bytes,
    tuples,
)
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data.event_formats import READERS
from leanspike.data.events import Events, read_events
from leanspike.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


def test_a_file_that_does_not_name_the_sensor_gets_the_smallest_or_the_one_given(folder):
    content = dat_bytes(EXAMPLE, header="% Data file\n% Version 2\n", kind=0)
    found = read_bytes(folder, "small.dat", content)
    assert (found.width, found.height) == (34, 34)
    found = read_bytes(folder, "small.dat", content, sensor=(120, 100))
    assert (found.width, found.height) == (120, 100)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.bin", b""), ("a.dat", dat_bytes([])), ("a.aedat", aedat2_bytes([]))],
)
def test_a_recording_without_events_is_refused(folder, name, content):
    with pytest.raises(DataError, match=rf"no events in \S+{name}; replace or remove it"):
        read_bytes(folder, name, content)


@pytest.mark.parametrize(("x", "y"), [(34, 0), (0, 34), (255, 0), (0, 255)])
def test_an_event_outside_of_the_sensor_is_named(folder, x, y):
    content = bin_bytes([*EXAMPLE, (x, y, 30, 1)])
    message = rf"far.bin: event 3 is at \({x}, {y}\), outside of the sensor's 34x34 pixels; give"
    with pytest.raises(DataError, match=message):
        read_bytes(folder, "far.bin", content)


def test_a_missing_file_and_an_unknown_kind_are_named(folder):
    with pytest.raises(DataError, match=r"no events in \S+gone.dat \(No such file or directory\)"):
        read_events(folder / "gone.dat")
    with pytest.raises(DataError, match=r"a.raw is of no known kind of recording; known: .aedat, "):
        read_events(folder / "a.raw")


STARTS = {
    ".aedat": [b"#!AER-DAT2.0\r\n", b"#!AER-DAT3.1\r\n"],
    ".bin": [b""],
    ".dat": [b"% Version 2\n\x0c\x08"],
    ".npy": [b"\x93NUMPY\x01\x00"],
}


@given(st.data())
def test_random_bytes_are_events_or_refused(folder, data):
    suffix = data.draw(st.sampled_from(sorted(STARTS)))
    start = data.draw(st.sampled_from(STARTS[suffix]))
    path = folder / f"random{suffix}"
    path.write_bytes(start + data.draw(st.binary(max_size=200)))
    with contextlib.suppress(DataError):
        assert len(read_events(path)) > 0


def record(x=(0, 3), y=(1, 1), t=(10, 25), on=(True, False), width=4, height=2):
    return Events(np.array(x), np.array(y), np.array(t), np.array(on), width, height)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": (0,)}, r"x, y, t, polarity have shapes \[\(1,\), \(2,\), .*; give one value per ev"),
        ({"x": (0, 4)}, r"event 1 is at \(4, 1\), outside of the sensor's 4x2 pixels; give its"),
        ({"y": (-1, 0)}, r"event 0 is at \(0, -1\), outside"),
        ({"t": (25, 10)}, "t goes back at event 1; sort the events by time"),
    ],
)
def test_a_record_is_checked(changes, message):
    with pytest.raises(DataError, match=message):
        record(**changes)


@given(event_lists(last=50), st.integers(-1, 52), st.integers(-1, 52))
def test_between_takes_a_part_of_the_time(folder, events, start, stop):
    found = read_bytes(folder, "part.bin", bin_bytes(events)).between(start, stop)
    assert tuples(found) == [event for event in in_order(events) if start <= event[2] < stop]


def test_every_suffix_is_documented():
    assert all(f"{suffix} " in (read_events.__doc__ or "") for suffix in READERS)


def test_real_n_mnist(real_root):
    paths = sorted((real_root("NMNIST") / "NMNIST" / "Test").glob("*/*.bin"))
    for path in paths[::10]:
        events = read_events(path)
        assert len(events) == path.stat().st_size // 5
        assert 250_000 < events.t[-1] - events.t[0] < 350_000
        assert 0.3 < events.polarity.mean() < 0.7


@pytest.mark.parametrize(
    ("name", "package", "size"),
    [
        ("tonic_sample_ncars.dat", "numpy", (120, 100)),
        ("tonic_sample_stmnist.mat", "scipy.io", (10, 10)),
        ("tonic_sample.aedat4", "aedat", (346, 260)),
        ("aestream_davis.aedat4", "aedat", (346, 260)),
    ],
)
def test_real_recordings(real_root, name, package, size):
    pytest.importorskip(package)
    events = read_events(real_root("event-samples") / "event-samples" / name)
    assert len(events) > 1000
    assert events.width <= size[0]
    assert events.height <= size[1]
    assert 0 < events.polarity.mean() < 1
    assert 10_000 < events.t[-1] - events.t[0] < 10_000_000


def test_a_real_recording_cut_short_is_refused(real_root, folder):
    pytest.importorskip("aedat")
    whole = (real_root("event-samples") / "event-samples" / "tonic_sample.aedat4").read_bytes()
    for length in (0, 20, 5_000, len(whole) // 2):
        with pytest.raises(DataError, match=r"no events in \S+cut.aedat4"):
            read_bytes(folder, "cut.aedat4", whole[:length])
