import hashlib
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from leanspike.data.cifar import CIFAR10, CIFAR100, read_cifar
from leanspike.errors import DataError

SMALL10 = replace(CIFAR10, train_images=20, test_images=3)
SMALL100 = replace(CIFAR100, train_images=20, test_images=3)


def random_images(cifar, count, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(cifar.classes), count, np.uint8)
    return random.integers(0, 256, (count, 3072), np.uint8), labels


def write_binary(root, cifar):
    """Train and test images in the binary layout, as (pixels [N, 3072], labels [N]) each."""
    (root / cifar.binary).mkdir()
    written = []
    for seed, (names, count) in enumerate(
        [(cifar.train, cifar.train_images), (cifar.test, cifar.test_images)]
    ):
        pixels, labels = random_images(cifar, count, seed)
        each = count // len(names)
        for number, name in enumerate(names):
            with (root / cifar.binary / name).open("wb") as stream:
                for index in range(number * each, (number + 1) * each):
                    coarse = b"\x63" * (cifar.label_bytes - 1)
                    stream.write(coarse + bytes([labels[index]]) + pixels[index].tobytes())
        written.append((pixels, labels))
    return written


@pytest.mark.parametrize("cifar", [SMALL10, SMALL100], ids=["cifar10", "cifar100"])
def test_binary_files_are_read(tmp_path, cifar):
    written = write_binary(tmp_path, cifar)
    parts = read_cifar(tmp_path, cifar)
    assert parts.classes == cifar.classes
    for split, (pixels, labels) in zip((parts.train, parts.test), written, strict=True):
        images, found = split.batch(torch.arange(len(split)))
        assert images.shape == (len(labels), 3, 32, 32)
        assert np.array_equal(images.numpy().reshape(-1, 3072), pixels)
        assert found.tolist() == labels.tolist()


def write_pickled(root, cifar, monkeypatch):
    """The images of ``write_binary`` as pickles, and their MD5s as torchvision's official ones."""
    datasets = pytest.importorskip("torchvision.datasets")
    reader, folder = getattr(datasets, cifar.reader), root / cifar.pickled
    folder.mkdir()
    key = "labels" if cifar.reader == "CIFAR10" else "fine_labels"

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    lists = []
    for seed, (listed, count) in enumerate(
        [(reader.train_list, cifar.train_images), (reader.test_list, cifar.test_images)]
    ):
        pixels, labels = random_images(cifar, count, seed)
        each = count // len(listed)
        parts = [slice(n * each, (n + 1) * each) for n in range(len(listed))]
        contents = [{"data": pixels[part], key: labels[part].tolist()} for part in parts]
        lists.append([[n, write(n, c)] for (n, _), c in zip(listed, contents, strict=True)])
    monkeypatch.setattr(reader, "train_list", lists[0])
    monkeypatch.setattr(reader, "test_list", lists[1])
    meta = reader.meta
    md5 = write(meta["filename"], {meta["key"]: list(cifar.classes)})
    monkeypatch.setattr(reader, "meta", {**meta, "md5": md5})


@pytest.mark.parametrize("cifar", [SMALL10, SMALL100], ids=["cifar10", "cifar100"])
def test_both_layouts_give_the_same(tmp_path, cifar, monkeypatch):
    for name in ("binary", "pickled"):
        (tmp_path / name).mkdir()
    write_binary(tmp_path / "binary", cifar)
    write_pickled(tmp_path / "pickled", cifar, monkeypatch)
    binary = read_cifar(tmp_path / "binary", cifar)
    pickled = read_cifar(tmp_path / "pickled", cifar)
    for left, right in ((binary.train, pickled.train), (binary.test, pickled.test)):
        assert torch.equal(left.images, right.images)
        assert right.images.is_contiguous()
        assert torch.equal(left.labels, right.labels)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_foreign_pickle_is_never_opened(tmp_path, monkeypatch):
    write_pickled(tmp_path, SMALL10, monkeypatch)
    trap = tmp_path / "executed"
    (tmp_path / CIFAR10.pickled / "data_batch_2").write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(DataError, match=r"cifar-10-batches-py is incomplete or damaged .*MD5"):
        read_cifar(tmp_path, SMALL10)
    assert not trap.exists()


def test_an_empty_pickled_folder_is_incomplete(tmp_path):
    pytest.importorskip("torchvision")
    (tmp_path / CIFAR10.pickled).mkdir()
    with pytest.raises(
        DataError, match=r"incomplete or damaged .* unpack https://\S+binary.tar.gz"
    ):
        read_cifar(tmp_path, CIFAR10)


def test_nothing_there_names_both_layouts_and_the_source(tmp_path):
    with pytest.raises(
        DataError,
        match=r"^neither cifar-100-binary nor cifar-100-python in \S+; unpack https://\S+ in \S+, "
        r"or set LEANSPIKE_DATA to where it is$",
    ):
        read_cifar(tmp_path, CIFAR100)


def test_a_missing_batch_is_named(tmp_path):
    write_binary(tmp_path, SMALL10)
    (tmp_path / CIFAR10.binary / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"no file \S+data_batch_4.bin; unpack https://"):
        read_cifar(tmp_path, SMALL10)


def test_a_batch_cut_between_two_images_is_damaged(tmp_path):
    write_binary(tmp_path, SMALL10)
    path = tmp_path / CIFAR10.binary / "data_batch_5.bin"
    path.write_bytes(path.read_bytes()[:3073])
    with pytest.raises(DataError, match=r"data_batch_5\.bin has 3073 bytes instead of 12292"):
        read_cifar(tmp_path, SMALL10)


def test_a_label_out_of_range_is_named(tmp_path):
    write_binary(tmp_path, SMALL10)
    path = tmp_path / CIFAR10.binary / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:3073] + b"\x0a" + path.read_bytes()[3074:])
    with pytest.raises(DataError, match=r"test_batch.bin: label 10 of image 1 is not in 0\.\.9"):
        read_cifar(tmp_path, SMALL10)


def test_the_class_names_are_complete():
    assert len(set(CIFAR10.classes)) == 10
    assert len(set(CIFAR100.classes)) == 100
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)


def test_real_cifar10(real_root):
    root = real_root(CIFAR10.binary)
    parts = read_cifar(root, CIFAR10)
    assert (len(parts.train), len(parts.test)) == (50000, 10000)
    assert parts.train.labels.bincount().tolist() == [5000] * 10
    assert parts.test.labels.bincount().tolist() == [1000] * 10
    images = parts.train.images[:10_000].float()  # copies differ in their order: nothing on that
    labels = parts.train.labels[:10_000]
    means = torch.stack([images[labels == label].mean(0).flatten() for label in range(10)])
    nearest = torch.cdist(parts.test.images[:2000].float().flatten(1), means).argmin(1)
    assert (
        nearest == parts.test.labels[:2000]
    ).double().mean() > 0.2  # 0.1 if labels were mixed up
