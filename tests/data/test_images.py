import hashlib
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch

from leanspike.data import images
from leanspike.data.images import channel_statistics, describe, load_dataset
from leanspike.data.named import DATASETS, Source
from leanspike.data.small import synthetic
from leanspike.errors import DataError

Image = pytest.importorskip("PIL.Image")

WITHOUT_FILES = [name for name in DATASETS if name == "digits" or name.startswith("synthetic")]
WITH_FILES = [name for name in DATASETS if name not in WITHOUT_FILES]


def pixels(split):
    images, _ = split.batch(torch.arange(len(split)))
    return images


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_every_data_set_keeps_the_contract(name):
    data = load_dataset(name)
    assert data.name == name
    assert len(data.mean) == len(data.std) == data.shape[0]
    for split in (data.train, data.val, data.test):
        assert split.shape == data.shape
        images, labels = split.batch(torch.tensor([0, len(split) - 1]))
        assert images.dtype == torch.uint8
        assert images.shape == (2, *data.shape)
        assert torch.equal(labels, split.labels[[0, -1]])
        assert split.labels.min() >= 0
        assert split.labels.max() < len(data.classes)
    assert torch.equal(data.train.labels.unique(), torch.arange(len(data.classes)))


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_validation_images_are_training_images_held_out(name):
    whole, parts = load_dataset(name, validation=0), load_dataset(name)
    assert len(whole.val) == 0
    assert len(parts.val) == round(len(whole.train) / 10)

    def multiset(*splits):
        return sorted(image.tobytes() for split in splits for image in pixels(split).numpy())

    assert multiset(parts.train, parts.val) == multiset(whole.train)
    assert torch.equal(pixels(parts.test), pixels(whole.test))
    assert (parts.mean, parts.std) == (whole.mean, whole.std)


def test_the_split_is_the_same_whatever_the_seed():
    torch.manual_seed(1)
    first = load_dataset("digits")
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(pixels(first.val), pixels(load_dataset("digits").val))


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_computed_constants_standardise_the_training_images(name):
    data = load_dataset(name, validation=0)
    values = pixels(data.train).numpy() / 255
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        assert abs(values[:, channel].mean() - mean) < 1e-4
        assert abs(values[:, channel].std() - std) < 1e-4


def test_synthetic_images_take_a_size():
    assert load_dataset("synthetic", options={"image_size": 12}).shape == (3, 12, 12)
    assert load_dataset("synthetic_grey").shape == (1, 28, 28)
    assert len(load_dataset("synthetic_100").classes) == 100


def test_a_data_set_is_frozen():
    with pytest.raises(FrozenInstanceError):
        load_dataset("digits").name = "letters"


def test_the_root_is_the_one_given_or_the_environments_or_data(monkeypatch, tmp_path):
    roots = []

    def read(root):
        roots.append(root)
        return synthetic((1, 4, 4))

    monkeypatch.setitem(DATASETS, "mine", lambda: Source(read))
    monkeypatch.setenv("LEANSPIKE_DATA", str(tmp_path))
    load_dataset("mine", Path("given"))
    load_dataset("mine")
    monkeypatch.setenv("LEANSPIKE_DATA", "")
    load_dataset("mine")
    monkeypatch.delenv("LEANSPIKE_DATA")
    load_dataset("mine")
    assert roots == [Path("given"), tmp_path, Path("data"), Path("data")]


@pytest.mark.parametrize("name", WITH_FILES)
def test_missing_files_are_one_line_with_place_and_remedy(name, tmp_path):
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "LEANSPIKE_DATA" in message
    assert "http" in message or name in ("image_folder", "tensors", "webdataset")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match=r"unknown data set 'cifar-10'; did you mean 'cifar10'\?"):
        load_dataset("cifar-10")
    with pytest.raises(DataError, match=r"unknown data set 'xyz'; known: digits, mnist, "):
        load_dataset("xyz")


@pytest.mark.parametrize("validation", [-1, 1438])
def test_a_validation_part_that_does_not_fit_is_refused(validation):
    with pytest.raises(DataError, match=rf"validation is {validation}; give 0\.\.1437 of the 1438"):
        load_dataset("digits", validation=validation)


def test_an_option_that_the_data_set_does_not_know_is_refused_with_those_it_knows():
    with pytest.raises(DataError, match="data set digits has no option 'image_size'; it has none"):
        load_dataset("digits", options={"image_size": 8})
    known = "image_size, channels, skip_bad"
    with pytest.raises(DataError, match=f"image_folder has no option 'size'; valid are {known}$"):
        load_dataset("image_folder", options={"size": 8})


