"""Arrays as events: what the file leaves open is asked for, and the advice leads to the events."""

import io
import struct
import zipfile

import numpy as np
import pytest
from event_files import event_lists, in_order, tuples
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data import FrameOptions, event_arrays, to_frames
from leanspike.data.event_columns import ArrayForm
from leanspike.data.events import read_events
from leanspike.errors import DataError, LeanspikeError

EXAMPLE = [(3, 5, 10, 1), (0, 33, 20, 0), (33, 0, 20, 1)]  # x, y, t, on
SCALES = {"s": 1e-6, "ms": 1e-3, "us": 1, "ns": 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


def columns(events=EXAMPLE):
    return dict(zip("xytp", np.array(events).T, strict=True))


def structured(events=EXAMPLE, t="<i8", scale=1, p="?"):
    array = np.zeros(len(events), [("x", "<i2"), ("y", "<i2"), ("t", t), ("p", p)])
    for name, values in columns(events).items():
        array[name] = values * scale if name == "t" else values
    return array


def saved(folder, array):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def test_integers_with_names_are_events_in_microseconds(folder):
    path = saved(folder, structured())
    assert tuples(read_events(path)) == EXAMPLE
    np.savez(folder / "a.npz", **columns(), more=np.array([{}], dtype=object))
    assert tuples(read_events(folder / "a.npz")) == EXAMPLE


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize("order", ["xypt", "txyp", "xytp"])
def test_columns_without_names_need_their_order(folder, suffix, order):
    table = np.stack([columns()[name] for name in order], axis=1)
    path = folder / f"plain{suffix}"
    if suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["events"] = table.astype(np.uint32)  # as v2e does
    else:
        {".npy": np.save, ".npz": np.savez}[suffix](path, table)
    with pytest.raises(DataError, match=r'its four columns have no names; .* columns="txyp" or "x'):
        read_events(path)
    assert tuples(read_events(path, columns=order)) == EXAMPLE
    with pytest.raises(DataError, match=rf"{path}: "):  # the wrong order is never events
        read_events(path, columns="ptyx")


@pytest.mark.parametrize(
    ("t", "unit", "advice"),
    [
        ("<f8", "s", 't is float64 with fractions, no whole µs; give unit="s", "ms" or "us"'),
        ("<f8", "ms", 'give unit="s", "ms" or'),
        ("<f8", "us", 't is float64 of unknown unit; give unit="us", "ms", "s" or "ns"'),
        ("<f8", "ns", '"s" or "ns"'),
        ("<f4", "s", "t is float32 with fractions"),
        ("<i8", "ns", None),
    ],
)
def test_a_unit_that_is_said_gives_exactly_the_microseconds(folder, t, unit, advice):
    random = np.random.default_rng(0)
    times = np.sort(random.integers(1, 1_500_000, 400))
    events = [(1, 2, int(time), index % 2) for index, time in enumerate(times)]
    path = saved(folder, structured(events, t, SCALES[unit]))
    if advice is not None:
        with pytest.raises(DataError, match=rf"a.npy: .*{advice}"):
            read_events(path)
    found = read_events(path, unit=unit)
    assert tuples(found) == events
    assert to_frames(found, FrameOptions(timesteps=5)).any(axis=(1, 2, 3)).all()


@given(event_lists(width=640, height=480, last=2**40), st.sampled_from(sorted(SCALES)), st.data())
def test_every_unit_order_and_polarity_round_trips(folder, events, unit, data):
    events = in_order(events)
    order = "".join(data.draw(st.permutations("xytp")))
    off, on = data.draw(st.sampled_from([(0, 1), (-1, 1), (1, 0), (1, 2), (255, 1)]))
    values = columns(events)
    values["p"] = np.where(values["p"], on, off)
    table = np.stack([values[name].astype(float) for name in order], axis=1)
    table[:, order.index("t")] *= SCALES[unit]
    path = saved(folder, table)
    found = read_events(path, columns=order, unit=unit, polarity=(off, on))
    assert tuples(found) == events
    if (off, on) == (-1, 1):
        assert tuples(read_events(path, columns=order, unit=unit)) == events


@pytest.mark.parametrize(
    ("changes", "advice", "options"),
    [
        ({"p": [1, 2, 1]}, r"its polarities are 1, 2, not 0 and 1 or -1 and 1; give", (2, 1)),
        ({"p": [0, 255, 0]}, r"its polarities are 0, 255, not 0", (255, 0)),
        ({"p": [2, 2, 2]}, r"its polarities are 2, not 0 and 1", (1, 2)),
        ({"p": [0, 1, -1]}, r"its polarities are -1, 0, 1, more than two values; give the", None),
        ({"p": [0, 1, 2]}, r"more than two values; .* or remove the events that are neither", None),
        ({"t": [-5, 10, 20]}, r"t is -5 at event 0, before the recording; subtract the fi", None),
        ({"t": [10, 30, 20]}, r"t goes back at event 2, from 30 to 20 µs; give sort=True", "sort"),
        ({"t": [10, np.nan, 20]}, r"t is nan at event 1", None),
        ({"t": [0, 1, 2**63]}, r"t is 9.22\S+ at event 2, no time of a recording", None),
        ({"x": [0, np.inf, 0]}, r"x is inf at event 1", None),
        ({"x": [0, 3.5, 0]}, r"x is 3.5 at event 1, between two pixels; round x and y and", None),
        ({"x": [0, -3, 0]}, r"event 1 is at \(-3, 33\), outside of the sensor's 1x34", None),
        ({"y": [0, 34, 0]}, r"event 1 is at \(0, 34\), outside of the sensor's 34x34", None),
        ({"x": [0, 1]}, r"x, y, t and p have shapes \[\(2,\), \(3,\)\], not one value", None),
        ({"x": ["0", "1", "2"]}, r"x is <U1, not integers or floats", None),
        ({"t": np.array([1, 2, 3], "timedelta64[ns]")}, r"t is timedelta64\[ns\], not inte", None),
    ],
)
def test_what_cannot_be_events_is_named(folder, changes, advice, options):
    arrays = {name: np.asarray(values) for name, values in {**columns(), **changes}.items()}
    np.savez(folder / "odd.npz", **arrays)
    sensor = None if "x" in changes else (34, 34)
    unit = "us" if arrays["t"].dtype.kind == "f" else None
    with pytest.raises(DataError, match=rf"odd.npz.*{advice}"):
        read_events(folder / "odd.npz", sensor, unit=unit)
    if options == "sort":
        assert read_events(folder / "odd.npz", sort=True).t.tolist() == [10, 20, 30]
    elif options:
        found = read_events(folder / "odd.npz", polarity=options)
        assert found.polarity.tolist() == [value == options[1] for value in changes["p"]]
        with pytest.raises(DataError, match=r"p is \d+ at event \d, neither 7 \(OFF\) nor 8"):
            read_events(folder / "odd.npz", polarity=(7, 8))


def test_whole_places_may_be_floats(folder):
    np.savez(folder / "float.npz", **{n: v.astype(float) for n, v in columns().items()})
    assert tuples(read_events(folder / "float.npz", unit="us")) == EXAMPLE


def test_a_second_array_behind_the_first_is_not_dropped(folder):
    with (folder / "two.npy").open("wb") as file:
        for _ in range(2):
            np.save(file, np.zeros(3, [(name, "i4") for name in "xytp"]))
    with pytest.raises(DataError, match=r"two\.npy: it goes on behind its first array; write one"):
        read_events(folder / "two.npy")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((3, 5)), r"\(it is float64 \[3, 5], not \[N, 4]"),
        (np.zeros(3), r"\(it is float64 \[3], not \[N, 4]"),
        (np.zeros(2, [("x", "i4"), ("t", "i4")]), ": its fields are x, t, not x, y, t and p; ren"),
        (np.zeros(2, [(name, "i4", 3) for name in "xytp"]), r"\(x, y, t and p have shapes"),
        (np.array([{}]), r"\(Object arrays cannot be loaded"),  # a pickle can run any code
    ],
)
def test_other_arrays_are_refused(folder, array, why):
    np.save(folder / "other.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=rf"other.npy ?{why}"):
        read_events(folder / "other.npy", unit=None)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"unit": "h"}, "unit is 'h'; give one of s, ms, us, ns"),
        ({"unit": ["s"]}, r"unit is \['s'\]; give one of"),
        ({"columns": "xyt"}, "columns is 'xyt'; give the letters x, y, t and p in"),
        ({"columns": 4}, "columns is 4; give the letters"),
        ({"polarity": 1}, "polarity is 1; give two values"),
        ({"polarity": ("off", "on")}, r"polarity is \('off', 'on'\); give two values"),
        ({"polarity": (0, 1, 2)}, r"polarity is \(0, 1, 2\); give two values"),
        ({"polarity": (1, 1)}, r"polarity is \(1, 1\); give two values, OFF before ON, such as"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(form, message):
    with pytest.raises(LeanspikeError, match=message):
        ArrayForm(**form)


def test_names_leave_no_choice_of_columns(folder):
    path = saved(folder, structured())
    with pytest.raises(DataError, match="its columns have names; leave out columns='xytp'"):
        read_events(path, columns="xytp")


def test_several_arrays_without_names_are_unclear(folder):
    np.savez(folder / "two.npz", left=np.zeros((1, 4)), right=np.zeros((1, 4)))
    with pytest.raises(DataError, match=r"which .* is not clear among left, right; give leanspike"):
        read_events(folder / "two.npz")


def header_of(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<i8", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("rows", [3, 2**40, 2**62])
def test_sizes_that_are_not_there_are_refused(folder, suffix, rows):
    content = header_of((rows, 4)) + bytes(8)
    path = folder / f"huge{suffix}"
    if suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("events.npy", content)
    with pytest.raises(DataError, match=rf"no events in \S+huge{suffix} \("):
        read_events(path, columns="xytp")


def test_an_archive_that_would_fill_the_memory_is_refused(folder, monkeypatch):
    monkeypatch.setattr(event_arrays, "MOST_BYTES", 1000)
    np.savez_compressed(folder / "bomb.npz", events=np.zeros((100, 4)))
    with pytest.raises(DataError, match=r"bomb.npz: its arrays have 3,328 bytes, more than 1,000;"):
        read_events(folder / "bomb.npz", columns="xytp")


def test_a_pickle_in_any_suffix_is_refused(folder):
    for suffix in (".npy", ".npz", ".h5"):
        path = folder / f"pickle{suffix}"
        path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(DataError, match=rf"no events in \S+pickle{suffix}"):
            read_events(path)


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def test_dsecs_h5(folder, h5py):
    with h5py.File(folder / "dsec.h5", "w") as file:
        for name, values in columns().items():
            file[f"events/{name}"] = values.astype(np.uint32)
        file["ms_to_idx"] = np.zeros(3, np.uint64)
        file["t_offset"] = np.int64(54_000_000_000)
    found = read_events(folder / "dsec.h5")
    assert tuples(found) == [(x, y, t + 54_000_000_000, on) for x, y, t, on in EXAMPLE]


def test_h5_with_times_in_seconds_and_other_names(folder, h5py):
    names = {"x": "xs", "y": "ys", "t": "ts", "p": "ps"}
    with h5py.File(folder / "ecd.hdf5", "w") as file:
        for name, values in columns().items():
            file[f"events/{names[name]}"] = values * 1e-6 if name == "t" else values
        file["images/image000000000"] = np.zeros((4, 4), np.uint8)
    with pytest.raises(DataError, match='no whole µs; give unit="s"'):
        read_events(folder / "ecd.hdf5")
    assert tuples(read_events(folder / "ecd.hdf5", unit="s")) == EXAMPLE


def test_h5_with_an_array_of_fields(folder, h5py):
    with h5py.File(folder / "fields.h5", "w") as file:
        file["CD/events"] = structured(p="<i2")
    assert tuples(read_events(folder / "fields.h5")) == EXAMPLE


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        ({"spikes/times": 3, "spikes/units": 3}, ": which .* among spikes/times, spikes/units;"),
        ({"left/events": (3, 4), "right/events": (3, 4)}, "among left/events, right/events; give"),
        ({}, "among none; give"),
    ],
)
def test_h5_of_other_things_is_refused(folder, h5py, sets, why):
    with h5py.File(folder / "other.h5", "w") as file:
        for name, shape in sets.items():
            file[name] = np.zeros(shape)
    with pytest.raises(DataError, match=rf"other.h5.*{why}"):
        read_events(folder / "other.h5")


def test_h5_of_another_offset_is_refused(folder, h5py):
    with h5py.File(folder / "offset.h5", "w") as file:
        file.update({f"events/{name}": values for name, values in columns().items()})
        file["t_offset"] = 0.5
    with pytest.raises(DataError, match="t_offset is float64, not an integer"):
        read_events(folder / "offset.h5")


def test_h5_cut_or_too_large_is_refused(folder, h5py):
    with h5py.File(folder / "huge.h5", "w") as file:
        file.create_dataset("events", (2**40, 4), "<i8", chunks=(1000, 4))
    with pytest.raises(DataError, match=r"huge.h5 \(35,184,372,088,832 bytes of arrays are more"):
        read_events(folder / "huge.h5", columns="xytp")
    whole = (folder / "huge.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"no events in \S+cut.h5"):
        read_events(folder / "cut.h5")
    (folder / "cut.h5").write_bytes(struct.pack("<Q", 0))
    with pytest.raises(DataError, match=r"no events in \S+cut.h5"):
        read_events(folder / "cut.h5")
