"""Runs of networks whose first weights come from training images: once, and always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from leanspike.data import load_dataset, normalise
from leanspike.data.split import TensorSplit
from leanspike.errors import LeanspikeError
from leanspike.models import create_model, whitening_filters
from leanspike.recipes import load_recipe
from leanspike.run import Run, first_weights
from leanspike.run.first_weights import first_images, start_from_images
from leanspike.train import Checkpoints, Monitor, monitor

FIRST = "features.conv1.weight"
SIZE = 25
CHANGES = (
    *("data={name: synthetic_grey, options: {image_size: 25}, train_images: 64, validation: 40}",),
    *("model={name: airbench94, options: {width: 0.0625}}", "spike.calibrate=null"),
    "ann={epochs: 2, batch_size: 16, learning_rate: 0.5, bias_learning_rate: 2.0, select: last}",
    "snn=[{epochs: 1, batch_size: 16, learning_rate: 0.1, timesteps: 2}]",
    *("spike.timesteps=2", "device=cpu", "precision=float32"),
)


def make(folder: Path, *changes: str, ann_of: Path | None = None) -> Run:
    folder.mkdir(exist_ok=True)  # as begin does
    recipe = load_recipe("digits", [*CHANGES, *changes])
    return Run(recipe, folder, Monitor(Console(quiet=True), folder), ann_of=ann_of)


def train(run: Run) -> None:
    run.train_ann()
    run.convert()
    run.train_snn()


def weights(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.glob("*/model.safetensors")}


def whitened(run: Run) -> Tensor:
    """The filters of the first layer, by the run's own training images, none held out."""
    split = run.data.train
    assert len(split) == 64
    pixels, _ = split.batch(torch.arange(64))
    filters = whitening_filters(normalise(pixels, run.data.mean, run.data.std))
    return torch.cat((filters, -filters))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(make(folder))
    return folder


def test_the_first_layer_of_both_networks_whitens_the_training_images(whole: Path) -> None:
    run = make(whole)
    for name in ("ann", "start", "snn"):
        network = run.load(name)
        assert torch.equal(network.get_parameter(FIRST), whitened(run)), name
        assert not network.get_parameter(FIRST).requires_grad
    assert run.load("ann").get_parameter("features.conv1.bias").any()  # that one is trained


@pytest.mark.parametrize(("at", "there"), [(3, []), (13, ["ann", "start"])])
def test_a_run_that_is_killed_ends_with_the_same_bits(
    at: int, there: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_tensorboard", lambda _: None)

    class Killed(BaseException):
        """Nothing in leanspike catches it."""

    save, saved = Checkpoints.save, list[int]()

    def killed(self: Checkpoints, *what: Any) -> None:
        save(self, *what)
        saved.append(1)
        if len(saved) - 1 == at:
            raise Killed

    changes = "checkpoint_minutes=0.000001"
    run = make(tmp_path, changes)
    with patch.object(Checkpoints, "save", killed), pytest.raises(Killed):
        train(run)
    assert sorted(file.parent.name for file in tmp_path.glob("*/model.safetensors")) == there
    train(make(tmp_path, changes))
    assert weights(tmp_path) == weights(whole)


def test_the_ann_of_another_run_is_taken_over_as_it_is(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make(tmp_path / "other")
    other.begin()
    other.train_ann()
    monkeypatch.setattr(first_weights, "first_images", None)  # nobody asks for images
    make(tmp_path / "taker", ann_of=tmp_path / "other").train_ann()
    found = weights(tmp_path / "taker")["ann/model.safetensors"]
    assert found == weights(whole)["ann/model.safetensors"]


def test_an_snn_from_scratch_begins_with_them(tmp_path: Path) -> None:
    run = make(tmp_path, "spike.start=scratch", "ann=null")
    run.train_ann()
    run.convert()
    assert not (tmp_path / "ann").exists()
    assert torch.equal(run.load("start").get_parameter(FIRST), whitened(run))
    run = make(tmp_path / "neither", "ann=null")  # there is no ANN to start from
    run.train_ann()
    run.convert()
    assert torch.equal(run.load("start").get_parameter(FIRST), whitened(run))


def test_given_weights_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_weights, "first_images", None)  # nobody asks for images
    torch.manual_seed(5)
    theirs = create_model("airbench94", 10, in_channels=1, image_size=SIZE, width=0.0625)
    torch.save(theirs.state_dict(), file := tmp_path / "theirs.pt")
    run = make(tmp_path / "run", f"model.weights={file}")
    run.train_ann()
    assert torch.equal(run.load("ann").get_parameter(FIRST), theirs.features.conv1.weight)


def test_large_images_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("synthetic_grey")
    assert len(first_images(data)) == len(data.train) == 576
    monkeypatch.setattr(first_weights, "IMAGES", 50)
    assert len(first_images(data)) == 50
    monkeypatch.setattr(first_weights, "VALUES", 28 * 28 * 3 + 1)
    assert len(first_images(data)) == 3
    monkeypatch.setattr(first_weights, "VALUES", 1)
    x = first_images(data)
    assert torch.equal(x, normalise(data.train.batch(torch.arange(1))[0], data.mean, data.std))


def test_sequences_are_images_one_by_one() -> None:
    pixels = torch.arange(3 * 2 * 4, dtype=torch.uint8).reshape(3, 2, 1, 2, 2)
    split = TensorSplit(pixels, torch.tensor([0, 1, 0]))
    data = replace(
        load_dataset("synthetic_grey"),
        shape=(1, 2, 2),
        frames=2,
        train=split,
        mean=(0.0,),
        std=(1 / 255,),
    )
    x = first_images(data)
    assert x.shape == (6, 1, 2, 2)
    assert sorted(map(float, x[:, 0, 0, 0])) == pytest.approx([0, 4, 8, 12, 16, 20])


class Own(nn.Module):
    """A network of a user's own, which takes images in its own way."""

    def __init__(self, take: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.take = take

    def start_from(self, x: Tensor) -> None:
        self.take(x)


def test_a_network_of_the_users_own_may_ask_and_its_faults_are_told() -> None:
    data, seen = load_dataset("synthetic_grey"), list[Tensor]()
    assert start_from_images(Own(seen.append), data)
    assert [x.shape for x in seen] == [(576, 1, 28, 28)]
    assert not start_from_images(nn.Linear(1, 1), data)
    with pytest.raises(LeanspikeError) as error:
        start_from_images(Own(lambda x: x.view(-1, 7, 7, 7) and None), data)
    said = str(error.value)
    assert said.startswith("Own.start_from failed on [576, 1, 28, 28] of synthetic_grey (")
    assert said.endswith("); mend it there")
    assert "\n" not in said
    colour = create_model("airbench94", 2, width=0.0625)
    with pytest.raises(LeanspikeError, match="x has 1 channels, and the network takes 3"):
        start_from_images(colour, data)

    def full(x: Tensor) -> None:
        raise MemoryError(len(x))

    with pytest.raises(MemoryError):
        start_from_images(Own(full), data)
