"""The file: what is written is read again to the bit; what is not exactly so is refused."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanspike_runtime import EngineError, from_bytes, load, to_bytes
from leanspike_runtime.file import PREFIX
from leanspike_runtime.program import Input, Layer, Neuron, Pool, Program, Synapse
from tests.runtime.programs import random_program

CONTENT = to_bytes(random_program(1))


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with a changed header, its tensors where they were, its checksum right."""
    length = PREFIX.unpack_from(CONTENT)[2]
    header = json.loads(CONTENT[32 : 32 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    rest = CONTENT[header_end(length) :]
    text = text.ljust(header_end(length) - 32)
    body = text + rest
    return sealed(body, len(text), 1, 32 + len(body))


def header_end(length: int) -> int:
    return -(-(32 + length) // 64) * 64


def sealed(body: bytes, length: int, version: int, size: int) -> bytes:
    return PREFIX.pack(b"LEANSPIK", version, length, size, zlib.crc32(body), 0) + body


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("static", [True, False])
def test_what_is_written_is_read_again(seed: int, static: bool) -> None:
    program = random_program(seed, static)
    content = to_bytes(program)
    again = from_bytes(content)
    assert to_bytes(again) == content
    assert again.shapes == program.shapes
    assert again.statics == program.statics
    assert again.nodes[-1].edges == program.nodes[-1].edges


def test_tensors_lie_at_multiples_of_64_and_strings_need_no_escape() -> None:
    program = random_program(0)
    classes = tuple(f'"{number}\\é' for number in range(10))
    named = replace(program, input=Input((9, 8, 3), True, (0.5,) * 3, (0.25,) * 3, classes))
    content = to_bytes(named)
    header = json.loads(content[32 : 32 + struct.unpack_from("<I", content, 12)[0]])
    assert {tensor["offset"] % 64 for tensor in header["tensors"]} == {0}
    assert from_bytes(content).input.classes == tuple(f"?{number}??" for number in range(10))
    assert from_bytes(content).input.std == (0.25,) * 3


def test_a_file_is_read_by_its_path_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.leanspike"
    path.write_bytes(CONTENT)
    assert load(path).timesteps == 3
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(EngineError, match=r"a\.leanspike: holds \d+ bytes, and says \d+; fetch"):
        load(path)
    with pytest.raises(EngineError, match="cannot be read"):
        load(tmp_path)


def test_another_version_says_which() -> None:
    body = CONTENT[32:]
    _, _, length, size, _, _ = PREFIX.unpack_from(CONTENT)
    with pytest.raises(EngineError, match="is of version 7, and this reads version 1; read it"):
        from_bytes(sealed(body, length, 7, size))


def test_a_bit_that_flipped_is_noticed() -> None:
    for place in np.random.default_rng(0).integers(0, len(CONTENT), 200):
        damaged = bytearray(CONTENT)
        damaged[place] ^= 4
        with pytest.raises(EngineError) as told:
            from_bytes(bytes(damaged))
        assert "\n" not in str(told.value)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    r"timesteps is 0": lambda h: h.update(timesteps=0),
    r"readout is 'max'": lambda h: h.update(readout="max"),
    r"made_by is 1, no text": lambda h: h.update(made_by=1),
    r"reads edge 9, which comes later": lambda h: h["nodes"][1].update(edge=9),
    r"makes \[5, 4, 71\], not": lambda h: h["nodes"][1]["shape"].__setitem__(2, 71),
    r"joins edges of several forms": lambda h: h["nodes"][5].update(edges=[2, 3]),
    r"makes analog, not spikes": lambda h: h["nodes"][0].update(form="analog"),
    r"names tensor 99 of": lambda h: h["nodes"][0].update(shift=99),
    r"the output, edge 5, is no": lambda h: h.update(output=5),
    r"kinds are layer, max_pool": lambda h: h["nodes"][1].update(node="MAX_POOL"),
    r"tensor 3.* outside its place": lambda h: h["tensors"][3].update(offset=64),
    r"has 9 groups of": lambda h: h["nodes"][0]["synapses"][0].update(groups=9),
    r"nodes is 7, no list": lambda h: h.update(nodes=7),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_header_that_does_not_fit_is_refused(message: str) -> None:
    with pytest.raises(EngineError, match=message):
        from_bytes(with_header(CHANGES[message]))


def test_a_header_that_is_no_plain_json_is_refused() -> None:
    for text in (
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'"\\u0041"',
        "{é}".encode(),
        b"[]",
        b"9" * 5000,
    ):
        with pytest.raises(EngineError) as told:
            from_bytes(sealed(text, len(text), 1, 32 + len(text)))
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 200


def test_sums_that_32_bits_might_not_hold_are_refused() -> None:
    channels, one = 2**16, np.ones(1, np.float32)
    table = np.ones((1, channels), np.float32)
    read = Synapse(0, "conv", table, np.ones((1, 1, 1, channels), np.float32))
    fires = Layer("0", (15, 34, channels), "spikes", (read,), table, Neuron(one, one))
    pool = Pool("sum_pool", "1", (1, 2, channels), "counts", (1,), (15, 17), (15, 17), (0, 0))
    weights = np.full((1, 1, 2 * channels, 1), 127, np.int8)
    summed = Synapse(2, "linear", table[:, :1], weights, "i8")
    out = Layer("2", (1, 1, 1), "analog", (summed,), table[:, :1], None)
    given = Input((15, 34, 1), static=True)
    with pytest.raises(EngineError, match=r"node 2 \(2\): has sums that 32 bits might not hold"):
        Program("hand", 1, "sum", given, (fires, pool, out), 3)
