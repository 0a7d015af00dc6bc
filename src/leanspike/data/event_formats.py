"""The files of event cameras, format by format: from bytes to places, times and polarities.

Each reader checks the form of its file and raises ValueError with the reason. It raises
:class:`UnsaidError` where the file is whole. ``leanspike.data.events.read_events`` checks whether
the events lie on the sensor, and their order. ``event_arrays`` reads arrays, and ``event_raw``
reads .raw.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leanspike.optional import import_optional

Values = NDArray[Any]


class UnsaidError(ValueError):
    """The file is whole, but says too little, or what cannot be: the message has the way out."""


class Raw(NamedTuple):
    """Events as a file has them: integers ``x``, ``y``, ``t`` (µs) and bools ``on``, [N] each.

    ``sensor`` is (width, height) where the format or the file tells it.
    """

    x: Values
    y: Values
    t: Values
    on: Values
    sensor: tuple[int, int] | None


def read_nmnist(path: Path) -> Raw:
    """Read N-MNIST's own format: x, y, then polarity (1 bit) and t (23 bits), 40 bits big-endian.

    An event with y = 240 says that the clock overflowed: what follows is 2¹³ µs later. The data
    set's own Matlab functions do so, too (https://www.garrickorchard.com/datasets/n-mnist).
    """
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if len(data) % 5:
        raise ValueError(f"{len(data)} bytes are not a whole number of events of 5 bytes")
    x, y, high, middle, low = data.reshape(-1, 5).T
    overflow = y == 240
    t = ((high.astype(np.int64) & 0x7F) << 16) | (middle.astype(np.int64) << 8) | low
    t += np.cumsum(overflow) << 13
    pixel = ~overflow
    return Raw(x[pixel], y[pixel], t[pixel], high[pixel] >= 0x80, (34, 34))


def read_dat(path: Path) -> Raw:
    """Read Prophesee's DAT, version 2.

    Source: https://docs.prophesee.ai/stable/data/file_formats/dat.html.
    """
    data = path.read_bytes()
    start = header_end(data, b"%")
    header = dict(re.findall(rb"(?m)^% *(Version|Width|Height) +(\d+)", data[:start]))
    if header.get(b"Version") != b"2":
        raise ValueError("not version 2 of the DAT format")
    if len(data) < start + 2 or data[start] not in (0, 12) or data[start + 1] != 8:
        raise ValueError("its events are not of type Event2d or EventCD")
    body = data[start + 2 :]
    if len(body) % 8:
        raise ValueError(f"{len(body)} bytes are not a whole number of events of 8 bytes")
    t, place = np.frombuffer(body, dtype="<u4").reshape(-1, 2).T
    sensor = None
    if b"Width" in header and b"Height" in header:
        sensor = int(header[b"Width"]), int(header[b"Height"])
    x, y, polarity = _uint16(place & 0x3FFF), _uint16(place >> 14 & 0x3FFF), place >> 28
    if (polarity > 1).any():
        event = int((polarity > 1).argmax())
        raise ValueError(f"the polarity of event {event} is {polarity[event]}, neither 0 nor 1")
    return Raw(x, y, unwrapped(t, 32), polarity == 1, sensor)


def read_aedat(path: Path) -> Raw:
    """Read AEDAT of the version that the first line tells.

    Source: https://docs.inivation.com, file formats.
    """
    data = path.read_bytes()
    version = re.match(rb"#!AER-DAT([234])\.\d", data)
    if version is None:
        raise ValueError("its first line is not that of AEDAT 2, 3 or 4")
    if version[1] == b"4":
        return read_aedat4(path)
    start = header_end(data, b"#")
    form = re.search(rb"(?m)^#Format: *(.*?)\s*$", data[:start])
    if form is not None and form[1] != b"RAW":
        name = shown(form[1].decode("ascii", "replace"))
        raise UnsaidError(f"its events are written as {name}; write them again as RAW")
    return _aedat2(data[start:]) if version[1] == b"2" else _aedat3(data[start:])


def _aedat2(data: bytes) -> Raw:
    """Read AEDAT 2 as in CIFAR10-DVS and MNIST-DVS: address and time, 32 bits each, big-endian.

    Their sensor, of 128x128 pixels, was mounted on its side, and its lowest bit is 1 for OFF. Axes
    and polarity are turned as by the readers in use, so that the pictures stand upright. Bits 15
    and 31 mark what is no event of a pixel (so in jAER, ``DVS128.java``). No other bits are in use.
    """
    if len(data) % 8:
        raise ValueError(f"{len(data)} bytes are not a whole number of events of 8 bytes")
    address, t = np.frombuffer(data, dtype=">u4").reshape(-1, 2).T
    pixel = (address & 0x80008000) == 0
    address, t = address[pixel], unwrapped(t, 32)[pixel]
    strange = address > 0x7FFF
    if strange.any():
        raise UnsaidError(
            f"address {address[strange][0]:#x} is none of a DVS128, the one sensor whose AEDAT 2 "
            "is known; write it again as AEDAT 3.1 or 4"
        )
    x, y = 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F)
    return Raw(_uint16(x), _uint16(y), t, (address & 1) == 0, (128, 128))


def _aedat3(data: bytes) -> Raw:
    """Read packets of events, each behind a header of 28 bytes.

    Only events of changed brightness count.
    """
    start = 0
    packets = [(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64))]
    while start < len(data):
        if start + 28 > len(data):
            raise ValueError("it ends within a packet")
        kind, _, size, _, overflow, capacity, number, _ = struct.unpack_from("<2h6i", data, start)
        start += 28
        if size < 1 or not 0 <= number <= capacity or start + size * capacity > len(data):
            raise ValueError("it ends within a packet")
        if kind == 1 and number:
            if size != 8:
                raise ValueError(f"its events have {size} bytes instead of 8")
            address, t = np.frombuffer(data, "<u4", 2 * number, start).reshape(-1, 2).T
            packets.append((address, t.astype(np.int64) + (overflow << 31)))
        start += size * capacity
    address, t = (np.concatenate(parts) for parts in zip(*packets, strict=True))
    valid = (address & 1) == 1
    address, t = address[valid], t[valid]
    x, y = _uint16(address >> 17), _uint16(address >> 2 & 0x7FFF)
    return Raw(x, y, t, (address >> 1 & 1) == 1, None)


def read_aedat4(path: Path) -> Raw:
    """Read AEDAT 4 through the package ``aedat``: the first of its streams of events."""
    aedat = import_optional("aedat", "events")
    try:
        _check_lengths(path.read_bytes())
        decoder = aedat.Decoder(str(path))
        streams = {k: s for k, s in decoder.id_to_stream().items() if s["type"] == "events"}
        first = min(streams)  # raises ValueError where there are no streams
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == first]
        found = np.concatenate(packets)
    except BaseException as error:  # the decoder's panic at damage is no Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"no whole AEDAT 4 with events: {error}") from error
        raise
    sensor = int(streams[first]["width"]), int(streams[first]["height"])
    return Raw(found["x"], found["y"], found["t"].astype(np.int64), found["on"], sensor)


def _check_lengths(data: bytes) -> None:
    """Raise ValueError for wrong lengths in the header or the packets.

    The decoder would make room for any length. The header is a FlatBuffer behind its length; its
    field 1 says where the packets end.
    """
    length, offset = struct.unpack_from("<2I", data, 14)
    table = 18 + offset
    fields = table - struct.unpack_from("<i", data, table)[0]
    (at,) = struct.unpack_from("<H", data, fields + 6)
    (stop,) = struct.unpack_from("<q", data, table + at) if at else (-1,)
    start, stop = 18 + length, len(data) if stop < 0 else stop
    while start < stop and length >= 0:
        _, length = struct.unpack_from("<2i", data, start)
        start += 8 + length
    if start != stop or stop > len(data):
        raise ValueError("it ends within a packet")


def header_end(data: bytes, mark: bytes, last: bytes | None = None) -> int:
    """Return where the lines that begin with ``mark`` end.

    They end behind the line ``last``, if there is one.
    """
    start = 0
    while data.startswith(mark, start):
        line, start = start, data.find(b"\n", start) + 1
        if not start:
            raise ValueError("it ends within its header")
        if data[line:start].strip() == last:
            break
    return start


def shown(text: str) -> str:
    """Return what a damaged file calls something, in one line of at most 40 characters.

    >>> shown("EVT21\\n% geometry")
    'EVT21?% geometry'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:40]


def unwrapped(clock: Values, bits: int) -> NDArray[np.int64]:
    """Return the time of a clock that begins again at 0 after 2**bits values.

    >>> unwrapped(np.array([254, 255, 0, 7], np.uint8), 8).tolist()
    [254, 255, 256, 263]
    """
    values = clock.astype(np.int64)
    rounds = np.cumsum(np.diff(values, prepend=values[:1]) <= -(1 << bits - 1))
    return values + (rounds << bits)


def _uint16(values: Values) -> Values:
    return values.astype(np.uint16)
