"""Prophesee's .raw: what an event camera sent, word by word, in EVT 2.0 and EVT 3.0.

A word changes a state (the time, the row, the first column of a vector), or is one or more events
in that state. All words are decoded at once. The state at a word is that of the last word that set
it.

Sources: https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html, evt3.html, and
https://docs.prophesee.ai/stable/data/file_formats/raw.html.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanspike.data.event_formats import (
    Raw,
    UnsaidError,
    Values,
    header_end,
    shown,
    unwrapped,
)

Words = NDArray[np.unsignedinteger[Any]]
Integers = NDArray[np.int64]
Sensor = tuple[int, int] | None

OFF, ON, TIME_HIGH_2 = 0x0, 0x1, 0x8
TYPES_2 = (OFF, ON, TIME_HIGH_2, 0xA, 0xE, 0xF)
"""The types of EVT 2.0; the last three are triggers, other things, and what belongs to them."""
ROW, SINGLE, BASE, VECTOR_12, VECTOR_8, TIME_LOW, TIME_HIGH_3 = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
TYPES_3 = (ROW, SINGLE, BASE, VECTOR_12, VECTOR_8, TIME_LOW, 0x7, TIME_HIGH_3, 0xA, 0xE, 0xF)
"""The types of EVT 3.0; 0x7, 0xA, 0xE and 0xF are no events of changed brightness."""


def read_raw(path: Path) -> Raw:
    """Read EVT 2.0 or EVT 3.0, as the header says; another encoding is refused by its name."""
    data = path.read_bytes()
    start = header_end(data, b"% ", b"% end")
    encoding, sensor = _header(data[:start].decode("ascii", "replace"))
    size = 4 if encoding == "EVT2" else 2
    if (len(data) - start) % size:
        raise ValueError(f"{len(data) - start} bytes are not a whole number of words of {size}")
    words = np.frombuffer(data, f"<u{size}", offset=start)
    return _evt2(words, sensor) if encoding == "EVT2" else _evt3(words, sensor)


def _header(text: str) -> tuple[str, Sensor]:
    """Return the encoding (EVT2 or EVT3) and the sensor's (width, height).

    >>> _header("% evt 3.0\\n% format EVT3;height=720;width=1280\\n% end\\n")
    ('EVT3', (1280, 720))
    >>> _header("% evt 2.0\\n% geometry 640x480\\n")
    ('EVT2', (640, 480))
    """
    values = dict(re.findall(r"(?m)^% *(\w+) +(.*?)\s*$", text))
    form, *settings = values.get("format", "").split(";")
    version = values.get("evt", "")
    if not form and version:
        form = "EVT" + version.removesuffix(".0").replace(".", "")
    if not form:
        raise ValueError("its header has no line '% format' or '% evt'")
    if form not in ("EVT2", "EVT3"):
        raise UnsaidError(f"its encoding is {shown(form)}; write it again as EVT2, EVT3 or DAT")
    if values.get("endianness", "little") != "little":
        raise UnsaidError("its words are big-endian; write it again as little-endian, or as DAT")
    sides = dict(part.split("=", 1) for part in settings if "=" in part)
    geometry = re.fullmatch(r"(\d+)x(\d+)", values.get("geometry", ""))
    if {"width", "height"} <= sides.keys():
        return form, (int(sides["width"]), int(sides["height"]))
    return form, (int(geometry[1]), int(geometry[2])) if geometry else None


def _evt2(words: Words, sensor: Sensor) -> Raw:
    """Decode words of 32 bits: an event, or the high bits of the time.

    An event has its type (4 bits), the low bits of the time (6), x (11) and y (11). A word of time
    has its type and the high bits (28). Events before the first time are left out, as their times
    are unknown.
    """
    kind = (words >> 28).astype(np.uint8)
    _check_types(kind, TYPES_2)
    times, at = np.flatnonzero(kind == TIME_HIGH_2), np.flatnonzero(kind <= ON)
    at = at[_last(times, at) >= 0]
    event = words[at]
    time = (unwrapped(words[times] & 0xFFFFFFF, 28) << 6)[_last(times, at)]
    x, y = event >> 11 & 0x7FF, event & 0x7FF
    return Raw(x, y, time + (event >> 22 & 0x3F), kind[at] == ON, sensor)


def _evt3(words: Words, sensor: Sensor) -> Raw:
    """Decode words of 16 bits: a type (4 bits), and what the word sets or which pixels have events.

    A word of events is about 1, 8 or 12 neighbours. Events before the first time, row or base are
    left out, as theirs are unknown.
    """
    kind, low = (words >> 12).astype(np.uint8), (words & 0xFFF).astype(np.int16)
    _check_types(kind, TYPES_3)
    rows = np.flatnonzero(kind == ROW)
    if (low[rows] > 0x7FF).any():
        raise UnsaidError("it holds events of a second camera; write one file for each")
    at = np.flatnonzero(np.isin(kind, (SINGLE, VECTOR_12, VECTOR_8)))
    row, time = _last(rows, at), _times_3(kind, low, at)
    place, start = _places_3(kind, low, at)
    which = np.select([kind[at] == SINGLE, kind[at] == VECTOR_8], [1, low[at] & 0xFF], low[at])
    which[(row < 0) | (time < 0) | (place < 0)] = 0
    event, bit = (which[:, None] >> np.arange(12, dtype=np.int16) & 1).nonzero()
    x, y = (place & 0x7FF)[event] + start[event] + bit, low[rows[row[event]]]
    return Raw(x, y, time[event], place[event] > 0x7FF, sensor)


def _places_3(kind: Values, low: Values, at: Integers) -> tuple[Integers, Integers]:
    """Return what each event word refers to: polarity and x in 12 bits, and columns after it.

    Bit 11 is the polarity, bits 10..0 are x. A vector starts at the last base, after the columns of
    the vectors since. −1 stands for no base.
    """
    bases = np.flatnonzero(kind == BASE)
    width = np.select([kind[at] == VECTOR_12, kind[at] == VECTOR_8], [12, 8], 0)
    passed = np.concatenate([[0], np.cumsum(width)])
    base, single = _last(bases, at), kind[at] == SINGLE
    places = np.append(low[bases].astype(np.int64), -1)  # the last one for a base of −1
    since = np.append(passed[np.searchsorted(at, bases)], 0)
    place = np.where(single, low[at].astype(np.int64), places[base])
    return place, np.where(single, 0, passed[:-1] - since[base])


def _times_3(kind: Values, low: Values, at: Integers) -> Integers:
    """Return the time of each event word, of 12 high and 12 low bits; −1: before the first time.

    A new high part means 0 in the low part, until a low part comes.
    """
    high, fine = np.flatnonzero(kind == TIME_HIGH_3), np.flatnonzero(kind == TIME_LOW)
    coarse = np.append(unwrapped(low[high], 12) << 12, -1)
    new = high[np.diff(coarse[:-1], prepend=-1) != 0]
    last, lowest = _last(high, at), _last(fine, at)
    since = np.append(new, -1)[_last(new, at)]
    lows, places = np.append(low[fine].astype(np.int64), 0), np.append(fine, -1)
    return coarse[last] + np.where(places[lowest] > since, lows[lowest], 0)


def _last(places: Integers, at: Integers) -> Integers:
    """Return the number of the last of ``places`` before each of ``at``; −1 stands for none."""
    return np.searchsorted(places, at) - 1


def _check_types(kind: Values, known: tuple[int, ...]) -> None:
    strange = ~np.isin(kind, known)
    if strange.any():
        word = int(strange.argmax())
        raise ValueError(f"word {word} is of type {int(kind[word]):#x}, which the format reserves")
