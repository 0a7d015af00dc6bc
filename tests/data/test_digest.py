"""What a split holds, told by its contents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from leanspike.data import FolderSplit, TensorSplit
from leanspike.data import digest as digests
from leanspike.data.digest import digest_of
from leanspike.errors import DataError


def split(pixels: int = 0, label: int = 0) -> TensorSplit:
    images = torch.zeros(6, 1, 2, 2, dtype=torch.uint8)
    images[3, 0, 1, 1] = pixels
    return TensorSplit(images, torch.tensor([0, 1, 0, 1, 0, label]))


def folder_split(folder: Path, count: int = 5) -> FolderSplit:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        if not path.exists():
            Image.new("L", (4, 4), n).save(path)
    labels = torch.zeros(count, dtype=torch.int64)
    return FolderSplit([str(path) for path in paths], labels, image_size=4, keep=False)


def test_of_samples_in_memory_every_pixel_and_label_counts() -> None:
    whole = digest_of(split())
    assert whole.startswith("whole:6:")
    assert digest_of(split()) == whole
    assert len({whole, digest_of(split(pixels=1)), digest_of(split(label=1))}) == 3


def test_of_files_the_contents_count_and_not_their_folder_or_time(tmp_path: Path) -> None:
    then = digest_of(folder_split(tmp_path / "a"))
    assert then.startswith("sampled:5 of 5:")
    os.utime(tmp_path / "a" / "1.png", (1, 1))
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_of(folder_split(tmp_path / "b")) == then
    Image.new("L", (4, 4), 200).save(tmp_path / "b" / "1.png")
    assert digest_of(folder_split(tmp_path / "b")) != then


def test_of_files_beyond_the_sample_names_and_sizes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "READ", 1)
    then = digest_of(folder_split(tmp_path / "a"))
    assert then.startswith("sampled:1 of 5:")
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(path.read_bytes() + b"x")
    assert digest_of(folder_split(tmp_path / "a")) != then


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = folder_split(tmp_path / "a")
    (tmp_path / "a" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read \(No such file.*\); restore it"):
        digest_of(files)