def test_an_image_folder_is_split_too(tmp_path):
    for part, count in (("train", 10), ("val", 2)):
        for label in range(2):
            (tmp_path / part / str(label)).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (8, 8), (index, label, part == "val"))
                image.save(tmp_path / part / str(label) / f"{index}.png")
    data = load_dataset("image_folder", tmp_path, options={"image_size": 8}, validation=4)
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 4)
    assert data.val.labels.tolist() == [0, 0, 1, 1]
    whole = load_dataset("image_folder", tmp_path, options={"image_size": 8}, validation=0)
    assert data.mean == channel_statistics(whole.train)[0]
    assert data.mean[2] == 0.0
    assert data.std[2] == 1.0  # of a channel that is empty
    seen = {
        tuple(image[:, 0, 0].tolist())
        for split in (data.train, data.val)
        for image in pixels(split)
    }
    assert seen == {(index, label, 0) for index in range(10) for label in range(2)}
    assert pixels(data.test)[:, 2].eq(1).all()


def write_folder(root, count=10, colour=lambda index: index):
    for label in range(2):
        (root / str(label)).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (8, 8), colour(index)).save(root / str(label) / f"{index}.png")


def test_constants_of_files_are_measured_on_a_fixed_sample(tmp_path, monkeypatch):
    write_folder(tmp_path)
    every = load_dataset("image_folder", tmp_path)
    assert every.shape == (1, 8, 8)
    monkeypatch.setattr(images, "MEASURED", 4)
    first, again = (load_dataset("image_folder", tmp_path) for _ in range(2))
    assert (first.mean, first.std) == (again.mean, again.std) != (every.mean, every.std)
    given = load_dataset("image_folder", tmp_path, mean=(0.5,), std=(0.25,))
    assert (given.mean, given.std) == ((0.5,), (0.25,))


def test_images_without_a_difference_are_refused(tmp_path):
    write_folder(tmp_path, colour=lambda _: 7)
    with pytest.raises(DataError, match=r"all 16 training images .* have one and the same colour"):
        load_dataset("image_folder", tmp_path)


def test_validation_images_of_ones_own_validate_unless_a_number_is_given(tmp_path):
    for part in ("train", "val", "test"):
        write_folder(tmp_path / part)
    data = load_dataset("image_folder", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (20, 20, 20)
    data = load_dataset("image_folder", tmp_path, validation=4)
    assert (len(data.train), len(data.val)) == (16, 4)
    assert data.notes == ("validation is 4 training images; val is left out",)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_a_root_that_is_not_read_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=rf"root is {tmp_path}, and {name} reads no files; leave"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "data set image_folder: channels is 2: Input should be 1 or 3"),
        ({"image_size": 0}, "data set image_folder: image_size is 0: Input should be greater than"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_dataset("image_folder", tmp_path, options=options)


def test_a_data_set_is_described_in_one_line():
    described = describe(load_dataset("synthetic"))
    assert described.startswith(
        "synthetic: images of 3x32x32 (colour), 10 classes; 576 train, 64 validate, 160 test; mean "
    )
    assert "\n" not in described


def test_statistics_are_per_channel():
    split = synthetic((3, 4, 4), train=6).train
    split.images[:, 1] = 0
    split.images[:, 2] = 255
    mean, std = channel_statistics(split)
    assert mean[1:] == (0.0, 1.0)
    assert std[1:] == (0.0, 0.0)


def digest(split):
    return hashlib.sha256(pixels(split).numpy().tobytes()).hexdigest()[:16]


def test_real_cifar10_has_the_stated_constants(real_root):
    data = load_dataset("cifar10", real_root("cifar-10-batches-bin"))
    assert (len(data.train), len(data.val), len(data.test)) == (45000, 5000, 10000)
    assert data.val.labels.bincount().tolist() == [500] * 10
    whole = load_dataset("cifar10", real_root("cifar-10-batches-bin"), validation=0)
    for stated, found in zip((data.mean, data.std), channel_statistics(whole.train), strict=True):
        assert np.abs(np.subtract(stated, found)).max() < 2e-4


def test_real_mnist_keeps_its_validation_part(real_root):
    data = load_dataset("mnist", real_root("MNIST"))
    assert (len(data.train), len(data.val), len(data.test)) == (55000, 5000, 10000)
    assert digest(data.val) == "437d2fecac452e0e"
    whole = load_dataset("mnist", real_root("MNIST"), validation=0)
    assert channel_statistics(whole.train) == (data.mean, data.std)
