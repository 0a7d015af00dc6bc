"""Smaller images in the first epochs: what they are, who sees them, and who cannot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_average import stage_of, train
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.train import Monitor, Resolution

FLEXIBLE = (
    "model.options={layers: [8, A, 8], head: [], global_pool: true}",
    "ann.epochs=1",
    "snn=[{epochs: 1, timesteps: 2}]",
)


def means(image: Tensor, rows: int, columns: int) -> Tensor:
    """Each pixel is the mean of the pixels that its area touches: a loop."""
    height, width = image.shape
    found = torch.empty(rows, columns)
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, math.ceil((row + 1) * height / rows)
            left, right = column * width // columns, math.ceil((column + 1) * width / columns)
            found[row, column] = image[top:bottom, left:right].mean()
    return found


@pytest.mark.parametrize(("size", "small"), [(4, (4, 6)), (6, (6, 9)), (5, (5, 8)), (1, (1, 2))])
def test_a_pixel_is_the_mean_of_its_area(size: int, small: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    for layout in (torch.contiguous_format, torch.channels_last):
        found = Resolution(size=size).shrunk(x.contiguous(memory_format=layout))
        assert found.is_contiguous(memory_format=layout)
        assert found.shape == (2, 3, *small)
        torch.testing.assert_close(found[1, 2], means(x[1, 2], *small))


@pytest.mark.parametrize(
    ("until", "epochs", "small"), [(0.5, 4, 2), (0.5, 5, 3), (1.0, 3, 3), (0.3, 1, 0), (0.5, 1, 1)]
)
def test_the_first_epochs_have_them(until: float, epochs: int, small: int) -> None:
    resolution, x = Resolution(size=2, until=until), torch.zeros(1, 1, 4, 4)
    sides = [resolution.seen(x, epoch, epochs).shape[3] for epoch in range(epochs)]
    assert sides == [2] * small + [4] * (epochs - small)


@pytest.mark.parametrize("shape", [(2, 6), (3, 2, 1, 8, 8)])
def test_what_has_no_rows_and_columns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LeanspikeError, match=r"images \[N, C, H, W\], and the input is \["):
        Resolution(size=4).shrunk(torch.zeros(shape))


def spiking() -> ls.SpikingNetwork:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    return ls.spike(ann, example_input=torch.zeros(1, 1, 4, 4), norm="keep", timesteps=3)


def test_training_sees_them_also_when_resumed_and_validation_never(tmp_path: Path) -> None:
    def watched(file: str, schedule: Any = None) -> tuple[dict[str, Tensor], list[Any]]:
        network, seen = spiking(), []
        network.register_forward_pre_hook(
            lambda m, given: seen.append((m.training, given[0].shape[-1]))
        )
        changes = {} if schedule is None else {"schedule": schedule}
        how: dict[str, Any] = {"average": None, "epochs": 2, "select": "last", **changes}
        stage = stage_of(network, resolution=Resolution(size=2), **how)
        try:
            train(network, stage, tmp_path / file)
        except KeyboardInterrupt:
            return {}, seen
        return network.state_dict(), seen

    def stopping(step: int) -> float:
        if step == 2:
            raise KeyboardInterrupt
        return 1.0

    whole, seen = watched("whole.pt")
    validation = [(False, 4)] * 3  # 48 images of 16
    assert seen == [(True, 2)] * 4 + validation + [(True, 4)] * 4 + validation
    _, before = watched("part.pt", stopping)
    again, after = watched("part.pt")
    assert before + after == seen
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def make(folder: Path, *changes: str) -> Run:
    recipe = load_recipe("digits", [*FLEXIBLE, *changes])
    return Run(recipe, folder, Monitor(Console(quiet=True), folder))


@pytest.mark.parametrize("place", ["ann", "snn.0"])
def test_a_network_of_one_size_is_refused_and_the_advice_works(place: str, tmp_path: Path) -> None:
    fixed = "model.options={layers: [8, A, 8], head: []}"
    says = rf"{place}\.resolution\.size is 6, and smaller images fail \(.*\); leave resolution out,"
    with pytest.raises(LeanspikeError, match=says) as error:
        make(tmp_path / "a", fixed, f"{place}.resolution={{size: 6}}").begin()
    assert "\n" not in str(error.value)
    make(tmp_path / "b", f"{place}.resolution={{size: 6}}").begin()
    make(tmp_path / "c", fixed).begin()


def test_a_size_that_is_not_smaller_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    says = r"ann\.resolution\.size is 8, and the images are 8x8; give a size below that, or leave"
    with pytest.raises(LeanspikeError, match=says):
        make(tmp_path / "a", "ann.resolution={size: 8}").begin()
    make(tmp_path / "b", "ann.resolution={size: 7}").begin()


@pytest.mark.usefixtures("unrendered")
def test_a_recipe_trains_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrunk, seen = Resolution.shrunk, []
    monkeypatch.setattr(Resolution, "shrunk", lambda r, x: seen.append(len(x)) or shrunk(r, x))
    both = ("ann.resolution={size: 4}", "snn.0.resolution={size: 4}")
    small = make(tmp_path / "a", *both, "data.train_images=128", "spike.calibrate.images=64")
    assert small.recipe.ann is not None
    assert small.recipe.ann.resolution == Resolution(size=4, until=0.5)
    small.train()
    assert seen == [1, 1, 64, 64, 128]  # the rehearsal, and an epoch of each stage
    with pytest.raises(LeanspikeError, match=r"resolution\.size"):
        load_recipe("digits", ["ann.resolution={}"])
