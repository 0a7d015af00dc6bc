import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from leanspike.data.mnist import FASHION_MNIST, MNIST, read_mnist
from leanspike.errors import DataError

SMALL = replace(MNIST, train=6, test=3)


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def written(tmp_path):
    """The folder of six training and three test images, with the arrays in it."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("train", 6), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = random.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        write_idx(raw / name, array)
    return raw, arrays


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_written_is_read(tmp_path, written, packed):
    raw, arrays = written
    if packed:
        for path in list(raw.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    parts = read_mnist(tmp_path, SMALL)
    for split, prefix in ((parts.train, "train"), (parts.test, "t10k")):
        images, labels = split.batch(torch.arange(len(split)))
        assert np.array_equal(images.numpy()[:, 0], arrays[f"{prefix}-images-idx3-ubyte"])
        assert labels.tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()
    assert parts.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@pytest.mark.usefixtures("written")
def test_it_agrees_with_torchvision(tmp_path):
    reader = pytest.importorskip("torchvision.datasets").MNIST
    found = reader(tmp_path, train=True)
    images, labels = read_mnist(tmp_path, SMALL).train.batch(torch.arange(6))
    assert torch.equal(images[:, 0], found.data)
    assert torch.equal(labels, found.targets)


def test_a_missing_file_is_named_with_its_source(tmp_path, written):
    (written[0] / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no file .*t10k-labels-idx1-ubyte; .* https://\S+mnist/"):
        read_mnist(tmp_path, SMALL)


def test_a_truncated_file_is_named(tmp_path, written):
    path = written[0] / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images.* has 4719 bytes instead of 4720: damaged"):
        read_mnist(tmp_path, SMALL)


def test_a_foreign_header_is_named(tmp_path, written):
    path = written[0] / "train-images-idx3-ubyte"
    path.write_bytes(b"\x89PNG" + path.read_bytes()[4:])
    with pytest.raises(DataError, match=r"does not start as an IDX file of \[6, 28, 28] bytes"):
        read_mnist(tmp_path, SMALL)


def test_a_label_out_of_range_is_named(tmp_path, written):
    write_idx(written[0] / "t10k-labels-idx1-ubyte", np.array([1, 10, 2], dtype=np.uint8))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: label 10 of image 1"):
        read_mnist(tmp_path, SMALL)


def test_fashion_mnist_has_its_own_folder(tmp_path):
    with pytest.raises(DataError, match="FashionMNIST/raw"):
        read_mnist(tmp_path, FASHION_MNIST)
    assert len(set(FASHION_MNIST.classes)) == 10


def test_real_mnist(real_root):
    parts = read_mnist(real_root("MNIST"), MNIST)
    assert (len(parts.train), len(parts.test)) == (60000, 10000)
    assert parts.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert parts.test.labels.bincount().min() == 892  # the fives
