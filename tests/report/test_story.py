"""The figures of the training and of one image; reading the log."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Example, Result
from leanspike.report import story

History = list[dict[str, object]]


def words(svg: str) -> list[str]:
    """The texts of a figure, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def epoch(stage: str = "ann", **changes: object) -> dict[str, object]:
    return {
        "event": "epoch",
        "stage": stage,
        "epoch": 1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "val_accuracy": None,
        **changes,
    }


def test_other_events_are_skipped_and_stages_kept_in_order() -> None:
    history = [{"event": "start"}, epoch("z"), {}, epoch("a"), {"event": "done", "stage": "a"}]
    assert list(story.read_epochs(history)) == ["z", "a"]


def test_a_resumed_epoch_counts_once() -> None:
    history = [epoch(), epoch(epoch=2, train_loss=9.0), epoch(epoch=2, train_loss=0.5)]
    assert [e.train_loss for e in story.read_epochs(history)["ann"]] == [1.0, 0.5]


def test_a_damaged_entry_is_one_line() -> None:
    message = r"^entry 2 of the history: train_loss: .*valid number.*; an epoch has stage"
    with pytest.raises(LeanspikeError, match=message) as error:
        story.read_epochs([epoch(), epoch(train_loss="high")])
    assert "\n" not in str(error.value)


def test_one_column_per_stage(make_history: Callable[[dict[str, int]], History]) -> None:
    stages = story.read_epochs(make_history({"ann": 30, "snn T=5": 3, "snn T=2": 1}))
    shown = words(story.training_figure(stages))
    assert {"ANN", "SNN T=5", "SNN T=2", "training data", "held-out data"} <= set(shown)


def test_nothing_held_out_and_a_loss_that_exploded() -> None:
    history = [epoch(), epoch(epoch=2, train_loss=math.nan), epoch(epoch=3, train_loss=math.inf)]
    shown = words(story.training_figure(story.read_epochs(history)))
    assert "held-out data" not in shown


def test_many_stages_with_long_names() -> None:
    history = [epoch(f"stage number {n} with a long name") for n in range(8)]
    shown = words(story.training_figure(story.read_epochs(history)))
    assert shown.count("stage numb…") == 8
    assert shown.count("1") == 8  # one tick each: the only epoch


def test_the_right_class_is_shown_even_if_unlikely(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], classes=tuple(f"class {k}" for k in range(1000)), timesteps=2)
    assert result.example is not None
    chances = tuple(0.5 if k == 7 else 0.5 / 999 for k in range(1000))
    example = result.example.model_copy(update={"label": 999, "probabilities": (chances,) * 2})
    shown = words(story.example_figure(result, example))
    assert "✓ class 999" in shown
    assert "Label: class 999" in shown
    assert shown.count("50 %") == 2
    assert sum(word.startswith(("class", "✓")) for word in shown) == 5


def test_two_classes_and_a_layer_without_spikes(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], classes=("no", "yes"), timesteps=1)
    assert result.example is not None
    silent = result.example.rasters[0].model_copy(update={"spikes": (), "shown": 1})
    example = result.example.model_copy(update={"rasters": (silent,)})
    assert {"relu", "no", "✓ yes"} <= set(words(story.example_figure(result, example)))


def test_every_spike_is_a_dash(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    assert result.example is not None
    raster = result.example.rasters[0]
    bare = result.example.model_copy(update={"rasters": ()})
    ink = {
        name: story.example_figure(result, example).count("\nL ")
        for name, example in (("with", result.example), ("without", bare))
    }
    assert ink["with"] - ink["without"] == pytest.approx(len(raster.spikes), abs=8)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_any_channels(make_result: Callable[..., Result], channels: int) -> None:
    result = make_result(["relu"], channels=channels)
    assert result.example is not None
    assert "data:image/png" in story.example_figure(result, result.example)


def test_at_most_ten_layers_are_drawn(make_result: Callable[..., Result]) -> None:
    result = make_result([f"relu{index}" for index in range(11)])
    example = result.example
    assert isinstance(example, Example)
    shown = [word for word in words(story.example_figure(result, example)) if "relu" in word]
    assert len(shown) == 10
    assert (shown[0], shown[-1]) == ("relu0", "relu10")
