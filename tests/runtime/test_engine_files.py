"""The reader in C takes what the reader in Python takes, and refuses the rest in one line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanspike_runtime import Engine, EngineError, from_bytes, to_bytes
from leanspike_runtime.file import PREFIX
from leanspike_runtime.library import MESSAGE_BYTES, what_is_missing
from tests.runtime.programs import random_program
from tests.runtime.test_file import CHANGES, CONTENT, header_end, sealed, with_header

if what_is_missing():
    pytest.skip(what_is_missing(), allow_module_level=True)


def refusal(content: bytes) -> str | None:
    """What the engine says of a file; None if it takes it. Whatever it says has one form."""
    try:
        Engine(content, "portable")
    except EngineError as error:
        told = str(error)
        assert told.isprintable()
        assert 0 < len(told) < MESSAGE_BYTES
        return told
    return None


def python_takes(content: bytes) -> bool:
    try:
        from_bytes(content)
    except EngineError:
        return False
    return True


WHAT_C_SAYS = {
    r"timesteps is 0": "timesteps is 0; a file has 1 to 65535",
    r"readout is 'max'": "expected sum or mean",
    r"reads edge 9, which comes later": "node 1 (pool): reads an edge that comes later",
    r"joins edges of several forms": "node 5 (beside): joins edges of other forms",
    r"makes analog, not spikes": "node 0 (stem): has another form than spikes with a neuron",
    r"names tensor 99 of": "node 0 (stem): its shift is tensor 99 of",
    r"the output, edge 5, is no": "the output, edge 5, is no analog vector",
    r"tensor 3.* outside its place": "tensor 3 lies outside its place",
    r"has 9 groups of": "has groups that its channels cannot be parted into",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_header_that_does_not_fit_is_refused_by_its_node(change: str) -> None:
    told = refusal(with_header(CHANGES[change]))
    assert told is not None
    assert WHAT_C_SAYS.get(change, "expected" if "damaged" in told else "node") in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is no file of leanspike's; write one with `leanspike compile`"),
        (b"PNG" * 99, "this is no file of leanspike's"),
        (CONTENT[:31], "this is no file of leanspike's"),
        (CONTENT[:-1], f"the file is cut or longer than it says ({len(CONTENT) - 1} bytes)"),
        (CONTENT + b"\0", "the file is cut or longer than it says"),
        (CONTENT[:-1] + b"\x7f", "the file is damaged (its checksum is another)"),
        (
            CONTENT[:8] + b"\2" + CONTENT[9:],
            "the file is of version 2, this reads version 1: use the reader of the leanspike",
        ),
    ],
)
def test_what_is_cut_damaged_or_of_another_version_is_refused(content: bytes, message: str) -> None:
    told = refusal(content)
    assert told is not None
    assert message in told


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"",
        b"[]",
        b'{"made_by":"a","made_by":"b"}',
        b'{"made_by":"\\u0041"}',
        b'{"made_by":' + b"[" * 100_000,
        b'{"timesteps":' + b"9" * 100_000 + b"}",
        b'{"timesteps":1e3}',
        b'{"timesteps":01}',
        b'{"timesteps":-1}',
        b'{"timesteps"',
        b'{"timesteps":',
        b'{"tensors":[{"shape":[1,1,1,1,1]}]}',
        b'{"other":1}',
        b'{"input":{"mean":[1e999]}}',
        b'{"input":{"std":[0]}}',
    ],
)
def test_a_header_that_is_no_plain_json_is_refused(text: bytes) -> None:
    told = refusal(sealed(text, len(text), 1, 32 + len(text)))
    assert told is not None
    assert told.startswith("the header is damaged at byte ")


HOSTILE = (0, 1, 2, 7, 255, 256, 65535, 65536, 65537, 2**28, 2**31 - 1, 2**31, 2**53, 10**30)


def numbers(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all whole numbers in a header."""
    if isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from numbers(value, (*path, key))
    elif isinstance(part, int) and not isinstance(part, bool):
        yield path


def put(header: dict[str, Any], path: tuple[Any, ...], value: int) -> None:
    inside: Any = header
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value


def test_any_number_of_a_header_may_be_hostile() -> None:
    header = json.loads(CONTENT[32 : 32 + PREFIX.unpack_from(CONTENT)[2]])
    paths = list(numbers(header))
    chosen = np.random.default_rng(0)
    assert len(paths) > 200
    for path in (paths[place] for place in chosen.permutation(len(paths))[:100]):
        content = with_header(lambda h, at=path: put(h, at, int(chosen.choice(HOSTILE))))
        taken = refusal(content) is None
        assert taken <= python_takes(content), path


def test_a_tensor_of_no_finite_numbers_is_refused() -> None:
    header = json.loads(CONTENT[32 : 32 + PREFIX.unpack_from(CONTENT)[2]])
    for number, tensor in enumerate(header["tensors"]):
        if tensor["type"] != "f32":
            continue
        for value in (np.nan, np.inf, -np.inf):
            damaged = bytearray(CONTENT)
            end = tensor["offset"] + 4 * int(np.prod(tensor["shape"]))
            damaged[end - 4 : end] = np.float32(value).tobytes()
            assert "finite" in (refusal(resealed(damaged)) or ""), number


def resealed(content: bytearray) -> bytes:
    content[24:28] = zlib.crc32(content[32:]).to_bytes(4, "little")
    return bytes(content)


def test_weights_above_their_type_and_parameters_out_of_range_are_refused() -> None:
    header = json.loads(CONTENT[32 : 32 + PREFIX.unpack_from(CONTENT)[2]])
    tensors, nodes = header["tensors"], header["nodes"]

    def with_entry(tensor: int, value: bytes) -> str:
        damaged = bytearray(CONTENT)
        begin = tensors[tensor]["offset"]
        damaged[begin : begin + len(value)] = value
        return refusal(resealed(damaged)) or ""

    whole = next(n for n, tensor in enumerate(tensors) if tensor["type"] == "i8")
    assert "has weights above those of their type" in with_entry(whole, b"\x80")
    neuron = nodes[0]["neuron"]
    for key, value in (("threshold", 0.0), ("threshold", -1.0), ("leak", 1.5), ("leak", -0.5)):
        told = with_entry(neuron[key], np.float32(value).tobytes())
        assert "has a leak outside [0, 1] or a threshold that is not above 0" in told


def test_bytes_before_or_behind_tensors_are_refused() -> None:
    length = PREFIX.unpack_from(CONTENT)[2]
    assert header_end(length) > 32 + length
    stray = bytearray(CONTENT)
    stray[32 + length] = 1
    assert "before tensor 0 lies what is not 0" in (refusal(resealed(stray)) or "")
    longer = CONTENT[32:] + bytes(64)
    told = refusal(sealed(longer, length, 1, 32 + len(longer)))
    assert "behind the tensors lie further bytes" in (told or "")


@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_is_taken(seed: int) -> None:
    for static in (True, False):
        assert refusal(to_bytes(random_program(seed, static))) is None


def test_a_file_is_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.leanspike"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(EngineError, match=r"a\.leanspike: the file is cut"):
        Engine.load(path)
    with pytest.raises(EngineError, match="cannot be read"):
        Engine.load(tmp_path)
