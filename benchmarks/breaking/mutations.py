"""Damage, drawn from a generator: to bytes, to plain data (JSON, YAML), to what is packed."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

import yaml

Bytes = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, -1, 127, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62)
FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
WORDS = ("", "x" * 5000, "\u202e<script>alert(1)</script>", "a\nb", "strangers_code:Net", "../../x")
OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**30, 1e-320, 1e308, 0.5),
    *(float("nan"), float("inf"), [], {}, [[]], [None], {"": None}, [1, 2, 3], *WORDS),
)
"""Values that no key, or hardly one, has room for."""


def damaged(content: bytes, draw: Random) -> bytes:
    """One to three changes of any kind, at random places."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        draw.choice(CHANGES)(changed, draw)
    return bytes(changed)


def _block(content: bytearray, draw: Random) -> tuple[int, int]:
    """Begin and end of a part: small ones are as likely as large ones."""
    begin = draw.randrange(len(content) + 1)
    return begin, min(len(content), begin + int(2 ** draw.uniform(0, 12)))


def _flip(content: bytearray, draw: Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        if content:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _flip_early(content: bytearray, draw: Random) -> None:
    """In the first bytes, where headers are."""
    for _ in range(draw.choice((1, 2, 4))):
        if content:
            content[draw.randrange(min(len(content), 128))] = draw.randrange(256)


def _cut(content: bytearray, draw: Random) -> None:
    del content[draw.randrange(len(content) + 1) :]


def _lengthen(content: bytearray, draw: Random) -> None:
    content += draw.randbytes(draw.choice((1, 7, 100)))


def _delete(content: bytearray, draw: Random) -> None:
    begin, end = _block(content, draw)
    del content[begin:end]


def _duplicate(content: bytearray, draw: Random) -> None:
    begin, end = _block(content, draw)
    content[end:end] = content[begin:end] * draw.choice((1, 1, 3))


def _move(content: bytearray, draw: Random) -> None:
    begin, end = _block(content, draw)
    part = content[begin:end]
    del content[begin:end]
    place = draw.randrange(len(content) + 1)
    content[place:place] = part


def _blank(content: bytearray, draw: Random) -> None:
    begin, end = _block(content, draw)
    content[begin:end] = bytes([draw.choice((0, 255))]) * (end - begin)


def _number(content: bytearray, draw: Random) -> None:
    """A length, or what might be one, becomes another: huge, negative, nothing."""
    form = draw.choice(FORMATS)
    size = struct.calcsize(form)
    if len(content) >= size:
        limit = min(len(content), draw.choice((64, 512, len(content))))
        at = draw.randrange(max(1, limit - size + 1))
        value = draw.choice(NUMBERS) % 2 ** (8 * size)
        content[at : at + size] = struct.pack(form, value)


CHANGES = (
    _flip,
    _flip_early,
    _cut,
    _lengthen,
    _delete,
    _duplicate,
    _move,
    _blank,
    _number,
    _number,
)


def other_data(data: Any, draw: Random) -> Any:
    """A copy in which a few values have another type, are missing, doubled, huge or deep."""
    changed = json.loads(json.dumps(data))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        changed = _changed_at_random(changed, draw)
    return changed


def _changed_at_random(data: Any, draw: Random) -> Any:
    places = list(_places(data))
    if not places:
        return deepcopy(draw.choice(OTHERS))
    holder, key = draw.choice(places)
    how = draw.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1:
        other_holder, other_key = draw.choice(places)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
    elif how == 2 and isinstance(holder, dict):
        holder[f"{key}{draw.choice(('', 's', '_', ' '))}x"] = holder.pop(key)
    elif how == 3 and isinstance(holder, list):
        holder.extend(holder * draw.choice((1, 100)))
    elif how == 4:
        holder[key] = _deep(draw)
    else:
        holder[key] = deepcopy(draw.choice(OTHERS))
    return data


def _deep(draw: Random) -> Any:
    deep: Any = 1
    for _ in range(draw.choice((3, 60, 400))):
        deep = [deep] if draw.random() < 0.5 else {"a": deep}
    return deep


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Each holder (dict or list) with each of its keys, of all depths."""
    found: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        holder = waiting.pop()
        keys: Sequence[Any] = ()
        if isinstance(holder, dict):
            keys = list(holder)
        elif isinstance(holder, list):
            keys = range(len(holder))
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys]
    return found


def as_json(content: bytes, draw: Random) -> bytes:
    """JSON whose values are others, or whose bytes are damaged."""
    if draw.random() < 0.3:
        return damaged(content, draw)
    return json.dumps(other_data(json.loads(content), draw)).encode()


def as_lines(content: bytes, draw: Random) -> bytes:
    """The same of JSON by the line."""
    if draw.random() < 0.3:
        return damaged(content, draw)
    lines = content.splitlines()
    at = draw.randrange(len(lines))
    lines[at] = as_json(lines[at], draw)
    return b"\n".join(lines)


def as_yaml(content: bytes, draw: Random) -> bytes:
    """YAML whose values are others, or whose bytes are damaged, or with what no plain data has."""
    how = draw.random()
    if how < 0.3:
        return damaged(content, draw)
    if how < 0.35:
        return content + draw.choice(HOSTILE_YAML)
    data = other_data(yaml.safe_load(content), draw)
    try:
        return yaml.safe_dump(data).encode()
    except RecursionError:
        return json.dumps(data).encode()


HOSTILE_YAML = (
    b"\nseed: !!python/object/apply:os.system ['touch strangers_code_ran']\n",
    b"\nseed: !!python/name:strangers_code.Net\n",
    b"\nname: &a [*a]\n",
    b"\nx0: &x0 [1,1,1,1,1,1,1,1]\n"
    + b"".join(
        b"x%d: &x%d [%s]\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 8)) for n in range(1, 9)
    ),
    b"\na: " + b"{a: " * 5000,
    b"\na: " + b"[" * 100_000,
    b"\nmodel: {name: 'strangers_code:Net'}\n",
)


def in_zip(inside: Bytes = damaged) -> Bytes:
    """A ZIP whose bytes are damaged, or one of its files, packed again with a right checksum."""

    def change(content: bytes, draw: Random) -> bytes:
        if draw.random() < 0.4:
            return damaged(content, draw)
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
            chosen = draw.choice(before.namelist())
            for name in before.namelist():
                part = before.read(name)
                after.writestr(name, inside(part, draw) if name == chosen else part)
        return packed.getvalue()

    return change


def in_png(content: bytes, draw: Random) -> bytes:
    """A PNG one of whose chunks is damaged and has a right checksum."""
    if content[:4] != b"\x89PNG" or draw.random() < 0.4:
        return damaged(content, draw)
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    chosen = draw.randrange(len(chunks))
    chunks[chosen] = chunks[chosen][0], damaged(chunks[chosen][1], draw)
    written = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return content[:8] + b"".join(written)


def in_safetensors(content: bytes, draw: Random) -> bytes:
    """Safetensors whose header says other things of the same length, or whose bytes are damaged."""
    if draw.random() < 0.5:
        return damaged(content, draw)
    (size,) = struct.unpack_from("<Q", content)
    header = as_json(content[8 : 8 + size], draw)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def in_program(content: bytes, draw: Random) -> bytes:
    """A program that is damaged, whose checksum and lengths are mostly right."""
    if draw.random() < 0.3:
        return damaged(content, draw)
    size = struct.unpack_from("<I", content, 12)[0]
    header, rest = content[32 : 32 + size], content[32 + size :]
    if draw.random() < 0.7:
        header = as_json(header, draw) if draw.random() < 0.7 else damaged(header, draw)
        header = header.ljust(size) if len(header) < size else header
    else:
        rest = damaged(rest, draw)
    body = header + rest
    prefix = struct.pack(
        "<8sIIQII", b"LEANSPIK", 1, len(header), 32 + len(body), zlib.crc32(body), 0
    )
    return prefix + body
