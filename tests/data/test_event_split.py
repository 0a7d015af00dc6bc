"""Frames of recordings: what is kept, cached, and given to the network."""

import os

import pytest
import torch
from event_files import everything, write_nmnist

from leanspike.data import EventAugment, FrameOptions, Loader, load_dataset, normalise
from leanspike.data import event_split as split_module
from leanspike.data.events import read_events
from leanspike.errors import DataError


@pytest.fixture
def nmnist(tmp_path):
    return write_nmnist(tmp_path)


@pytest.fixture
def readings(monkeypatch):
    """The paths of the recordings that were read, as they are."""
    calls = []

    def counted(path, sensor, **options):
        calls.append(path)
        return read_events(path, sensor, **options)

    monkeypatch.setattr(split_module, "read_events", counted)
    return calls


def test_select_keeps_the_order_asked_for(nmnist):
    train = load_dataset("nmnist", nmnist, validation=0).train
    part = train.select(torch.tensor([5, 1, 9])).select(torch.tensor([2, 0]))
    assert part.labels.tolist() == [4, 2]
    assert torch.equal(everything(part), everything(train)[[9, 5]])
    empty = train.select(torch.tensor([], dtype=torch.int64))
    assert everything(empty).shape == (0, 10, 2, 34, 34)
    assert empty.labels.dtype == torch.int64


def test_a_recording_is_read_once_where_memory_suffices(nmnist, readings, monkeypatch):
    data = load_dataset("nmnist", nmnist, validation=4)
    for _ in range(2):
        for split in (data.train, data.val):
            everything(split)
    assert len(readings) == 20
    monkeypatch.setattr("leanspike.data.event_sets.KEEP_BYTES", 0)
    scarce = load_dataset("nmnist", nmnist).test
    everything(scarce)
    everything(scarce)
    assert len(readings) == 40


def test_frames_are_kept_on_disk_over_all_runs(nmnist, readings, monkeypatch):
    monkeypatch.setenv("LEANSPIKE_CACHE", str(nmnist / "cache"))
    first = everything(load_dataset("nmnist", nmnist).test)
    assert len(readings) == 10
    assert torch.equal(everything(load_dataset("nmnist", nmnist).test), first)
    assert len(readings) == 10


def test_the_cache_notices_other_parameters_and_changed_recordings(nmnist, readings, monkeypatch):
    monkeypatch.setenv("LEANSPIKE_CACHE", str(nmnist / "cache"))
    changes = [
        {},
        {"image_size": 17},
        {"frames": FrameOptions(timesteps=5)},
        {"frames": FrameOptions(by="count")},
        {"frames": FrameOptions(binary=True)},
        {"frames": FrameOptions(by="window", window_us=1000)},
        {"frames": FrameOptions(by="window", window_us=2000)},
    ]
    for number, change in enumerate(changes, start=1):
        found = everything(load_dataset("nmnist", nmnist, options=change).test)
        assert len(readings) == 10 * number
        monkeypatch.delenv("LEANSPIKE_CACHE")
        assert torch.equal(found, everything(load_dataset("nmnist", nmnist, options=change).test))
        monkeypatch.setenv("LEANSPIKE_CACHE", str(nmnist / "cache"))
        del readings[-10:]
    os.utime(nmnist / "NMNIST" / "Test" / "0" / "00000.bin", ns=(1, 1))
    everything(load_dataset("nmnist", nmnist).test)
    assert len(readings) == 10 * len(changes) + 10
    monkeypatch.setattr(split_module, "VERSION", 0)
    everything(load_dataset("nmnist", nmnist).test)
    assert len(readings) == 10 * len(changes) + 20


def test_a_damaged_recording_is_named_when_it_is_read(nmnist):
    path = nmnist / "NMNIST" / "Test" / "4" / "00000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    test = load_dataset("nmnist", nmnist).test
    assert len(test.batch(torch.tensor([3, 5]))[0]) == 2
    with pytest.raises(DataError, match=rf"no events in {path} \(248 bytes are not a whole"):
        test.batch(torch.tensor([3, 4, 5]))


def test_a_recording_that_is_gone_is_named(nmnist, monkeypatch):
    monkeypatch.setenv("LEANSPIKE_CACHE", str(nmnist / "cache"))
    (nmnist / "NMNIST" / "Test" / "4" / "gone.bin").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"no recording in \S+gone.bin \(No such file.*; remove it"):
        load_dataset("nmnist", nmnist)


def loader(data, batch_size=4, **options):
    common = {"mean": data.mean, "std": data.std, "seed": 0, "train": True}
    return Loader(data.train, batch_size=batch_size, **{**common, **options})


def test_the_network_gets_the_counts_step_by_step(nmnist):
    data = load_dataset("nmnist", nmnist, validation=0)
    batches = loader(data, train=False)
    found = torch.cat([images for images, _ in batches.epoch(0)], dim=1)
    assert found.shape == (10, 20, 2, 34, 34)
    assert found.dtype == torch.float32
    expected = everything(data.train).transpose(0, 1).float()
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)


def test_sequences_are_normalised_as_images_are():
    pixels = torch.randint(256, (3, 4, 2, 5, 5), generator=torch.Generator().manual_seed(0)).byte()
    found = normalise(pixels, (0.5, 0.4), (0.2, 0.3))
    assert found.shape == (4, 3, 2, 5, 5)
    for step, frames in enumerate(pixels.unbind(1)):
        assert torch.equal(found[step], normalise(frames, (0.5, 0.4), (0.2, 0.3)))


def test_steps_folded_into_the_batch_are_channels_last_on_request(nmnist):
    data = load_dataset("nmnist", nmnist, validation=0)
    plain, _ = next(loader(data).epoch(0))
    images, _ = next(loader(data, memory_format=torch.channels_last).epoch(0))
    assert torch.equal(images, plain)
    assert plain.is_contiguous()
    folded = images.flatten(0, 1)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert folded.data_ptr() == images.data_ptr()


def test_an_augmented_epoch_of_recordings_resumes_bit_for_bit(nmnist):
    data = load_dataset("nmnist", nmnist, validation=0)
    batches = loader(data, augment=EventAugment(flip=True, shift=4, drop=0.1))
    whole = list(batches.epoch(1))
    resumed = list(batches.epoch(1, start_step=2))
    assert len(whole) == 5
    for (images, labels), (again, same) in zip(whole[2:], resumed, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
    assert sum(images.sum() for images, _ in whole) < 20 * 50
