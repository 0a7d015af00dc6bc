import numpy as np
import pytest
import torch

from leanspike.data.small import read_digits, synthetic
from leanspike.errors import DataError


def everything(split):
    return split.batch(torch.arange(len(split)))


def test_digits_are_scikit_learns_on_the_full_range():
    datasets = pytest.importorskip("sklearn.datasets")
    parts = read_digits()
    images = torch.cat([everything(parts.train)[0], everything(parts.test)[0]])
    assert (images.min(), images.max()) == (0, 255)
    ours = sorted(image.tobytes() for image in images.numpy().astype(np.float64) * 16 / 255)
    theirs = datasets.load_digits().images
    assert len(ours) == len(theirs) == 1797
    rounded = sorted(np.round(np.frombuffer(image), 0).tobytes() for image in ours)
    assert rounded == sorted(image.tobytes() for image in theirs)


def test_digits_test_set_is_a_stratified_fifth():
    parts = read_digits()
    train, test = parts.train.labels.bincount(), parts.test.labels.bincount()
    assert (test - (train + test) / 5).abs().max() < 1
    assert test.sum() == 359


def nearest_class_mean_accuracy(parts):
    images, labels = everything(parts.train)
    means = torch.stack([images[labels == k].double().mean(0) for k in range(len(parts.classes))])
    images, labels = everything(parts.test)
    distances = torch.cdist(images.double().flatten(1), means.flatten(1))
    return (distances.argmin(1) == labels).double().mean()


@pytest.mark.parametrize(("shape", "classes"), [((3, 32, 32), 100), ((1, 28, 28), 10)])
def test_synthetic_images_can_be_learnt(shape, classes):
    assert nearest_class_mean_accuracy(synthetic(shape, classes)) > 0.9


def test_synthetic_images_are_deterministic_and_of_the_shape_asked_for():
    first, again = (synthetic((2, 5, 7), classes=3, train=8, test=4) for _ in range(2))
    for left, right in ((first.train, again.train), (first.test, again.test)):
        assert torch.equal(left.images, right.images)
    assert first.train.shape == (2, 5, 7)
    assert (len(first.train), len(first.test), first.classes) == (8, 4, ("0", "1", "2"))
    assert not torch.equal(first.train.images[:4], first.test.images)


@pytest.mark.parametrize("wrong", [{"shape": (3, 0, 8)}, {"classes": 0}, {"train": -1}])
def test_a_size_below_one_is_refused(wrong):
    with pytest.raises(DataError, match="give 1 or more of each"):
        synthetic(**wrong)
