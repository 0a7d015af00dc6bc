"""Damaged and hostile files: refused in one line, and nothing outside of them is opened."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from leanspike import LeanspikeError, from_nir, to_nir
from leanspike.export import write_nir
from leanspike.export.hdf5 import _of_any_length
from portable_networks import portable_network

pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    return write_nir(to_nir(portable_network("dense")), path).read_bytes()


@pytest.fixture
def file(tmp_path, written) -> Path:
    path = tmp_path / "net.nir"
    path.write_bytes(written)
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(LeanspikeError, match=message) as error:
        from_nir(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    refused(tmp_path / "none.nir", "is not a file; give one that holds NIR")
    refused(tmp_path, "is not a file")


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "net.nir"
    path.write_text("hello")
    refused(path, "is damaged or holds no NIR .*; get it again")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_ends_too_soon(file, written, share):
    file.write_bytes(written[: int(len(written) * share)])
    refused(file, "is damaged or holds no NIR")


def test_flipped_bytes_end_in_our_error_or_in_a_network(file, written):
    """Wherever a byte is wrong: never another exception."""
    for place in range(100, len(written), len(written) // 12):
        file.write_bytes(written[:place] + bytes([written[place] ^ 0xFF]) + written[place + 1 :])
        with suppress(LeanspikeError):
            from_nir(file)


def change(file: Path, what) -> None:
    with h5py.File(file, "r+") as opened:
        what(opened)


def replaced(name: str, value):
    def put(file):
        del file[name]
        file[name] = value

    return put


def test_links_out_of_the_file(file, tmp_path):
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as opened:
        opened["weight"] = np.ones((16, 4))
    change(file, replaced("node/nodes/0/weight", h5py.ExternalLink(str(other), "weight")))
    refused(file, "/node/nodes/0/weight is a link; get a plain file that holds its own data")


def test_links_within_the_file(file):
    change(file, replaced("node/nodes/0/bias", h5py.SoftLink("/node/nodes/2/bias")))
    refused(file, "is a link")


def test_data_in_another_file(file, tmp_path):
    raw = tmp_path / "raw"
    raw.write_bytes(np.ones((16, 4), dtype=np.float32).tobytes())

    def put(opened):
        del opened["node/nodes/0/weight"]
        opened["node/nodes/0"].create_dataset(
            "weight", (16, 4), dtype="f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
        )

    change(file, put)
    refused(file, "weight lies in another file")


def test_virtual_data(file, tmp_path):
    layout = h5py.VirtualLayout((16, 4), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "weight", (16, 4))

    def put(opened):
        del opened["node/nodes/0/weight"]
        opened["node/nodes/0"].create_virtual_dataset("weight", layout)

    change(file, put)
    refused(file, "weight lies in another file")


def test_more_data_than_the_file_can_hold(file):
    def put(opened):
        del opened["node/nodes/0/weight"]
        opened["node/nodes/0"].create_dataset("weight", (1 << 20, 1 << 20), "f4", chunks=(1, 1024))

    change(file, put)
    refused(file, "claims to hold 4,398,046,[0-9]*,[0-9]* bytes of data, more than a file of")


def test_a_group_inside_itself(file):
    change(file, lambda opened: opened["node/nodes"].__setitem__("again", opened["node/nodes"]))
    refused(file, "/node/nodes/again is there under another name, too")


def test_groups_that_double_what_there_is_to_read(file):
    def put(opened):
        opened.create_group("0")
        for number in range(14):
            group = opened.create_group(str(number + 1))
            for name in range(20):
                group[f"{name}\n"] = opened[str(number)]

    change(file, put)
    refused(file, r"/.*\\n' is there under another name, too; get a plain file")


def test_groups_in_groups(file):
    change(file, lambda opened: opened.create_group("node/nodes/" + "/".join("abcdefghijklmnop")))
    refused(file, "is nested too deep")


def free_space(content: bytes) -> int:
    """Where the last object of the first heap of texts, its free space, begins."""
    heap = content.index(b"GCOL")
    at = heap + 16
    while content[at : at + 2] != b"\0\0":
        at += 16 + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
    return at


def test_a_heap_of_texts_that_hdf5_would_not_leave(file, written):
    size = free_space(written) + 8
    assert int.from_bytes(written[size : size + 8], "little") >= 16
    file.write_bytes(written[:size] + bytes(8) + written[size + 8 :])
    refused(file, r"is damaged or holds no NIR \(a heap of texts has no end\); get it again")


def test_a_heap_of_texts_that_claims_more_than_the_file(file, written):
    size = written.index(b"GCOL") + 8
    file.write_bytes(written[:size] + (1 << 33).to_bytes(8, "little") + written[size + 8 :])
    refused(file, r"\(a heap of texts is larger than the file\); get it again")


def test_a_list_of_many_texts(file):
    texts = np.full(1001, "a", dtype=h5py.string_dtype())
    change(file, replaced("node/nodes/0/type", texts))
    refused(file, "/node/nodes/0/type is a list of more than 1,000 texts")


def test_a_chunk_that_is_larger_than_what_lies_in_it(file):
    def enlarge(opened):
        del opened["node/nodes/0/bias"]
        opened.create_dataset("node/nodes/0/bias", (16,), "f4", chunks=(1 << 28,), maxshape=(None,))

    change(file, enlarge)
    refused(file, "claims to hold 1,073,74[0-9],[0-9]+ bytes of data")


def test_a_text_that_is_named_often_is_not_read_each_time():
    texts = np.array([["abc"] * 1000] * 1000, dtype=object)
    assert _of_any_length(texts, 10) == 12
    assert _of_any_length(texts[:2, :2], 100) == 12


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("node/nodes/0/type", "os.system", "is damaged or holds no NIR"),
        ("node/nodes/0/weight", "text", "is damaged or holds no NIR"),
        ("node/nodes/0/weight", np.full((16, 4), np.inf), "node 0: a weight is not finite"),
        ("node/nodes/0/bias", np.zeros(3), "node 0: 3 biases for 16 outputs"),
        ("node/nodes/input/shape", np.array([1 << 40]), "is not the shape of an input"),
        ("node/nodes/input/shape", np.array([-4]), "is not the shape of an input"),
        ("node/nodes/1/tau_mem", np.zeros(16), "node 1: tau_mem is 0 s, shorter"),
        ("node/metadata/timesteps", "many", "timesteps is 'many'; give a whole number"),
        ("node/metadata/timesteps", 0, "timesteps is 0; give 1 or more"),
        ("node/type", "Affine", "is damaged or holds no NIR"),
    ],
)
def test_wrong_values(file, name, value, message):
    change(file, replaced(name, value))
    with pytest.raises(LeanspikeError, match=message) as error:
        from_nir(file)
    assert "\n" not in str(error.value)
