"""Recordings of events, written as cameras and data sets do: slowly, event by event."""

import struct

import numpy as np
import torch
from hypothesis import strategies as st

from leanspike.data.events import read_events

HEADER = struct.pack("<I4Hi", 12, 8, 4, 0, 0, 8)  # a FlatBuffer without a place of packets' end
AEDAT4 = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(HEADER)) + HEADER
EXAMPLE = [(3, 5, 10, 1), (0, 33, 20, 0), (33, 0, 20, 1)]  # x, y, t, on


def bin_bytes(events):
    """(x, y, t, on) as N-MNIST's 40 bits each."""
    return b"".join((x << 32 | y << 24 | on << 23 | t).to_bytes(5, "big") for x, y, t, on in events)


def dat_bytes(events, header="% Version 2\n% Width 640\n% Height 480\n", kind=12):
    words = [struct.pack("<II", t, on << 28 | y << 14 | x) for x, y, t, on in events]
    return header.encode() + bytes([kind, 8]) + b"".join(words)


def aedat2_bytes(events):
    """As CIFAR10-DVS's sensor would have seen the upright picture's events."""
    words = [
        struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | (1 - on), t) for x, y, t, on in events
    ]
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + b"".join(words)


def aedat3_packet(events, overflow=0, kind=1, valid=True):
    words = [
        struct.pack("<II", x << 17 | y << 2 | on << 1 | valid, t & 0x7FFFFFFF)
        for x, y, t, on in events
    ]
    count = len(events)
    header = struct.pack("<2h6i", kind, 0, 8, 4, overflow, count, count, count * valid)
    return header + b"".join(words)


def aedat3_bytes(*packets):
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + b"".join(packets)


def aedat4_packet(content=b"content"):
    return struct.pack("<2i", 0, len(content)) + content


def evt2_bytes(events, header="% evt 2.0\n% geometry 640x480\n% end\n"):
    """(x, y, t, on) in order of time as EVT 2.0 has them: the time's high part before each."""
    words = []
    for x, y, t, on in events:
        words.append(0x8 << 28 | (t >> 6) % 2**28)
        words.append(on << 28 | t % 64 << 22 | x << 11 | y)
    return header.encode() + b"".join(struct.pack("<I", word) for word in words)


EVT3_HEADER = "% camera x\n% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n"


def evt3_words(events):
    """(x, y, t, on) in order of time as EVT 3.0 has them; neighbours of a row become vectors.

    Each word as (type, content); what has not changed is not said again.
    """
    words, high, low, row, place = [], None, None, None, 0
    while place < len(events):
        x, y, t, on = events[place]
        if t >> 12 != high:
            high, low = t >> 12, None
            words.append((0x8, high % 2**12))
        if t % 2**12 != low:
            low = t % 2**12
            words.append((0x6, low))
        if y != row:
            row = y
            words.append((0x0, row))
        count = 1  # the events from here on that a vector may hold: one time, row, polarity
        while place + count < len(events):
            after, before = events[place + count], events[place + count - 1]
            if after[1:] != (y, t, on) or not before[0] < after[0] < x + 32:
                break
            count += 1
        if count == 1:
            words.append((0x2, on << 11 | x))
        else:
            mask = sum(1 << event[0] - x for event in events[place : place + count])
            words.append((0x3, on << 11 | x))
            words += [(0x4, mask % 2**12), (0x4, (mask >> 12) % 2**12), (0x5, mask >> 24)]
        place += count
    return words


def evt3_bytes(words, header=EVT3_HEADER):
    return header.encode() + b"".join(struct.pack("<H", kind << 12 | low) for kind, low in words)


def event_lists(width=34, height=34, last=2**22, least=1):
    """Lists of (x, y, t, on), in any order of time."""
    event = st.tuples(
        st.integers(0, width - 1),
        st.integers(0, height - 1),
        st.integers(0, last),
        st.integers(0, 1),
    )
    return st.lists(event, min_size=least, max_size=40)


def in_order(events):
    return sorted(events, key=lambda event: event[2])  # stable, as the reader must be


def tuples(events):
    columns = (events.x, events.y, events.t, events.polarity)
    return [tuple(int(value) for value in event) for event in zip(*columns, strict=True)]


def read_bytes(folder, name, content, **options):
    (folder / name).write_bytes(content)
    return read_events(folder / name, **options)


def random_events(seed, side=34, count=50):
    random = np.random.default_rng(seed)
    places = random.integers(0, side, (2, count))
    times = np.sort(random.integers(0, 300_000, count))
    return list(zip(*places.tolist(), times.tolist(), (times % 2).tolist(), strict=True))


def write_nmnist(root):
    """Two recordings of 50 events to train and one to test of each digit, with clutter by them."""
    for seed, (part, count) in enumerate([("Train", 2), ("Test", 1)]):
        for digit in range(10):
            folder = root / "NMNIST" / part / str(digit)
            folder.mkdir(parents=True)
            (folder / ".hidden.bin").write_bytes(b"x")
            (folder / "notes.txt").write_text("clutter")
            for number in range(count):
                events = random_events(100 * seed + 10 * digit + number)
                (folder / f"{number:05}.bin").write_bytes(bin_bytes(events))
    return root


def everything(split):
    """The frames of all samples of a split."""
    return split.batch(torch.arange(len(split)))[0]
