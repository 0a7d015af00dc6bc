"""CIFAR-10-C from its own files: the right block, in the right layout, or an error."""

import re

import numpy as np
import pytest
import torch

from leanspike.data import cifar_c
from leanspike.data.cifar_c import cifar_c_names, read_cifar_c
from leanspike.errors import DataError

N = 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A CIFAR-10-C of four images."""
    monkeypatch.setattr(cifar_c, "IMAGES", N)
    random = np.random.RandomState(0)
    for name in ("fog", "blur"):
        np.save(tmp_path / f"{name}.npy", random.randint(256, size=(5 * N, 32, 32, 3), dtype="u1"))
    np.save(tmp_path / "labels.npy", np.tile(np.array([3, 8, 8, 0], dtype="u1"), 5))
    return tmp_path


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_its_block_channels_first(folder, severity):
    split = read_cifar_c(folder, "fog", severity)
    whole = np.load(folder / "fog.npy")[(severity - 1) * N : severity * N]
    assert split.images.dtype == torch.uint8
    assert split.images.is_contiguous()
    assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), whole)
    assert split.labels.tolist() == [3, 8, 8, 0]


def test_the_names_are_those_of_the_files(folder):
    assert cifar_c_names(folder) == ("blur", "fog")


def test_missing_files(folder):
    with pytest.raises(DataError, match=r"no snow\.npy in .*; there are blur, fog$"):
        read_cifar_c(folder, "snow", 1)
    with pytest.raises(DataError, match="severity is 6; give 1, 2, 3, 4 or 5"):
        read_cifar_c(folder, "fog", 6)
    for path in folder.glob("[bf]*.npy"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds labels\.npy alone; unpack https"):
        cifar_c_names(folder)
    (folder / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"^no labels\.npy in .*; unpack https"):
        read_cifar_c(folder, "fog", 1)


@pytest.mark.parametrize(
    ("name", "array", "found"),
    [
        ("fog", np.zeros((5 * N, 3, 32, 32), dtype="u1"), "uint8 [20, 3, 32, 32] instead of"),
        ("fog", np.zeros((4 * N, 32, 32, 3), dtype="u1"), "uint8 [16, 32, 32, 3] instead of"),
        ("fog", np.zeros((5 * N, 32, 32, 3), dtype="f4"), "float32 [20, 32, 32, 3] instead of"),
        ("labels", np.zeros((5 * N, 1), dtype="u1"), "uint8 [20, 1] instead of integer [20]"),
        ("labels", np.zeros(5 * N), "float64 [20] instead of integer [20]"),
    ],
)
def test_arrays_of_another_form(folder, name, array, found):
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(DataError, match=re.escape(f"{name}.npy is {found}")) as error:
        read_cifar_c(folder, "fog", 1)
    assert "\n" not in str(error.value)


def test_damaged_files_and_pickles_are_not_opened(folder):
    path = folder / "fog.npy"
    whole = path.read_bytes()
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    pickled = path.read_bytes()
    for content in (b"", b"no array", whole[:200], pickled):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"fog\.npy cannot be read \(") as error:
            read_cifar_c(folder, "fog", 1)
        assert "\n" not in str(error.value)
