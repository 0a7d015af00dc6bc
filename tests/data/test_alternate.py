"""Flips that take turns: over two epochs every image both ways, whoever loads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from leanspike.data import Augment, EventAugment, Loader, TensorSplit
from leanspike.data.alternate import mirrored_in
from leanspike.distributed import Group
from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run.build import build_augment, open_data

COUNT = 70  # 10 batches of 7


def arrows(*steps: int) -> TensorSplit:
    """Images that are lit on the left alone, and whose labels are their numbers."""
    pixels = torch.zeros(COUNT, *steps, 1, 2, 2, dtype=torch.uint8)
    pixels[..., 0] = 255
    return TensorSplit(pixels, torch.arange(COUNT))


def load(
    epoch: int,
    *,
    batch_size: int = 7,
    start: int = 0,
    augment: Any = None,
    steps: tuple[int, ...] = (),
    **how: Any,
) -> dict[int, bool]:
    """Which images an epoch shows mirrored, by their numbers."""
    loader = Loader(
        arrows(*steps),
        batch_size=batch_size,
        **{"mean": (0.0,), "std": (1.0,), "seed": 3, "train": True, **how},
        augment=augment or Augment(flip="alternate"),
    )
    found: dict[int, bool] = {}
    for images, labels in loader.epoch(epoch, start):
        x = images.transpose(0, 1) if steps else images
        lit = x.flatten(1, -2).double().mean(1)  # the columns
        assert lit.sum(1).eq(1).all()
        pairs = zip(labels.tolist(), lit[:, 1].tolist(), strict=True)
        found |= {number: bool(right) for number, right in pairs}
    return found


def sides(found: dict[int, bool]) -> list[bool]:
    assert sorted(found) == list(range(COUNT))
    return [found[number] for number in range(COUNT)]


@pytest.mark.parametrize("first", [0, 1, 6, 200_000])
def test_two_epochs_in_a_row_show_every_image_both_ways(first: int) -> None:
    assert all(a != b for a, b in zip(sides(load(first)), sides(load(first + 1)), strict=True))
    assert sides(load(first)) == sides(load(first + 2))


def test_the_draws_of_the_images_are_fair_and_of_their_own() -> None:
    many = mirrored_in(torch.arange(100_000), 0, seed=0).double() - 0.5
    assert abs(many.mean()) < 4 * 0.5 / 100_000**0.5
    for apart in (1, 2, 3, 4, 8, 50):  # the numbers' bits leave no pattern
        assert abs((many[apart:] * many[:-apart]).mean()) < 4 * 0.25 / 100_000**0.5
    for seed in range(1, 5):
        other = mirrored_in(torch.arange(100_000), 0, seed=seed).double() - 0.5
        assert abs((many * other).mean()) < 4 * 0.25 / 100_000**0.5


def test_batch_sizes_and_the_place_of_resuming_change_no_side() -> None:
    whole = load(5)
    assert load(5, batch_size=1) == whole
    large, resumed = load(5, batch_size=64), load(5, start=4)
    assert (len(large), len(resumed)) == (64, COUNT - 28)
    for found in (large, resumed):
        assert found.items() <= whole.items()


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_processes_and_their_micro_batches_change_no_side(micro_batches: int) -> None:
    shares = [load(1, group=Group(rank, 2), micro_batches=micro_batches) for rank in range(2)]
    assert not set(shares[0]) & set(shares[1])
    assert sides(shares[0] | shares[1]) == sides(load(1))


@pytest.mark.parametrize("drop", [0.0, 1e-9])  # the second is drawn for whole batches
def test_recordings_take_turns_as_well(drop: float) -> None:
    augment = EventAugment(flip="alternate", drop=drop)
    whole = sides(load(2, augment=augment, steps=(3,)))
    assert whole == sides(load(2))
    parts = [load(3, augment=augment, steps=(3,), group=Group(rank, 3)) for rank in range(3)]
    assert sides(parts[0] | parts[1] | parts[2]) == [not side for side in whole]


def test_crop_and_cutout_draw_as_they_do_without_a_flip() -> None:
    split = TensorSplit(torch.randint(256, (8, 1, 5, 5), dtype=torch.uint8), torch.arange(8))

    def images(flip: bool | Literal["alternate"]) -> Tensor:
        how: dict[str, Any] = {"batch_size": 8, "mean": (0.0,), "std": (1.0,), "seed": 0}
        augment = Augment(crop=2, flip=flip)
        return next(Loader(split, train=True, augment=augment, **how).epoch(0))[0]

    plain, turned = images(False), images("alternate")
    pairs = zip(plain, turned, strict=True)
    either = [torch.equal(a, b) or torch.equal(a.flip(2), b) for a, b in pairs]
    assert all(either)
    assert not torch.equal(plain, turned)


class Own:
    """A user's augmentation, which knows nothing of numbers."""

    by_sample = True

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return images.flip(-1)


class OwnByNumber(Own):
    """One that wants them."""

    def for_images(self, numbers: Tensor, epoch: int, seed: int) -> Callable[..., Tensor]:
        assert (epoch, seed) == (4, 3)
        return lambda images, generator: torch.where(
            numbers.view(-1, 1, 1, 1) < 9, self(images, generator), images
        )


def test_augmentations_of_a_users_own_are_called_with_what_they_take() -> None:
    assert sides(load(4, augment=Own())) == [True] * COUNT
    assert sides(load(4, augment=OwnByNumber())) == [number < 9 for number in range(COUNT)]


@pytest.mark.parametrize(("augment", "steps"), [(Augment, ()), (EventAugment, (3,))])
def test_a_call_that_knows_no_numbers_is_refused_and_the_advice_works(
    augment: Any, steps: tuple[int, ...]
) -> None:
    pixels, generator = arrows(*steps).images, torch.Generator().manual_seed(0)
    says = r"flip is 'alternate', which goes by .*; call what for_images\(numbers, epoch, seed\)"
    with pytest.raises(LeanspikeError, match=says):
        augment(flip="alternate")(pixels, generator)
    made = augment(flip="alternate").for_images(torch.arange(COUNT), 0, 3)
    assert made(pixels, generator).shape == pixels.shape
    assert augment(flip=True)(pixels, generator).shape == pixels.shape
    with pytest.raises(LeanspikeError, match="flip is 'often'; give True, False or 'alternate'"):
        augment(flip="often")


def test_a_recipe_asks_for_it() -> None:
    recipe = load_recipe("digits", ["data.augment.flip=alternate"])
    assert recipe.data.augment.flip == "alternate"
    assert build_augment(recipe.data.augment, open_data(recipe)).flip == "alternate"
    with pytest.raises(LeanspikeError, match=r"data\.augment\.flip is 'sometimes'.*'alternate'"):
        load_recipe("digits", ["data.augment.flip=sometimes"])
