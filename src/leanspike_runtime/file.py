"""Reading and writing a program as a file, ``NAME.leanspike``: a JSON header, and tensors.

Everything is little-endian::

    "LEANSPIK" · u32 version = 1 · u32 bytes of the header · u64 bytes of the file
               · u32 CRC-32 of all that follows these 32 bytes · u32 zero
    header: JSON in ASCII, without escapes, no key twice
    zeros up to a multiple of 64
    tensors in the order of the header's list, each at the next multiple of 64, zeros between

The header holds `made_by`, `timesteps`, `readout`, `input`, `tensors` (type "f32", "i8" or "i6",
shape, offset from the file's begin), `nodes` and `output`. In a node, ``weights``, ``scale``,
``shift``, ``leak`` and ``threshold`` are numbers of tensors. Every key is present, in any order.
Nothing in a file is executed.

A reader of version 1 reads only that version, and names the version of another file. An addition
to the format raises the number; leanspike still reads the older versions then.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from leanspike_runtime.errors import EngineError
from leanspike_runtime.header import keyed, listed, number, parsed, text, whole, wholes
from leanspike_runtime.nodes import node_from, node_record
from leanspike_runtime.program import Array, Input, Program

MAGIC = b"LEANSPIK"
VERSION = 1
PREFIX = struct.Struct("<8sIIQII")
ALIGNED = 64
TYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "i8": np.dtype("i1"),
    "i6": np.dtype("i1"),
}
KEYS = ("made_by", "timesteps", "readout", "input", "tensors", "nodes", "output")


def load(path: str | Path) -> Program:
    """Read a program from a file.

    Raises:
        EngineError: for a file that is missing, damaged, of another version, or without a program
            that fits together.

    >>> load("nowhere.leanspike")
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: nowhere.leanspike cannot be read (No such file ...
    """
    try:
        return from_bytes(Path(path).read_bytes())
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}); give another path") from None
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from None


def to_bytes(program: Program) -> bytes:
    """Return the file of a program.

    >>> from leanspike_runtime.program import Layer, Synapse
    >>> table = np.ones((1, 1), np.float32)
    >>> same = Layer("out", (1, 1, 1), "analog", (Synapse(0, "same", table),), table, None)
    >>> program = Program("hand", 2, "sum", Input((1, 1, 1), static=True), (same,), 1)
    >>> from_bytes(to_bytes(program)).nodes[0].path
    'out'
    """
    tensors: list[tuple[str, Array]] = []

    def taken(values: Array, kind: str = "f32") -> int:
        tensors.append((kind, np.ascontiguousarray(values, TYPES[kind])))
        return len(tensors) - 1

    header: dict[str, Any] = {
        "made_by": program.made_by,
        "timesteps": program.timesteps,
        "readout": program.readout,
        "input": asdict(program.input),
        "nodes": [node_record(node, taken) for node in program.nodes],
        "output": program.output,
    }
    written, offsets = _laid_out(_ascii(header), tensors)
    body = bytearray(written)
    for (_, values), offset in zip(tensors, offsets, strict=True):
        body += bytes(offset - PREFIX.size - len(body)) + values.tobytes()
    checksum = zlib.crc32(body)
    size = PREFIX.size + len(body)
    return PREFIX.pack(MAGIC, VERSION, len(written), size, checksum, 0) + bytes(body)


def _laid_out(header: dict[str, Any], tensors: Sequence[tuple[str, Array]]) -> tuple[bytes, Any]:
    """Return the header's text, whose length determines the offsets in it, and the offsets."""
    length = 0
    while True:
        entries, place = [], PREFIX.size + length
        for kind, values in tensors:
            offset = _aligned(place)
            entries.append({"type": kind, "shape": list(values.shape), "offset": offset})
            place = offset + values.nbytes
        whole_header = {**header, "tensors": entries}
        written = json.dumps(whole_header, separators=(",", ":"), allow_nan=False).encode("ascii")
        if len(written) == length:
            return written, [entry["offset"] for entry in entries]
        length = len(written)


def _aligned(place: int) -> int:
    return -(-place // ALIGNED) * ALIGNED


def _ascii(part: Any) -> Any:
    """Return data with strings of printable ASCII only, so that none needs an escape."""
    if isinstance(part, str):
        return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in part)
    if isinstance(part, Mapping):
        return {key: _ascii(value) for key, value in part.items()}
    return [_ascii(value) for value in part] if isinstance(part, list | tuple) else part


def from_bytes(content: bytes) -> Program:
    """Return the program of a file's content.

    Raises:
        EngineError: for content that is damaged, of another version, or no fitting program.

    >>> from_bytes(b"PNG")
    Traceback (most recent call last):
    leanspike_runtime.errors.EngineError: holds 3 bytes, no file of leanspike's; write one with ...
    """
    if len(content) < PREFIX.size or content[:8] != MAGIC:
        raise EngineError(
            f"holds {len(content)} bytes, no file of leanspike's; write one with "
            "`leanspike compile RUN --out FILE`"
        )
    _, version, header_bytes, size, checksum, zero = PREFIX.unpack_from(content)
    if version != VERSION:
        raise EngineError(
            f"is of version {version}, and this reads version {VERSION}; read it with the "
            "leanspike that wrote it, or a newer one"
        )
    if size != len(content) or zero or header_bytes > size - PREFIX.size:
        raise EngineError(f"holds {len(content)} bytes, and says {size}; fetch it again")
    if zlib.crc32(memoryview(content)[PREFIX.size :]) != checksum:
        raise EngineError("is damaged (its checksum is another); fetch it again")
    end = PREFIX.size + header_bytes
    header = keyed(parsed(content[PREFIX.size : end]), "the header", KEYS)
    return _program(header, _Tensors(header["tensors"], content, end))


class _Tensors:
    """The tensors of a file by their numbers. They lie one behind the other, and fill the file."""

    def __init__(self, entries: Any, content: bytes, end: int) -> None:
        self.found: list[tuple[str, Array]] = []
        for entry in listed(entries, "tensors"):
            end = self._take(entry, content, end)
        if end != len(content):
            raise EngineError(f"holds {len(content) - end} bytes behind its tensors")

    def _take(self, entry: Any, content: bytes, end: int) -> int:
        where = f"tensor {len(self.found)}"
        keyed(entry, where, ("type", "shape", "offset"))
        kind, shape = text(entry["type"], where), wholes(entry["shape"], f"{where}: shape")
        offset = whole(entry["offset"], f"{where}: offset")
        if kind not in TYPES:
            raise EngineError(f"{where} is of the type {kind!r}; types are {', '.join(TYPES)}")
        size = prod(shape) * TYPES[kind].itemsize
        right = 1 <= len(shape) <= 4 and offset == _aligned(end) and size > 0
        if not right or offset + size > len(content):
            raise EngineError(f"{where}, {list(shape)} at {offset}, lies outside its place")
        if any(content[end:offset]):
            raise EngineError(f"{where} has bytes before it that are not 0")
        values = np.frombuffer(content, TYPES[kind], prod(shape), offset).reshape(shape)
        self.found.append((kind, values))
        return offset + size

    def __call__(self, number: int, *types: str) -> tuple[str, Array]:
        if number >= len(self.found):
            raise EngineError(f"names tensor {number} of {len(self.found)}")
        kind, values = self.found[number]
        if kind not in types:
            raise EngineError(f"names tensor {number} of {kind}, not {' or '.join(types)}")
        return kind, values


def _program(header: Mapping[str, Any], tensors: _Tensors) -> Program:
    nodes = tuple(
        node_from(record, f"node {place}", tensors)
        for place, record in enumerate(listed(header["nodes"], "nodes"))
    )
    return Program(
        text(header["made_by"], "made_by"),
        whole(header["timesteps"], "timesteps"),
        text(header["readout"], "readout"),  # type: ignore[arg-type]
        _input(header["input"]),
        nodes,
        whole(header["output"], "output"),
    )


def _input(record: Any) -> Input:
    keyed(record, "input", ("shape", "static", "mean", "std", "classes"))
    shape: Any = wholes(record["shape"], "input: shape", 3)
    if not isinstance(record["static"], bool):
        raise EngineError("input: static is neither true nor false")

    def each(key: str, read: Any) -> Any:
        given = record[key]
        return None if given is None else tuple(read(v, key) for v in listed(given, key))

    mean, std = (each(key, number) for key in ("mean", "std"))
    return Input(shape, record["static"], mean, std, each("classes", text))
