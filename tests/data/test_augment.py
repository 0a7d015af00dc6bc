"""Each augmentation against a search, image by image, over everything it may do."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from leanspike.data.augment import Augment
from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run.build import build_augment, open_data


def random_images(count, channels=3, height=6, width=5, seed=0):
    shape = (count, channels, height, width)
    return torch.randint(1, 256, shape, generator=Generator().manual_seed(seed)).byte()


def seeded(seed=0):
    return Generator().manual_seed(seed)


def shifted(image, down, right):
    """``image`` [C, H, W] moved, black moving in: a loop over pixels."""
    _, height, width = image.shape
    moved = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                moved[:, y, x] = image[:, y - down, x - right]
    return moved


def test_a_crop_is_a_uniform_shift_over_black():
    padding, count = 2, 3000
    image = random_images(1)[0]
    moves = [(y, x) for y in range(-padding, padding + 1) for x in range(-padding, padding + 1)]
    choices = torch.stack([shifted(image, *move) for move in moves])
    cropped = Augment(crop=padding)(image.expand(count, -1, -1, -1), seeded())
    matches = (cropped[:, None] == choices).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * count
    frequency = matches.double().mean(0)
    assert (frequency - 1 / 25).abs().max() < 4 * (0.04 * 0.96 / count) ** 0.5


def test_a_reflected_crop_is_a_uniform_window_of_torchs_reflection():
    padding, count = 2, 3000
    image = random_images(1)
    around = F.pad(image.double(), (padding,) * 4, mode="reflect").byte()[0]
    choices = torch.stack([around[:, y : y + 6, x : x + 5] for y in range(5) for x in range(5)])
    cropped = Augment(crop=padding, border="reflect")(image.expand(count, -1, -1, -1), seeded())
    matches = (cropped[:, None] == choices).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * count
    frequency = matches.double().mean(0)
    assert (frequency - 1 / 25).abs().max() < 4 * (0.04 * 0.96 / count) ** 0.5


def test_borders_differ_only_beside_the_image():
    images = random_images(50)
    black = Augment(crop=3)(images, seeded())
    reflected = Augment(crop=3, border="reflect")(images, seeded())
    inside = black != 0
    assert torch.equal(black[inside], reflected[inside])
    assert (reflected != 0).all()
    assert not inside.all()


def test_images_too_small_to_be_reflected_are_refused_and_the_advice_works():
    images = random_images(2)  # 6x5
    says = "crop is 5, and an image of 6x5 reflects .*; give a crop below 5, or border='black'"
    with pytest.raises(LeanspikeError, match=says):
        Augment(crop=5, border="reflect")(images, seeded())
    for works in (Augment(crop=4, border="reflect"), Augment(crop=5)):
        assert works(images, seeded()).shape == images.shape
    with pytest.raises(LeanspikeError, match="border is 'white'; give 'black' or 'reflect'"):
        Augment(border="white")


def test_a_recipe_asks_for_reflection_and_is_told_before_training():
    recipe = load_recipe("digits", ["data.augment={crop: 7, border: reflect}"])
    data = open_data(recipe)
    assert build_augment(recipe.data.augment, data) == Augment(crop=7, border="reflect")
    large = recipe.data.augment.model_copy(update={"crop": 8})
    with pytest.raises(LeanspikeError, match="crop is 8, and an image of 8x8 reflects fewer"):
        build_augment(large, data)


def test_every_image_of_a_batch_is_its_own():
    images = random_images(50)
    cropped = Augment(crop=1)(images, seeded())
    moves = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for before, after in zip(images, cropped, strict=True):
        assert sum(torch.equal(after, shifted(before, *move)) for move in moves) == 1


def test_a_flip_mirrors_half_of_the_images():
    images = random_images(2000, height=3, width=4)
    flipped = Augment(flip=True)(images, seeded())
    mirrored = 0
    for before, after in zip(images.tolist(), flipped.tolist(), strict=True):
        mirror = [[row[::-1] for row in channel] for channel in before]
        assert after in (before, mirror)
        mirrored += after == mirror
    assert abs(mirrored / 2000 - 0.5) < 4 * 0.5 / 2000**0.5


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_blackens_a_square_around_a_uniform_pixel(side):
    count, height, width = 3000, 6, 5
    images = random_images(count)
    expected = {}
    for y in range(height):
        for x in range(width):
            black = torch.zeros(height, width, dtype=torch.bool)
            for row in range(y - side // 2, y - side // 2 + side):
                for column in range(x - side // 2, x - side // 2 + side):
                    if 0 <= row < height and 0 <= column < width:
                        black[row, column] = True
            expected[y, x] = black
    cut = Augment(cutout=side)(images, seeded())
    black = cut.eq(0)
    assert torch.equal(cut, images.masked_fill(black, 0))
    matches = (black[:, :1] == torch.stack(list(expected.values()))).flatten(2).all(2)
    assert matches.any(1).all()
    assert black.eq(black[:, :1]).all()  # the same square in every channel
    areas = torch.tensor([mask.sum() for mask in expected.values()]).double()
    area = black[:, 0].flatten(1).sum(1).double()
    assert (area.mean() - areas.mean()).abs() <= 4 * areas.std() / count**0.5 + 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_a_flip_keeps_the_pixels_of_every_row(seed, channels, height, width):
    images = random_images(4, channels, height, width, seed=1)
    flipped = Augment(flip=True)(images, seeded(seed))
    assert torch.equal(flipped.sort(dim=3).values, images.sort(dim=3).values)


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 9))
def test_crop_and_cutout_only_take_pixels_away(seed, crop, cutout):
    images = random_images(4, seed=1)
    for augment in (Augment(crop=crop), Augment(cutout=cutout)):
        result = augment(images, seeded(seed))
        assert result.dtype == torch.uint8
        assert result.shape == images.shape
        for before, after in zip(images, result, strict=True):
            before_counts = before.flatten().bincount(minlength=256)[1:]
            after_counts = after.flatten().bincount(minlength=256)[1:]
            assert (after_counts <= before_counts).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.booleans(), st.integers(0, 4))
def test_it_is_a_function_of_images_and_generator(seed, crop, flip, cutout):
    images = random_images(4)
    before = images.clone()
    augment = Augment(crop, flip, cutout)
    first = augment(images, seeded(seed))
    torch.manual_seed(seed + 1)
    assert torch.equal(first, augment(images, seeded(seed)))
    assert torch.equal(images, before)


def test_without_any_part_it_is_the_identity():
    images = random_images(4)
    generator = seeded()
    before = generator.get_state()
    assert torch.equal(Augment()(images, generator), images)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("name", ["crop", "cutout"])
def test_a_negative_number_of_pixels_is_refused(name):
    with pytest.raises(LeanspikeError, match=f"{name} is -1; give a number of pixels, or 0"):
        Augment(**{name: -1})
