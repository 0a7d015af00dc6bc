"""The tables of the terminal: 80 columns, no colour needed, no markup taken from names."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from leanspike.evaluate.result import Result
from leanspike.report import render_tables


def printed(result: Result, width: int = 80) -> list[str]:
    """The lines of the tables on a plain terminal."""
    console = Console(file=StringIO(), width=width, no_color=True)
    console.print(render_tables(result))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_small_result_word_for_word(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"], timesteps=2)
    neuron = result.neurons[0].model_copy(
        update={"spikes_per_step": (0.25, 0.5), "threshold": 0.8, "threshold_start": 2.1}
        | {"leak": 0.87, "leak_start": 1.0, "neurons": 32768}
    )
    energy = result.energy.model_copy(
        update={"ratio": 7.31, "formula_ratio": 9.06, "bntt_formula_ratio": 8.74}
        | {"spikes_per_neuron": 0.75}
    )
    result = result.model_copy(
        update={"neurons": (neuron,), "energy": energy, "accuracy": (0.887, 0.967)}
    )
    lines = printed(result)
    assert lines[:3] == [
        "digits-diet (digits)",
        "At 2 timesteps the SNN answers 96.7 % of 360 test images correctly (ANN: 98.1 %)",
        "and spends 7.3× less energy than the ANN.",
    ]
    table = [line.split() for line in lines]
    assert ["SNN", "88.7", "96.7"] in table
    assert ["ANN", "98.1"] in table
    assert ["relu", "32.8", "k", "0.75", "2.10", "→", "0.80", "1.00", "→", "0.87"] in table
    assert "Operations and energy of one image, T = 2" in lines
    assert [line.split() for line in lines[-2:]] == [
        ["by", "DIET-SNN's", "formula", "9.1×"],
        ["by", "BNTT's", "formula", "8.7×"],
    ]
    assert table[-3][-1] == "7.3×"


def test_a_formula_that_was_not_recorded_is_said_to_be(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    energy = result.energy.model_copy(update={"bntt_formula_ratio": None})
    lines = printed(result.model_copy(update={"energy": energy}))
    assert lines[-2].startswith("by DIET-SNN's formula")
    assert lines[-1] == "by BNTT's formula: not recorded when this was evaluated"


@pytest.mark.parametrize("timesteps", [1, 10, 30])
def test_every_step_is_printed_whole(make_result: Callable[..., Result], timesteps: int) -> None:
    result = make_result(["relu"], timesteps=timesteps, n=50_000)
    text = " ".join(printed(result))
    assert all(f" {100 * accuracy:.2f}" in text for accuracy in result.accuracy)


def test_long_tables_are_cut_in_the_middle(make_result: Callable[..., Result]) -> None:
    paths = [f"features.denseblock{i // 30}.denselayer{i % 30}.relu{i}" for i in range(120)]
    lines = printed(make_result(paths, timesteps=30, n=50_000))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 80
    assert "… 96 more layers" in lines
    assert "… 97 more layers" in lines
    assert any("relu0 " in line for line in lines)
    assert any("relu119 " in line for line in lines)
    # Only names are shortened, at their beginning; no number is.
    assert all(line.startswith("…") for line in lines if "…" in line)


def test_tables_of_24_layers_are_whole(make_result: Callable[..., Result]) -> None:
    lines = printed(make_result([f"relu{index}" for index in range(23)]))
    assert not any("…" in line for line in lines)


def test_names_are_not_markup(make_result: Callable[..., Result]) -> None:
    result = make_result(["[bold]relu[/bold]"]).model_copy(update={"name": "[red]x[/red]"})
    text = "\n".join(printed(result))
    assert "[bold]relu[/bold]" in text
    assert "[red]x[/red]" in text


def test_without_an_ann_or_training(make_result: Callable[..., Result]) -> None:
    result = make_result(["relu"])
    neuron = result.neurons[0].model_copy(update={"threshold_start": None, "leak_start": None})
    result = result.model_copy(update={"ann_accuracy": None, "neurons": (neuron,)})
    lines = printed(result)
    assert not any(line.startswith("ANN") for line in lines)
    assert "Neurons: spikes per neuron over all steps" in lines
    row = next(line for line in lines if line.startswith("relu"))
    assert "→" not in row
    assert row.endswith(f"{neuron.threshold:.2f}  {neuron.leak:.2f}")
