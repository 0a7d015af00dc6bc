"""The record of events is checked; every kind of recording becomes one, or is refused."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
from event_files import (
    AEDAT4,
    EXAMPLE,
    aedat2_bytes,
    aedat3_bytes,
    aedat3_packet,
    aedat4_packet,
    bin_bytes,
    dat_bytes,
    event_lists,
    evt2_bytes,
    evt3_bytes,
    evt3_words,
    in_order,
    read_bytes,
    tuples,
)
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data.events import ARRAYS, CAMERAS, Events, read_events
from leanspike.data.frames import FrameOptions, to_frames
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
    with pytest.raises(DataError, match=r"a.bag is of no known kind of recording; known: .aedat, "):
        read_events(folder / "a.bag")


@pytest.mark.parametrize("side", ["0", "16385", "4000000", "99999999999999"])
def test_a_sensor_of_any_size_is_not_believed(folder, side):
    header = f"% Version 2\n% Width {side}\n% Height {side}\n"
    with pytest.raises(DataError, match=rf"wide.dat: a sensor of {side}x{side} pixels; give its"):
        read_bytes(folder, "wide.dat", dat_bytes([(0, 0, 0, 1)], header=header))


def test_nor_one_whose_events_lie_far_apart(folder):
    np.save(folder / "wide.npy", np.array([[16_384, 0, 1, 10]]))
    with pytest.raises(DataError, match=r"wide.npy: a sensor of 16385x1 pixels; give its true"):
        read_events(folder / "wide.npy", columns="xypt")
    np.save(folder / "wide.npy", np.array([[2**40, 0, 1, 10]]))
    with pytest.raises(DataError, match=r"wide.npy: x is 1099511627776 at event 0, no place on"):
        read_events(folder / "wide.npy", columns="xypt")


def matlab_bytes():
    """As ST-MNIST's, and empty where SciPy is missing."""
    if find_spec("scipy") is None:
        return b""
    from scipy import io as scipy_io

    file, train = io.BytesIO(), np.zeros((101, 3))
    train[7] = 1
    scipy_io.savemat(file, {"spiketrain": train})
    return file.getvalue()


def npy_bytes(array, save=np.save):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


FIELDS = [("x", "<i8"), ("y", "<i8"), ("t", "<i8"), ("p", "?")]
WHOLE = {
    ".aedat": [aedat2_bytes(EXAMPLE), aedat3_bytes(*[aedat3_packet(EXAMPLE)] * 2)],
    ".aedat4": [AEDAT4 + aedat4_packet()],
    ".bin": [bin_bytes(EXAMPLE)],
    ".dat": [dat_bytes(EXAMPLE)],
    ".mat": [matlab_bytes()],
    ".npy": [npy_bytes(np.array(EXAMPLE, FIELDS))],
    ".npz": [npy_bytes(np.array(EXAMPLE, FIELDS), np.savez)],
    ".raw": [evt2_bytes(EXAMPLE), evt3_bytes(evt3_words(EXAMPLE))],
}
MISSING = {
    suffix
    for suffix, package in ((".aedat4", "aedat"), (".mat", "scipy"))
    if find_spec(package) is None
}


@given(st.data())
def test_damaged_recordings_are_frames_or_refused(folder, data):
    suffix = data.draw(st.sampled_from(sorted(WHOLE.keys() - MISSING)))
    whole = data.draw(st.sampled_from(WHOLE[suffix]))
    start = data.draw(st.integers(0, len(whole)))
    damage = data.draw(st.binary(max_size=60))
    rest = whole[start + len(damage) :] if data.draw(st.booleans()) else b""
    path = folder / f"damaged{suffix}"
    path.write_bytes(whole[:start] + damage + rest)
    try:
        events = read_events(path, sort=True)
    except DataError:
        return
    size = min(events.height, 8), min(events.width, 8)
    for by in ("time", "count"):
        frames = to_frames(events, FrameOptions(3, by), size)
        assert 0 < frames.sum(dtype=np.int64) <= len(events)


def record(x=(0, 3), y=(1, 1), t=(10, 25), on=(True, False), width=4, height=2):
    return Events(np.array(x), np.array(y), np.array(t), np.array(on), width, height)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": (0,)}, r"x, y, t, polarity have shapes \[\(1,\), \(2,\), .*; give one value per ev"),
        ({"x": (0, 4)}, r"event 1 is at \(4, 1\), outside of the sensor's 4x2 pixels; give its"),
        ({"y": (-1, 0)}, r"event 0 is at \(0, -1\), outside"),
        ({"t": (25, 10)}, "t goes back at event 1; sort the events by time"),
        (
            {"t": (0, 2**48)},
            "t goes from 0 to 281474976710656 µs, more than eight years;",
        ),
        ({"t": (-(2**63), 2**63 - 1)}, "more than eight years"),
        ({"t": (0.1, 0.2)}, "t is float64; give integers"),
        ({"x": (0.0, 3.0)}, "x is float64; give integers"),
        ({"on": (-1, 1)}, "polarity is int64; give bool, True for ON"),
        ({"width": 16_385}, "a sensor of 16385x2 pixels; give its true size, 1..16384 a side"),
        ({"height": 0}, "a sensor of 4x0 pixels"),
    ],
)
def test_a_record_is_checked(changes, message):
    with pytest.raises(DataError, match=message):
        record(**changes)


@given(event_lists(last=50), st.integers(-1, 52), st.integers(-1, 52))
def test_between_takes_a_part_of_the_time(folder, events, start, stop):
    found = read_bytes(folder, "part.bin", bin_bytes(events), sort=True).between(start, stop)
    assert tuples(found) == [event for event in in_order(events) if start <= event[2] < stop]


def test_every_suffix_is_documented():
    assert all(f"{suffix} " in (read_events.__doc__ or "") for suffix in (*CAMERAS, *ARRAYS))


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
