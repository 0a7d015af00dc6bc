import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from leanspike.data import decoded, folder
from leanspike.data.decoded import DecodedCache, open_cache
from leanspike.data.folder import read_image_folder
from leanspike.errors import DataError

Image = pytest.importorskip("PIL.Image")
SHAPE = (3, 4, 4)


def random_image(seed):
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two classes of three training images and one to test, and a cache of their own."""
    names = [f"{part}/{number}.png" for part in ("train/a", "train/b") for number in range(3)]
    for seed, name in enumerate([*names, "val/a/0.png", "val/b/0.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image(seed).transpose(1, 2, 0)).save(tmp_path / name)
    monkeypatch.setenv("LEANSPIKE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def decodings(monkeypatch):
    """The paths that were decoded, as they are."""
    calls = []
    original = folder.decode

    def counted(path, size, channels):
        calls.append(path)
        return original(path, size, channels)

    monkeypatch.setattr(folder, "decode", counted)
    return calls


def everything(split):
    return split.batch(torch.arange(len(split)))[0]


def test_an_image_is_read_back_from_its_own_place(tmp_path):
    cache = DecodedCache(tmp_path / "deep" / "images", SHAPE)
    assert cache.read(0) is None
    cache.write(3, random_image(3))
    cache.write(1, random_image(1))
    assert [place for place in range(6) if cache.read(place) is not None] == [1, 3]
    assert np.array_equal(cache.read(3), random_image(3))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_record_is_not_there(tmp_path, damage):
    cache = DecodedCache(tmp_path / "images", SHAPE)
    cache.write(0, random_image(0))
    cache.write(1, random_image(1))
    content = bytearray(cache.path.read_bytes())
    content[-1] ^= 1
    cache.path.write_bytes(content[:-1] if damage == "cut" else content)
    assert cache.read(1) is None
    assert np.array_equal(cache.read(0), random_image(0))
    cache.write(1, random_image(1))
    assert np.array_equal(cache.read(1), random_image(1))


def test_many_may_write_at_the_same_time(tmp_path):
    caches = [DecodedCache(tmp_path / "images", SHAPE) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: caches[n % 2].write(n // 2, random_image(n // 2)), range(64)))
    for place in range(32):
        assert np.array_equal(caches[0].read(place), random_image(place))


def test_what_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot keep decoded .*; set LEANSPIKE_CACHE to another"):
        DecodedCache(tmp_path / "file" / "images", SHAPE).write(0, random_image(0))
    monkeypatch.setattr(decoded.os, "pwrite", lambda *_: 7)
    with pytest.raises(DataError, match=r"images \(no space left on it\)"):
        DecodedCache(tmp_path / "images", SHAPE).write(0, random_image(0))


def test_each_image_is_decoded_once_over_all_runs(tree, decodings, monkeypatch):
    monkeypatch.setattr(folder, "KEEP_BYTES", 0)
    first = read_image_folder(tree, 4)
    expected = everything(first.train), everything(first.test)
    assert len(decodings) == 8
    again = read_image_folder(tree, 4)
    assert torch.equal(everything(again.train), expected[0])
    assert torch.equal(everything(again.test), expected[1])
    part = again.train.select(torch.tensor([5, 1])).select(torch.tensor([1, 0]))
    assert torch.equal(everything(part), expected[0][[1, 5]])
    assert len(decodings) == 8


def test_a_changed_image_and_another_size_are_kept_apart(tree):
    paths = read_image_folder(tree, 4).train.paths
    names = {open_cache(paths, 4).path, open_cache(paths, 8).path, open_cache(paths[1:], 4).path}
    os.utime(paths[0], ns=(1, 1))
    assert len(names | {open_cache(paths, 4).path}) == 4
    assert everything(read_image_folder(tree, 8).train).shape == (6, 3, 8, 8)


def test_without_the_variable_nothing_is_written(tree, monkeypatch):
    monkeypatch.delenv("LEANSPIKE_CACHE")
    split = read_image_folder(tree, 4).train
    everything(split)
    assert split.cache is None
    assert not (tree / "cache").exists()


def test_an_image_that_is_gone_is_named(tree):
    (tree / "train" / "a" / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"no image in \S+gone.png \(No such file .*\); remove it"):
        read_image_folder(tree, 4, 3)
