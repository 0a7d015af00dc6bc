"""The figures of a comparison: every run in them, and no crash at either end of the scale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from leanspike.evaluation.result import Result
from leanspike.report.compare import Compared, compare, figures

Make = Callable[..., Result]
MakeHistory = Callable[[dict[str, int]], list[dict[str, object]]]


def words(svg: str) -> list[str]:
    """The texts of a figure, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def runs_of(*results: Result) -> list[Compared]:
    return compare([(Path(f"run{i}"), result, []) for i, result in enumerate(results)])


def test_every_run_and_its_accuracies_are_named(make_result: Make) -> None:
    first, second = make_result(["relu"], timesteps=2), make_result(["relu"], timesteps=9, n=5000)
    second = second.model_copy(update={"ann_accuracy": None})
    shown = words(figures.accuracy_figure(runs_of(first, second)))
    assert "run0: 96.7 % (ANN 98.1 %)" in shown
    assert "run1: 96.70 %" in shown


def test_one_timestep_has_one_tick(make_result: Make) -> None:
    shown = words(figures.accuracy_figure(runs_of(*[make_result(["relu"], timesteps=1)] * 2)))
    assert "1" in shown
    assert "0.8" not in shown


def test_many_runs_look_different(make_result: Make) -> None:
    runs = runs_of(*[make_result(["relu"])] * 49)
    looks = {(figures.color(run), figures._marker(run)) for run in runs}
    assert len(looks) == 49
    assert "run48: 96.7 % (ANN 98.1 %)" in words(figures.accuracy_figure(runs))


def test_the_stages_of_an_snn_follow_each_other(
    make_result: Make, make_history: MakeHistory
) -> None:
    history = make_history({"ann": 3, "snn T=5": 2, "snn T=2": 2})
    run = Compared(0, "run", make_result(["relu"]), history)
    ann, snn = figures.held_out(run)
    assert [epoch for epoch, _ in ann] == [1, 2, 3]
    assert [epoch for epoch, _ in snn] == [1, 2, 3, 4]


def test_training_shows_those_with_a_log_only(make_result: Make, make_history: MakeHistory) -> None:
    result = make_result(["relu"])
    runs = [
        Compared(0, "logged", result, make_history({"ann": 30, "snn T=5": 2})),
        Compared(1, "given ann", result, make_history({"snn T=5": 2})),
        Compared(2, "converted", result, []),
    ]
    shown = words(figures.training_figure(runs))
    assert {"logged", "given ann", "ANN", "SNN, from its conversion on"} <= set(shown)
    assert "converted" not in shown
    assert "ANN" not in words(figures.training_figure(runs[1:]))
    assert figures.training_figure(runs[2:]) == ""


def test_nothing_held_out_is_no_curve(make_result: Make, make_history: MakeHistory) -> None:
    history = [{**row, "val_accuracy": None} for row in make_history({"ann": 2})]
    assert figures.training_figure([Compared(0, "run", make_result(["relu"]), history)]) == ""


def test_energies_are_written_beside_the_bars(make_result: Make) -> None:
    first = make_result(["relu"])
    total = first.energy.model_copy(update={"ann_pj": 8.9e6, "snn_pj": 1.22e6, "ratio": 7.31})
    second = first.model_copy(update={"energy": total})
    shown = words(figures.energy_figure(runs_of(first, second)))
    assert {"run0, T = 5", "run1, T = 5", "8.90 µJ", "1.22 µJ · 7.3× less"} <= set(shown)


def test_runs_are_grouped_by_their_layers(make_result: Make) -> None:
    small, large = make_result(["relu"]), make_result(["relu1", "relu2"])
    groups = figures.same_layers(runs_of(small, large, small))
    assert [[run.name for run in group] for group in groups] == [["run0", "run2"], ["run1"]]
    shown = words(figures.neurons_figure(groups[0]))
    assert {"run0", "run2", "relu", "Threshold", "Leak"} <= set(shown)


@pytest.mark.parametrize("known", [True, False])
def test_a_start_is_drawn_only_where_it_is_known(make_result: Make, known: bool) -> None:
    result = make_result(["relu"])
    if not known:
        plain = {"readings_start": {}}
        layers = tuple(layer.model_copy(update=plain) for layer in result.neurons)
        result = result.model_copy(update={"neurons": layers})
    hollow = "fill: #ffffff; stroke: #0b6bb3" in figures.neurons_figure(runs_of(result))
    assert hollow is known


def test_many_layers_of_many_runs_stay_readable(make_result: Make) -> None:
    paths = [f"features.denseblock{i // 30}.denselayer{i % 30}.relu" for i in range(120)]
    svg = figures.neurons_figure(runs_of(*[make_result(paths)] * 5))
    size = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert size is not None
    assert float(size[2]) < 2800
