import pytest
import torch

from leanspike.data import folder
from leanspike.data.folder import read_image_folder
from leanspike.data.loader import Loader
from leanspike.errors import DataError, LeanspikeError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Nine images in files that do not stay in memory; the last one is damaged."""
    monkeypatch.setattr(folder, "KEEP_BYTES", 0)
    for part in ("train", "val"):
        for number in range(9):
            path = tmp_path / part / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    (tmp_path / "train" / "b" / "7.png").write_bytes(b"no image")
    return read_image_folder(tmp_path, 8, 3).train


def loader(split, workers, **changes):
    how = {"batch_size": 2, "mean": (0.5,) * 3, "std": (0.25,) * 3, "seed": 3, "train": True}
    return Loader(split, **{**how, **changes}, workers=workers)


def test_processes_give_the_batches_of_threads_and_the_same_error(split):
    threads, processes = list(_until(split, 0)), list(_until(split, 1))
    assert len(threads) == len(processes) > 0
    for (x, y), (a, b) in zip(threads, processes, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)


def _until(split, workers):
    """The batches of an epoch from its second step on, up to the damaged image."""
    batches = loader(split, workers, train=False).epoch(0, 1)
    with pytest.raises(DataError, match=r"no image in \S+b/7.png \(Unidentified.*true$"):
        yield from batches


def test_what_stays_in_memory_needs_no_process(split, monkeypatch):
    monkeypatch.setattr("leanspike.data.loader.read_in_processes", None)
    split.keep = True
    images, _ = next(loader(split.select(torch.arange(4)), 3).epoch(0))
    assert images.shape == (2, 3, 8, 8)


def test_a_number_below_none_is_refused(split):
    with pytest.raises(LeanspikeError, match=r"workers is -1; give 0 \(threads\) or more"):
        loader(split, -1)
