"""The package's corruptions as a split: an image as it always is, NumPy's generator left alone."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from leanspike.data import synthetic
from leanspike.data.common_corruptions import COMMON_CORRUPTIONS, CommonCorruptedSplit
from leanspike.data.split import TensorSplit
from leanspike.errors import LeanspikeError


def images(count=6):
    return synthetic((3, 32, 32), test=count).test


@pytest.fixture
def package(monkeypatch):
    """In place of the package: the image, and what it was asked for."""
    calls = []

    def corrupt(image, severity, name, **rest):
        calls.append((severity, name, rest, np.random.randint(2**31)))
        return image + np.uint8(severity)

    monkeypatch.setitem(sys.modules, "imagecorruptions", SimpleNamespace(corrupt=corrupt))
    return calls


def test_each_image_goes_through_the_package_with_a_seed_of_its_own(package):
    split = images()
    corrupted = CommonCorruptedSplit(split, "fog", 3)
    found, labels = corrupted.batch(torch.arange(6))
    assert torch.equal(found, split.images + 3)
    assert found.is_contiguous()
    assert torch.equal(labels, split.labels)
    first = list(package)
    assert len({draw for *_, draw in first}) == 6
    package.clear()
    corrupted.select(torch.tensor([4, 2])).batch(torch.tensor([1, 0]))
    assert package == [first[2], first[4]]


def test_the_two_with_a_generator_of_their_own_are_told_the_seed(package):
    for name in ("glass_blur", "impulse_noise", "frost"):
        CommonCorruptedSplit(images(), name, 1, seed=5).batch(torch.tensor([3]))
    seeds = [rest.get("seed") for _, _, rest, _ in package]
    assert seeds[0] == seeds[1] is not None
    assert seeds[2] is None


def test_numpys_generator_goes_on_as_if_nothing_had_happened(package):
    np.random.seed(1)
    expected = np.random.randint(1000, size=4)
    np.random.seed(1)
    CommonCorruptedSplit(images(), "fog", 1).batch(torch.arange(3))
    assert np.array_equal(np.random.randint(1000, size=4), expected)
    assert len(package) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "rain"}, "no common corruption 'rain'; did you mean '"),
        ({"severity": 0}, "severity is 0; give 1, 2, 3, 4 or 5"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"split": synthetic((1, 32, 32)).test}, "images are [1, 32, 32]; the common corruptions"),
        ({"split": synthetic((3, 32, 31)).test}, "images are [3, 32, 31]; the common corruptions"),
    ],
)
def test_errors(change, message):
    arguments = {"split": images(), "name": "fog", "severity": 1} | change
    with pytest.raises(LeanspikeError) as error:
        CommonCorruptedSplit(**arguments)
    assert str(error.value).startswith(message)


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(LeanspikeError, match=r"not installed; pip install 'leanspike\[corr"):
        CommonCorruptedSplit(images(), "fog", 1).batch(torch.arange(1))


def test_opencv_does_not_load(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "imagecorruptions", raising=False)
    (tmp_path / "imagecorruptions.py").write_text("raise ImportError('libGL.so.1: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LeanspikeError, match=r"does not load \(libGL\.so\.1: not found\); install"):
        CommonCorruptedSplit(images(), "fog", 1).batch(torch.arange(1))


@pytest.mark.parametrize("name", COMMON_CORRUPTIONS)
def test_the_package_itself(name):
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    grey = torch.linspace(0, 200, 32 * 32).view(1, 1, 32, 32)
    smooth = torch.cat([grey, grey + 20, 230 - grey], dim=1).byte().expand(2, -1, -1, -1)
    split = TensorSplit(smooth.contiguous(), torch.arange(2))
    whole, _ = CommonCorruptedSplit(split, name, 3, seed=1).batch(torch.arange(2))
    assert whole.shape == smooth.shape
    assert not torch.equal(whole, smooth)
    again, _ = CommonCorruptedSplit(split, name, 3, seed=1).batch(torch.tensor([1]))
    assert torch.equal(again[0], whole[1])


def test_the_names_are_the_packages():
    package = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    assert set(COMMON_CORRUPTIONS) == set(package.corruption_dict)
