"""Prophesee's .raw, written word by word from its specification, is read back or refused."""

import numpy as np
import pytest
from event_files import (
    EVT3_HEADER,
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

from leanspike.errors import DataError

EXAMPLE = [(3, 5, 10, 1), (4, 5, 10, 1), (40, 5, 10, 1), (9, 700, 5000, 0), (9, 2, 70_000, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("raw")


@given(event_lists(width=640, height=480, last=2**34 - 1))
def test_evt_2(folder, events):
    found = read_bytes(folder, "a.raw", evt2_bytes(in_order(events)))
    assert tuples(found) == in_order(events)
    assert (found.width, found.height) == (640, 480)


rows = st.builds(  # events of one moment in one row, which become vectors
    lambda xs, y, t, on: [(x, y, t, on) for x in sorted(xs)],
    st.sets(st.integers(0, 60), min_size=1, max_size=30),
    st.integers(0, 719),
    st.integers(0, 2**24 - 1),
    st.integers(0, 1),
)


@given(st.lists(rows, min_size=1, max_size=6), event_lists(width=1280, height=720, last=2**24 - 1))
def test_evt_3_with_vectors_and_single_events(folder, lists, events):
    expected = in_order(sum(lists, events))
    found = read_bytes(folder, "a.raw", evt3_bytes(evt3_words(expected)))
    assert tuples(found) == expected
    assert (found.width, found.height) == (1280, 720)


def test_a_vector_of_12_and_one_of_8_follow_one_another():
    words = evt3_words([(x, 5, 10, 1) for x in (0, 11, 12, 23, 24, 31)])
    assert words[-4:] == [(3, 2048), (4, 0b100000000001), (4, 0b100000000001), (5, 0b10000001)]


@pytest.mark.parametrize("encode", [evt2_bytes, lambda events: evt3_bytes(evt3_words(events))])
def test_the_clock_goes_on_where_it_begins_again(folder, encode):
    wrap = 2**34 if encode is evt2_bytes else 2**24
    events = [(1, 1, 5, 1), *((1, 1, wrap // 8 * part + 7, 0) for part in range(3, 20))]
    assert tuples(read_bytes(folder, "long.raw", encode(events))) == events


def test_a_new_high_part_of_the_time_sets_the_low_one_to_0(folder):
    words = [(8, 1), (6, 4095), (0, 5), (2, 3), (8, 1), (2, 4), (8, 2), (2, 5), (6, 9), (2, 6)]
    times = [event[2] for event in tuples(read_bytes(folder, "low.raw", evt3_bytes(words)))]
    assert times == [8191, 8191, 8192, 8201]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([(2, 3), (0, 5), (2, 4), (8, 0), (2, 5)], [(5, 5, 0, 0)]),  # the time comes late
        ([(8, 0), (2, 3), (0, 5), (2, 4)], [(4, 5, 0, 0)]),  # the row
        ([(8, 0), (0, 5), (4, 1), (3, 7), (4, 2)], [(8, 5, 0, 0)]),  # the base of a vector
        (  # triggers, other things, and words that continue them are no events
            [(8, 0), (0, 5), (10, 1), (14, 22), (15, 9), (15, 9), (7, 9), (2, 2048 + 6)],
            [(6, 5, 0, 1)],
        ),
    ],
)
def test_what_has_no_time_row_or_base_is_left_out(folder, words, expected):
    assert tuples(read_bytes(folder, "part.raw", evt3_bytes(words))) == expected


def test_events_before_the_first_time_of_evt_2_are_left_out(folder):
    content = evt2_bytes(EXAMPLE[2:3])
    header = len(content) - 8
    early = content[:header] + content[header + 4 :] + content[header:]
    assert tuples(read_bytes(folder, "early.raw", early)) == EXAMPLE[2:3]


@pytest.mark.parametrize(
    ("header", "sensor"),
    [
        ("% evt 3.0\n% geometry 1280x720\n", (1280, 720)),
        ("% format EVT3;height=720;width=1280\n% endianness little\n% end\n", (1280, 720)),
        ("% evt 3.0\n% end\n", (41, 701)),  # the smallest that holds all events
    ],
)
def test_headers_old_and_new(folder, header, sensor):
    found = read_bytes(folder, "header.raw", evt3_bytes(evt3_words(EXAMPLE), header))
    assert (found.width, found.height) == sensor
    assert tuples(found) == EXAMPLE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (evt2_bytes(EXAMPLE)[:-1], r"\(39 bytes are not a whole number of words of 4\); replace"),
        (evt3_bytes(evt3_words(EXAMPLE))[:-1], "bytes are not a whole number of words of 2"),
        (EVT3_HEADER[:-1].encode(), "it ends within its header"),
        (b"% camera x\n% end\n", "its header has no line '% format' or '% evt'"),
        (b"", "its header has no line"),
        (evt3_bytes([(9, 0)]), "word 0 is of type 0x9, which the format reserves"),
        (evt3_bytes([(8, 0), (1, 0)]), "word 1 is of type 0x1"),
        (evt3_bytes([(8, 0)]), "no events in"),
        (EVT3_HEADER.encode(), "no events in"),
        (b"% evt 2.1\n% end\n", "bad.raw: its encoding is EVT21; write it again as EVT2, EVT3 or"),
        (b"% format EVT4;height=720;width=1280\n", "bad.raw: its encoding is EVT4; write it"),
        (b"% evt 3.0\n% endianness big\n", "bad.raw: its words are big-endian; write it again"),
        (evt3_bytes([(8, 0), (0, 2048 + 5)]), "bad.raw: it holds events of a second camera;"),
        (evt3_bytes([(8, 0), (0, 720), (2, 0)]), r"event 0 is at \(0, 720\), outside of the"),
        (evt3_bytes([(8, 0), (0, 7), (3, 1279), (4, 3)]), r"event 1 is at \(1280, 7\), outside"),
    ],
)
def test_what_is_damaged_or_of_another_encoding_is_refused(folder, content, why):
    with pytest.raises(DataError, match=why):
        read_bytes(folder, "bad.raw", content)


def test_what_the_format_says_cannot_be_said_otherwise(folder):
    with pytest.raises(DataError, match=r"a .raw file says it itself; leave out unit, polarity"):
        read_bytes(folder, "said.raw", evt2_bytes(EXAMPLE), unit="s", polarity=(0, 1))
    assert len(read_bytes(folder, "said.raw", evt2_bytes(EXAMPLE), sensor=(1280, 720))) == 5


@given(st.data())
def test_any_words_are_events_or_refused(folder, data):
    words = data.draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 4095)), max_size=30))
    try:
        found = read_bytes(folder, "any.raw", evt3_bytes([(8, 1), (0, 1), *words]), sort=True)
    except DataError:
        return
    assert np.array_equal(np.sort(found.t), found.t)
    assert len(found) <= 12 * len(words)
