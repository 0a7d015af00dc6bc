"""Each corruption against NumPy, and what holds for all of them."""

import io
import sys

import numpy as np
import pytest
import torch

from leanspike.data import synthetic
from leanspike.data.corrupted import CorruptedSplit
from leanspike.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt
from leanspike.data.draws import Draws
from leanspike.data.loader import Loader
from leanspike.data.split import TensorSplit
from leanspike.errors import LeanspikeError

every = pytest.mark.parametrize("name", CORRUPTIONS)
RANDOM = ("gaussian", "salt_and_pepper", "background", "rotation", "translation", "occlusion")


def random_images(count=6, channels=3, height=12, width=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, height, width), generator=generator).byte()


def scene(count=1, size=32):
    """A long bright spot on a dark ground, in colour."""
    place = torch.linspace(-1, 1, size)
    spot = torch.exp(-((place[:, None] / 0.3) ** 2) - (place[None, :] / 0.8) ** 2)
    colors = torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    return (10 + 220 * spot * colors).byte().expand(count, -1, -1, -1).contiguous()


def strength(name, severity):
    return CORRUPTIONS[name].strengths[severity - 1]


def to_bytes(x):
    return np.round(np.clip(x, 0, 1) * 255)


def assert_within_a_level(found, expected):
    difference = np.abs(found.numpy().astype(float) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01  # where rounding meets a tie


# -- one by one --------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian(severity):
    images = random_images()
    noise = Draws(3, range(6)).normal(3, 12, 9).numpy()
    expected = to_bytes(images.numpy() / 255 + strength("gaussian", severity) * noise)
    assert_within_a_level(corrupt(images, "gaussian", severity, seed=3), expected)
    large = Draws(0, range(20)).normal(1, 64, 64)
    assert large.mean().abs() < 0.02
    assert large.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_salt_and_pepper(severity):
    images = torch.full((20, 3, 64, 64), 100, dtype=torch.uint8)
    found = corrupt(images, "salt_and_pepper", severity)
    assert torch.equal(found, found[:, :1].expand_as(found))  # all channels of a pixel
    share, pixels = strength("salt_and_pepper", severity), found[:, 0].numel()
    for level in (0, 255):
        expected = share / 2
        spread = (expected * (1 - expected) / pixels) ** 0.5
        assert (found[:, 0] == level).double().mean() == pytest.approx(expected, abs=4 * spread)
    assert set(found.unique().tolist()) == {0, 100, 255}


@pytest.mark.parametrize("severity", SEVERITIES)
def test_background(severity):
    images = random_images()
    noise = Draws(0, range(6)).uniform(3, 12, 9).numpy()
    shining = strength("background", severity) * noise
    expected = to_bytes(np.maximum(images.numpy() / 255, shining))
    assert_within_a_level(corrupt(images, "background", severity), expected)


def rotated(image, degrees):
    """``image`` [C, H, W] by bilinear interpolation, pixel by pixel; 0 outside."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            y, x = i - (height - 1) / 2, j - (width - 1) / 2
            row = cos * y - sin * x + (height - 1) / 2
            column = cos * x + sin * y + (width - 1) / 2
            if not (-1 < row < height and -1 < column < width):
                continue
            top, left = int(np.floor(row)), int(np.floor(column))
            down, right = row - top, column - left
            for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (down if a else 1 - down) * (right if b else 1 - right)
                out[:, i, j] += weight * padded[:, top + a + 2, left + b + 2]
    return out


@pytest.mark.parametrize("severity", SEVERITIES)
def test_rotation(severity):
    images = random_images(count=8)
    found = corrupt(images, "rotation", severity).numpy().astype(float)
    degrees = strength("rotation", severity)
    directions = []
    for image, turned in zip(images.numpy() / 255, found, strict=True):
        misses = [
            np.abs(turned - to_bytes(rotated(image, sign * degrees))).max() for sign in (1, -1)
        ]
        assert min(misses) <= 1
        directions.append(misses[0] < misses[1])
    assert 0 < sum(directions) < 8


def test_a_quarter_turn_is_exact(monkeypatch):
    quarter = Corruption(CORRUPTIONS["rotation"].apply, "degrees", (90,) * 5)
    monkeypatch.setitem(CORRUPTIONS, "rotation", quarter)
    images = random_images(height=8, width=8)
    for image, turned in zip(images, corrupt(images, "rotation", 1), strict=True):
        turns = [torch.rot90(image, k, (1, 2)) for k in (1, 3)]
        assert any((turned.int() - turn.int()).abs().max() <= 1 for turn in turns)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_translation(severity):
    images = random_images(count=40).clamp(min=1)
    found = corrupt(images, "translation", severity)
    share = strength("translation", severity)
    down, right = max(1, round(share * 12)), max(1, round(share * 9))
    seen = set()
    for image, moved in zip(images.numpy(), found.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (down, down), (right, right)))
        corners = [(y, x) for y in (0, 2 * down) for x in (0, 2 * right)]
        fits = [(y, x) for y, x in corners if (padded[:, y : y + 12, x : x + 9] == moved).all()]
        assert len(fits) == 1
        seen |= set(fits)
    assert len(seen) == 4


@pytest.mark.parametrize(("side", "pixels"), [(8, [1, 1, 1, 2, 2]), (18, [1, 2, 3, 4, 5])])
def test_a_translation_of_a_small_image_is_by_whole_pixels(side, pixels):
    white = torch.full((1, 1, side, side), 255, dtype=torch.uint8)
    moved = [(corrupt(white, "translation", severity) > 0).sum().item() for severity in SEVERITIES]
    assert moved == [(side - by) ** 2 for by in pixels]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_occlusion(severity):
    images = random_images(count=40).clamp(min=1)
    found = corrupt(images, "occlusion", severity)
    black = (found == 0).all(1)
    side = max(1, round(strength("occlusion", severity) * 9))
    assert black.sum((1, 2)).tolist() == [side**2] * 40
    assert torch.equal(found, images.masked_fill(black[:, None], 0))
    for square in black:
        rows, columns = square.nonzero().T
        assert rows.max() - rows.min() == columns.max() - columns.min() == side - 1
    assert len({tuple(square.nonzero()[0].tolist()) for square in black}) > 5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur(severity):
    images = random_images(count=2)
    deviation = strength("blur", severity)
    radius = int(np.ceil(3 * deviation))
    weights = np.exp(-((np.arange(-radius, radius + 1) / deviation) ** 2) / 2)
    weights /= weights.sum()
    x = np.pad(images.numpy() / 255, ((0, 0), (0, 0), (radius,) * 2, (radius,) * 2), "edge")
    for axis in (2, 3):
        x = np.apply_along_axis(np.convolve, axis, x, weights, "valid")
    assert_within_a_level(corrupt(images, "blur", severity), to_bytes(x))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_and_brightness(severity):
    images = random_images()
    x = images.numpy() / 255
    mean = x.mean((2, 3), keepdims=True)
    expected = mean + strength("contrast", severity) * (x - mean)
    assert_within_a_level(corrupt(images, "contrast", severity), to_bytes(expected))
    expected = x + strength("brightness", severity)
    assert_within_a_level(corrupt(images, "brightness", severity), to_bytes(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    image_module = pytest.importorskip("PIL.Image")
    images = scene(2)[:, :channels]
    for image, found in zip(images, corrupt(images, "jpeg", 4), strict=True):
        array = image.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        picture = image_module.fromarray(array if channels == 3 else array[:, :, 0])
        picture.save(file, "JPEG", quality=10)  # 4:2:0 is its default
        with image_module.open(file) as opened:
            expected = np.array(opened).reshape(array.shape)
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_jpeg_of_other_channels_and_without_pillow(monkeypatch):
    with pytest.raises(LeanspikeError, match="jpeg takes images of 1 or 3 channels, not 2; leave"):
        corrupt(random_images(channels=2), "jpeg", 1)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(LeanspikeError, match=r"Image is not installed; pip install 'leanspike\[vi"):
        corrupt(random_images(), "jpeg", 1)


# -- all of them -------------------------------------------------------------------------------


def test_there_are_ten_with_five_strengths_each_from_mild_to_hard():
    assert len(CORRUPTIONS) == 10
    for row in CORRUPTIONS.values():
        assert len(set(row.strengths)) == 5
        assert list(row.strengths) in (sorted(row.strengths), sorted(row.strengths)[::-1])
        assert row.strength


@every
def test_each_severity_changes_more(name):
    images = scene(24)
    changes = [
        (corrupt(images, name, severity).float() - images.float()).abs().mean().item()
        for severity in SEVERITIES
    ]
    assert changes[0] > 0.02
    assert changes == sorted(set(changes))


@every
def test_an_image_is_corrupted_alike_in_every_batch(name):
    images = random_images(count=7, height=16, width=11)
    for severity in (1, 5):
        whole = corrupt(images, name, severity, seed=5)
        parts = [
            corrupt(images[where], name, severity, 5, where)
            for where in torch.arange(7).split([1, 4, 2])
        ]
        assert torch.equal(whole, torch.cat(parts))
        order = torch.tensor([6, 2, 0])
        assert torch.equal(whole[order], corrupt(images[order], name, severity, 5, order))


@every
def test_it_is_a_function_of_images_seed_and_position(name):
    images = random_images()
    before = images.clone()
    found = corrupt(images, name, 3, seed=1)
    torch.manual_seed(2)
    assert torch.equal(found, corrupt(images, name, 3, seed=1))
    assert torch.equal(images, before)
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    same = images[:1].expand(6, -1, -1, -1)
    differ = not torch.equal(corrupt(same, name, 3), corrupt(same, name, 3, seed=1))
    alike = corrupt(same, name, 3)
    each_alike = all(torch.equal(image, alike[0]) for image in alike)
    assert (differ, each_alike) == ((True, False) if name in RANDOM else (False, True))


@every
def test_grey_images_and_the_smallest(name):
    for shape in ((1, 1, 8, 8), (2, 1, 1, 1), (1, 3, 2, 5)):
        images = torch.full(shape, 77, dtype=torch.uint8)
        assert corrupt(images, name, 5).shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gausian"}, "no corruption 'gausian'; did you mean 'gaussian'?"),
        ({"severity": 0}, "severity is 0; give 1, 2, 3, 4 or 5"),
        ({"severity": 6}, "severity is 6; give 1, 2, 3, 4 or 5"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        (
            {"images": torch.zeros(2, 3, 4, 4)},
            "images are torch.float32 [2, 3, 4, 4]; give torch.uint8 [B, C, H, W]",
        ),
        (
            {"images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)},
            "images are torch.uint8 [0, 3, 4, 4]; give torch.uint8 [B, C, H, W]",
        ),
        (
            {"positions": torch.arange(3)},
            "positions are [3]; give one for each of 6 images",
        ),
    ],
)
def test_errors(change, message):
    arguments = {"images": random_images(), "name": "gaussian", "severity": 1} | change
    with pytest.raises(LeanspikeError) as error:
        corrupt(**arguments)
    assert str(error.value) == message


# -- as a split --------------------------------------------------------------------------------


def test_a_corrupted_split_corrupts_what_a_batch_asks_for():
    images, labels = random_images(), torch.arange(6)
    split = CorruptedSplit(TensorSplit(images, labels), "occlusion", 2, seed=4)
    whole = corrupt(images, "occlusion", 2, seed=4)
    indices = torch.tensor([5, 1, 1])
    assert torch.equal(split.batch(indices)[0], whole[indices])
    assert split.batch(indices)[1].tolist() == [5, 1, 1]
    assert (len(split), split.shape) == (6, (3, 12, 9))
    part = split.select(torch.tensor([4, 2])).select(torch.tensor([1]))
    assert torch.equal(part.batch(torch.tensor([0]))[0], whole[2:3])
    with pytest.raises(LeanspikeError, match="no corruption 'fog'"):
        CorruptedSplit(TensorSplit(images, labels), "fog", 2)


def test_a_loader_reads_it():
    split = CorruptedSplit(synthetic((1, 8, 8), test=10).test, "contrast", 5)
    loader = Loader(split, batch_size=4, mean=(0.0,), std=(1.0,), seed=0, train=False)
    pixels = torch.cat([images for images, _ in loader.epoch(0)])
    expected = corrupt(split.split.batch(torch.arange(10))[0], "contrast", 5)
    assert torch.equal((pixels * 255).round().byte(), expected)
