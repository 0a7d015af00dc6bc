"""Folders of recordings as data sets, and MNIST's images part by part."""

from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import aedat2_bytes, aedat3_bytes, aedat3_packet, everything, write_nmnist

from leanspike.data import FrameOptions, Parts, TensorSplit, event_sets, load_dataset
from leanspike.data.cifar import CIFAR10
from leanspike.data.event_sets import GESTURES, read_dvs128_gesture, read_sequential_mnist
from leanspike.data.events import read_events
from leanspike.data.frames import to_frames
from leanspike.errors import DataError

CIFAR = CIFAR10.classes


@pytest.fixture
def nmnist(tmp_path):
    return write_nmnist(tmp_path)


def test_n_mnist_becomes_frames(nmnist):
    options = FrameOptions(timesteps=4, by="count")
    data = load_dataset(
        "nmnist", nmnist, validation=0, options={"image_size": 17, "frames": options}
    )
    assert (data.shape, data.frames, data.classes) == ((2, 17, 17), 4, tuple("0123456789"))
    assert (len(data.train), len(data.val), len(data.test)) == (20, 0, 10)
    assert data.train.lazy
    images, labels = data.train.batch(torch.tensor([7, 0]))
    assert images.dtype == torch.uint8
    assert images.shape == (2, 4, 2, 17, 17)
    assert labels.tolist() == [3, 0]
    path = nmnist / "NMNIST" / "Train" / "3" / "00001.bin"
    assert np.array_equal(images[0], to_frames(read_events(path), options, (17, 17)))


def test_without_options_there_are_10_frames_of_the_sensors_size(nmnist):
    data = load_dataset("nmnist", nmnist)
    assert (data.shape, data.frames) == ((2, 34, 34), 10)
    assert (len(data.train), len(data.val)) == (18, 2)
    assert everything(data.val).sum(dtype=torch.int64) == 2 * 50


def test_an_empty_digit_and_a_size_that_is_none_are_refused(nmnist):
    with pytest.raises(DataError, match=r"image_size is 35, .* have 34x34 pixels; give 1\.\.34"):
        load_dataset("nmnist", nmnist, options={"image_size": 35})
    (nmnist / "NMNIST" / "Test" / "9" / "00000.bin").unlink()
    with pytest.raises(DataError, match=r"no .bin files in \S+Test/9; unpack https://"):
        load_dataset("nmnist", nmnist)


def test_images_have_no_frames():
    with pytest.raises(DataError, match="data set digits has no option 'frames'; it has none"):
        load_dataset("digits", options={"frames": FrameOptions()})
    assert load_dataset("digits").frames is None


def test_cifar10_dvs_gives_the_last_tenth_of_each_class_to_the_test(tmp_path):
    for label, name in enumerate(CIFAR):
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for number in range(12):
            content = aedat2_bytes([(label, number, 5, 1), (label, number, 9, 0)])
            (folder / f"cifar10_{name}_{number}.aedat").write_bytes(content)
    data = load_dataset(
        "cifar10_dvs", tmp_path, validation=0, options={"frames": FrameOptions(timesteps=2)}
    )
    assert (data.shape, data.classes) == ((2, 128, 128), CIFAR)
    assert data.test.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert len(data.train) == 100
    found = everything(data.test).nonzero()[::2, 1:].tolist()
    last = [8, 9]  # as text, 10 and 11 come before 2
    assert found == [[0, 1, number, label] for label in range(10) for number in last]
    (tmp_path / "CIFAR10DVS" / "cat" / "a.aedat4").write_bytes(b"")
    with pytest.raises(DataError, match=r".aedat and .aedat4 files in \S+cat; keep those of one k"):
        load_dataset("cifar10_dvs", tmp_path)


def test_a_class_of_one_recording_cannot_be_split(tmp_path):
    folder = tmp_path / "CIFAR10DVS" / "airplane"
    folder.mkdir(parents=True)
    (folder / "0.aedat").write_bytes(aedat2_bytes([(0, 0, 0, 0)]))
    with pytest.raises(DataError, match=r"only one recording in \S+airplane, none to test; unpack"):
        load_dataset("cifar10_dvs", tmp_path)


