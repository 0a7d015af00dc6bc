"""Each format, written event by event, is read back; what is damaged is refused by its name."""

import contextlib
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

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
    in_order,
    read_bytes,
    tuples,
)
from hypothesis import given
from hypothesis import strategies as st

from leanspike.data.events import read_events
from leanspike.errors import DataError, LeanspikeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@given(event_lists())
def test_n_mnists_40_bits(folder, events):
    found = read_bytes(folder, "a.bin", bin_bytes(events), sort=True)
    assert tuples(found) == in_order(events)
    assert (found.width, found.height) == (34, 34)


def test_an_overflow_of_n_mnists_clock_moves_what_follows(folder):
    late = [(1, 1, 5, 1), (0, 240, 0, 0), (2, 2, 3, 0), (0, 240, 0, 0), (3, 3, 4, 1)]
    found = read_bytes(folder, "late.bin", bin_bytes(late))
    assert tuples(found) == [(1, 1, 5, 1), (2, 2, 3 + 2**13, 0), (3, 3, 4 + 2 * 2**13, 1)]


@given(event_lists(width=640, height=480, last=2**31 - 1), st.sampled_from([0, 12]))
def test_prophesees_dat(folder, events, kind):
    found = read_bytes(folder, "a.dat", dat_bytes(events, kind=kind), sort=True)
    assert tuples(found) == in_order(events)
    assert (found.width, found.height) == (640, 480)


@given(event_lists(width=128, height=128, last=2**31 - 1))
def test_aedat_2_as_in_cifar10_dvs(folder, events):
    found = read_bytes(folder, "a.aedat", aedat2_bytes(events), sort=True)
    assert tuples(found) == in_order(events)
    assert (found.width, found.height) == (128, 128)


@pytest.mark.parametrize(("name", "write"), [("a.dat", dat_bytes), ("a.aedat", aedat2_bytes)])
def test_a_clock_of_32_bits_that_begins_again_is_followed(folder, name, write):
    found = read_bytes(folder, name, write([(1, 1, 2**32 - 1, 1), (2, 2, 3, 0)]))
    assert tuples(found) == [(1, 1, 2**32 - 1, 1), (2, 2, 2**32 + 3, 0)]


def test_aedat_2_leaves_out_what_is_no_pixels_and_refuses_other_sensors(folder):
    def words(*addresses):
        return b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", a, 7) for a in addresses)

    found = read_bytes(folder, "a.aedat", words(0x8000, 0x7FFF, 0x80000123))
    assert tuples(found) == [(0, 0, 7, 0)]
    with pytest.raises(DataError, match=r": address 0x10001 is none of a DVS128, .*; write it ag"):
        read_bytes(folder, "b.aedat", words(0x7FFF, 0x10001))


def test_aedat_3_of_another_form_is_refused(folder):
    content = aedat3_bytes(aedat3_packet(EXAMPLE)).replace(b"RAW", b"SerializedTS")
    with pytest.raises(DataError, match=r": its events are written as SerializedTS; write them ag"):
        read_bytes(folder, "a.aedat", content)


@given(
    st.lists(event_lists(width=128, height=128, last=2**31 - 1, least=0), min_size=1, max_size=3)
)
def test_aedat_3_as_in_dvs128_gesture(folder, lists):
    packets = []
    for overflow, events in enumerate(lists):
        packets.append(aedat3_packet(events, overflow))
        packets.append(aedat3_packet(events, overflow, kind=2))  # of frames, say
        packets.append(aedat3_packet(events, overflow, valid=False))
    expected = [
        (x, y, t + n * 2**31, on) for n, part in enumerate(lists) for x, y, t, on in in_order(part)
    ]
    (folder / "a.aedat").write_bytes(aedat3_bytes(*packets))
    if expected:
        found = read_events(folder / "a.aedat", sensor=(128, 128), sort=True)
        assert tuples(found) == expected
    else:
        with pytest.raises(DataError, match=r"no events in \S+a.aedat; replace or remove it"):
            read_events(folder / "a.aedat")


def test_aedat_3_cut_anywhere_is_refused_or_ends_with_a_packet(folder):
    whole = aedat3_bytes(aedat3_packet(EXAMPLE), aedat3_packet([(1, 1, 30, 0)]))
    ends = {}
    for length in range(len(whole)):
        with contextlib.suppress(DataError):
            ends[length] = tuples(read_bytes(folder, "cut.aedat", whole[:length]))
    assert ends == {len(whole) - 28 - 8: EXAMPLE}


@pytest.mark.parametrize("capacity", [-1, 2, 2**31 - 1])
def test_an_impossible_packet_is_refused(folder, capacity):
    packet = bytearray(aedat3_packet(EXAMPLE))
    packet[16:20] = capacity.to_bytes(4, "little", signed=True)
    with pytest.raises(DataError, match="it ends within a packet"):
        read_bytes(folder, "capacity.aedat", aedat3_bytes(bytes(packet)))


