"""Each augmentation against a search, recording by recording, over everything it may do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from leanspike.data.event_augment import EventAugment, random_drop
from leanspike.errors import LeanspikeError


def random_frames(count=4, steps=3, height=6, width=5, seed=0):
    shape = (count, steps, 2, height, width)
    return torch.randint(0, 256, shape, generator=Generator().manual_seed(seed)).byte()


def seeded(seed=0):
    return Generator().manual_seed(seed)


def shifted(frames, down, right):
    """``frames`` [T, C, H, W] moved, nothing moving in: a loop over pixels."""
    height, width = frames.shape[2:]
    moved = torch.zeros_like(frames)
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                moved[:, :, y, x] = frames[:, :, y - down, x - right]
    return moved


def test_a_shift_is_uniform_and_the_same_for_all_frames():
    most, count = 2, 2000
    frames = random_frames(1, steps=2)[0]
    moves = [(y, x) for y in range(-most, most + 1) for x in range(-most, most + 1)]
    choices = torch.stack([shifted(frames, *move) for move in moves])
    found = EventAugment(shift=most)(frames.expand(count, -1, -1, -1, -1), seeded())
    matches = (found[:, None] == choices).flatten(2).all(2)
    assert matches.sum(1).tolist() == [1] * count
    frequency = matches.double().mean(0)
    assert (frequency - 1 / 25).abs().max() < 4 * (0.04 * 0.96 / count) ** 0.5


def test_a_flip_mirrors_all_frames_of_half_of_the_recordings():
    frames = random_frames(1000, height=2, width=3)
    flipped = EventAugment(flip=True)(frames, seeded())
    mirrored = (flipped == frames.flip(4)).flatten(1).all(1)
    same = (flipped == frames).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert abs(mirrored.double().mean() - 0.5) < 4 * 0.5 / 1000**0.5


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("events", [1, 2, 200])
def test_a_drop_loses_each_event_with_its_probability(events, probability):
    """Mean and variance are those of events that are lost independently of each other."""
    count = 20_000
    counts = torch.full((count,), events, dtype=torch.uint8)
    kept = random_drop(counts, probability, seeded()).double()
    mean, variance = events * (1 - probability), events * probability * (1 - probability)
    assert abs(kept.mean() - mean) < 4 * (variance / count) ** 0.5
    fourth = variance * (1 + 3 * variance)  # at least the fourth moment about the mean
    assert abs(kept.var() - variance) < 4 * (fourth / count) ** 0.5


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.99))
def test_a_drop_only_takes_events_away(seed, probability):
    frames = random_frames(seed=1)
    kept = EventAugment(drop=probability)(frames, seeded(seed))
    assert kept.dtype == torch.uint8
    assert (kept <= frames).all()


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 9), st.sampled_from([0.0, 0.25]))
def test_it_is_a_function_of_frames_and_generator(seed, flip, shift, drop):
    frames = random_frames()
    before = frames.clone()
    augment = EventAugment(flip, shift, drop)
    first = augment(frames, seeded(seed))
    torch.manual_seed(seed + 1)
    assert torch.equal(first, augment(frames, seeded(seed)))
    assert torch.equal(frames, before)
    assert first.shape == frames.shape
    assert first.sum(dtype=torch.int64) <= frames.sum(dtype=torch.int64)


def test_without_any_part_it_is_the_identity():
    frames = random_frames()
    generator = seeded()
    before = generator.get_state()
    assert torch.equal(EventAugment()(frames, generator), frames)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": -1}, "shift is -1; give a number of pixels, or 0 for none"),
        ({"drop": 1.0}, r"drop is 1.0; give a probability, 0 or more and below 1"),
        ({"drop": -0.1}, r"drop is -0.1; give"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(LeanspikeError, match=message):
        EventAugment(**options)


def test_images_are_refused():
    with pytest.raises(LeanspikeError, match=r"uint8 \[1, 2, 4, 4]; give torch.uint8 \[B, T, C, H"):
        EventAugment()(torch.zeros(1, 2, 4, 4).byte(), seeded())