@pytest.fixture
def gestures(tmp_path):
    """As published: three gestures of one person to train, one of another to test."""
    folder = tmp_path / "DvsGesture"
    folder.mkdir()
    head = "class,startTime_usec,endTime_usec\n"
    (folder / "trials_to_train.txt").write_text("user01_lab.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    (folder / "user01_lab_labels.csv").write_text(head + "1,0,10\n11,10,20\n1,20,30\n\n")
    (folder / "user24_led_labels.csv").write_text(head + "8,5,25\n")
    events = [(10, 20, t, t % 2) for t in range(0, 40, 5)]
    for name in ("user01_lab.aedat", "user24_led.aedat"):
        (folder / name).write_bytes(aedat3_bytes(aedat3_packet(events)))
    return tmp_path


def test_gestures_are_cut_out_of_the_recordings(gestures):
    options = FrameOptions(timesteps=2, by="count")
    data = load_dataset("dvs128_gesture", gestures, validation=0, options={"frames": options})
    assert data.classes == GESTURES
    assert data.train.labels.tolist() == [0, 10, 0]
    assert data.test.labels.tolist() == [7]
    assert everything(data.train).sum((1, 2, 3, 4)).tolist() == [2, 2, 2]
    assert everything(data.test).sum((1, 2, 3, 4)).tolist() == [4]
    assert everything(data.train)[:, :, :, 20, 10].tolist() == [
        [[1, 0], [0, 1]],
        [[1, 0], [0, 1]],
        [[1, 0], [0, 1]],
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("12,0,10", r"user24_led.aedat: gesture 11 is not in 0\.\.10; remove it"),
        ("8,0", r"user24_led_labels.csv cannot be read \(not enough values.*; unpack the data set"),
        ("8,a,b", "user24_led_labels.csv cannot be read"),
        ("8,100,200", "no events from 100 to 200 µs in .*user24_led.aedat; replace or remove it"),
    ],
)
def test_a_damaged_table_of_gestures_is_named(gestures, row, message):
    (gestures / "DvsGesture" / "user24_led_labels.csv").write_text(f"class,start,end\n{row}\n")
    with pytest.raises(DataError, match=message):
        everything(load_dataset("dvs128_gesture", gestures).test)


def test_a_missing_table_of_gestures_is_named(gestures):
    (gestures / "DvsGesture" / "user01_lab_labels.csv").unlink()
    with pytest.raises(DataError, match=r"user01_lab_labels.csv cannot be read .*No such file"):
        load_dataset("dvs128_gesture", gestures)


def test_prepared_gestures(tmp_path):
    for part, person in (("Train", "user01_lab"), ("Test", "user24_led")):
        folder = tmp_path / "DVSGesture" / f"ibmGesture{part}" / person
        folder.mkdir(parents=True)
        for label in (10, 3):
            np.save(folder / f"{label}.npy", np.array([[1, 2, 0, 5], [3, 4, 1, 9]], np.float64))
    parts = read_dvs128_gesture(tmp_path, None, FrameOptions(timesteps=1))
    assert parts.train.labels.tolist() == [10, 3]
    assert everything(parts.test).nonzero()[:2, 2:].tolist() == [[0, 2, 1], [1, 4, 3]]
    np.save(folder / "arm.npy", np.zeros((1, 4)))
    with pytest.raises(DataError, match=r"arm.npy is not named after a label 0\.\.10; remove it"):
        read_dvs128_gesture(tmp_path, None, FrameOptions())


def test_real_n_mnist_is_read_in_part_or_whole(real_root):
    data = load_dataset(
        "nmnist", real_root("NMNIST"), options={"frames": FrameOptions(timesteps=5)}
    )
    assert len(data.val) == round((len(data.train) + len(data.val)) / 10)
    for split in (data.train, data.val, data.test):
        assert torch.equal(split.labels.unique(), torch.arange(10))
    frames, _ = data.test.batch(torch.arange(0, len(data.test), 5))
    counts = frames.sum((1, 2, 3, 4), dtype=torch.int64)
    assert counts.min() > 500
    assert (frames.flatten(1) > 0).any(1).all()


@pytest.mark.parametrize(("steps", "width"), [(28, 28), (784, 1)])
def test_real_mnist_part_by_part(real_root, steps, width):
    root = real_root("MNIST")
    name = "sequential_mnist" if steps == 28 else "sequential_mnist_pixels"
    data, images = load_dataset(name, root), load_dataset("mnist", root)
    assert (data.shape, data.frames) == ((1, 1, width), steps)
    assert (data.mean, data.std) == (images.mean, images.std)
    found, labels = data.val.batch(torch.arange(5))
    expected, same = images.val.batch(torch.arange(5))
    assert torch.equal(found.view(5, 1, 28, 28), expected)
    assert torch.equal(labels, same)


def test_parts_of_an_image_come_in_reading_order(monkeypatch):
    pixels = (torch.arange(784) % 251).byte().view(1, 1, 28, 28)
    split = TensorSplit(pixels, torch.tensor([3]))
    monkeypatch.setattr(event_sets, "read_mnist", lambda *_: Parts(("a",), split, split))
    rows = read_sequential_mnist(Path(), 28).train
    assert (rows.frames, rows.shape) == (28, (1, 1, 28))
    assert torch.equal(everything(rows)[0, 3, 0, 0], pixels[0, 0, 3])
    single = read_sequential_mnist(Path(), 784).test
    assert torch.equal(everything(single).flatten(), pixels.flatten())