def test_an_aedat_3_whose_clock_jumped_by_years_is_refused(folder):
    packets = aedat3_packet(EXAMPLE), aedat3_packet(EXAMPLE, overflow=2**31 - 1)
    with pytest.raises(DataError, match=r"jump.aedat: t goes from 10 to 4\d+ µs, more than eight"):
        read_bytes(folder, "jump.aedat", aedat3_bytes(*packets))


def test_st_mnists_matrix(folder):
    scipy_io = pytest.importorskip("scipy.io")
    train = np.zeros((101, 3))
    train[100] = 0.5, 0.25, 0.75
    train[37, 0], train[12, 1], train[99, 1] = 1, -1, 1
    scipy_io.savemat(folder / "a.mat", {"spiketrain": train})
    found = read_events(folder / "a.mat")
    assert tuples(found) == [(2, 1, 250_000, 0), (9, 9, 250_000, 1), (7, 3, 500_000, 1)]
    assert (found.width, found.height) == (10, 10)
    scipy_io.savemat(folder / "b.mat", {"spikes": train})
    with pytest.raises(DataError, match=r"b.mat \(it has no matrix 'spiketrain' of 101 rows"):
        read_events(folder / "b.mat")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("cut.bin", bin_bytes(EXAMPLE)[:-1], "14 bytes are not a whole number of events"),
        ("cut.dat", dat_bytes(EXAMPLE)[:-1], "23 bytes are not a whole number of events"),
        ("cut.aedat", aedat2_bytes(EXAMPLE)[:-1], "23 bytes are not a whole number of events"),
        ("old.dat", dat_bytes(EXAMPLE, header="% Version 1\n"), "not version 2 of the DAT format"),
        ("kind.dat", dat_bytes(EXAMPLE, kind=14), "not of type Event2d or EventCD"),
        ("header.dat", b"% Version 2\n", "not of type Event2d or EventCD"),
        ("line.dat", b"% Version 2", "it ends within its header"),
        ("line.aedat", b"#!AER-DAT3.1", "it ends within its header"),
        ("on.dat", dat_bytes([(1, 1, 5, 2)]), "polarity of event 0 is 2, neither 0 nor 1"),
        ("new.aedat", b"#!AER-DAT5.0\r\n", "its first line is not that of AEDAT 2, 3 or 4"),
    ],
)
def test_what_is_damaged_or_of_another_form_is_named(folder, name, content, why):
    with pytest.raises(DataError, match=rf"no events in \S+{name} \(.*{why}.*\); replace or remov"):
        read_bytes(folder, name, content)


@pytest.mark.parametrize(("name", "package"), [("a.aedat4", "aedat"), ("a.mat", "scipy.io")])
def test_a_package_that_is_missing_is_named_with_its_extra(folder, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (folder / name).write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(LeanspikeError, match=rf"{package} is not installed; .*\[events]'"):
        read_events(folder / name)


class PanicException(BaseException):
    """What the decoder of AEDAT 4 raises at some damage."""


class Decoder:
    """A stand-in for ``aedat.Decoder``: two streams of events, one of other things."""

    def __init__(self, path):
        self.damaged = b"damaged" in Path(path).read_bytes()

    def id_to_stream(self):
        sensors = {1: (640, 480), 0: (346, 260)}
        events = {k: {"type": "events", "width": w, "height": h} for k, (w, h) in sensors.items()}
        return {2: {"type": "imus"}, **events}

    def __iter__(self):
        dtype = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")]
        for stream, t in ((1, 10), (0, 20), (0, 30)):
            if self.damaged and t == 30:
                raise PanicException("range end index 2317 out of range")
            yield {"stream_id": stream, "events": np.array([(t, 345, 259, t == 30)], dtype)}
        yield {"stream_id": 2, "imus": np.zeros(1)}


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", SimpleNamespace(Decoder=Decoder))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("suffix", [".aedat4", ".aedat"])
def test_aedat_4_gives_its_first_stream_of_events(folder, suffix):
    found = read_bytes(folder, f"a{suffix}", AEDAT4 + aedat4_packet())
    assert tuples(found) == [(345, 259, 20, 0), (345, 259, 30, 1)]
    assert (found.width, found.height) == (346, 260)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "unpack_from requires a buffer"),
        (AEDAT4[:-1], "unpack_from requires a buffer"),
        (AEDAT4 + aedat4_packet()[:-1], "it ends within a packet"),
        (AEDAT4 + aedat4_packet()[:7], "unpack_from requires a buffer"),
        (AEDAT4 + struct.pack("<2i", 0, -8), "it ends within a packet"),
        (AEDAT4[:14] + b"\xff\xff\xff\x7f" + AEDAT4[18:], "it ends within a packet"),
        (AEDAT4 + aedat4_packet(b"damaged"), "range end index 2317 out of range"),
    ],
)
def test_a_damaged_aedat_4_is_refused_before_it_harms(folder, content, why):
    with pytest.raises(DataError, match=rf"no events in \S+bad.aedat4 \(no whole AEDAT 4.*{why}"):
        read_bytes(folder, "bad.aedat4", content)
