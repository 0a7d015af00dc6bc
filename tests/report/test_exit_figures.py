"""The figures of early exit: every curve, every chosen point, every class and layer is drawn."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leanspike.evaluation.exit_result import ClassExit, EarlyExit
from leanspike.evaluation.result import Result
from leanspike.report import exits, style
from leanspike.report.quantities import wilson_interval

CURVES = {
    "gamma": ((3.0, 0.95), (1.0, 0.7), (2.0, 0.9)),
    "margin": ((1.0, 0.7), (1.4, 0.93), (2.1, 0.94), (3.0, 0.95)),
}


def words(svg: str) -> list[str]:
    """The texts of a figure, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def rule(by: str, mean_steps: float, snn_pj: float) -> EarlyExit:
    rows = {"cat": (0.625, 0.25, 0.125), "dog": (0.375, 0.5, 0.125)}
    steps, reached = CURVES[by][1]
    return EarlyExit(
        by=by,
        threshold=0.5,
        max_drop=0.002,
        validation_n=500,
        validation_accuracy=reached,
        validation_full_accuracy=0.95,
        validation_mean_steps=steps,
        curve=CURVES[by],
        n=360,
        accuracy=0.91,
        full_accuracy=0.967,
        mean_steps=mean_steps,
        leaving=(0.5, 0.375, 0.125),
        classes=tuple(
            ClassExit(name=name, n=180, accuracy=0.9, mean_steps=1.5, leaving=shares)
            for name, shares in rows.items()
        ),
        snn_pj=snn_pj,
        full_snn_pj=9e6,
        seconds=1.0,
        full_seconds=2.0,
    )


@pytest.fixture
def result(make_result: Callable[..., Result]) -> Result:
    """Of 3 steps and 9 µJ, left early by two rules."""
    result = make_result(["relu"], timesteps=3)
    energy = result.energy.model_copy(update={"snn_pj": 9e6})
    rules = rule("gamma", 2.0, 6e6), rule("margin", 1.5, 4e6)
    return result.model_copy(update={"energy": energy, "early_exit": rules})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Figure:
    """What a figure's function draws on."""
    figure = Figure()
    monkeypatch.setattr(style, "draw", lambda _name, _label, _height, content: content(figure))
    return figure


def lines(axes: Axes) -> list[list[tuple[float, float]]]:
    """The points of each line; of a marker the only one."""
    return [[(x, y) for x, y in np.asarray(line.get_xydata())] for line in axes.lines]


def test_accuracy_of_all_stopped_alike_is_drawn(drawn: Figure, result: Result) -> None:
    exits.exit_figure(result)
    assert list(enumerate(result.accuracy, 1)) in lines(drawn.axes[0])


@pytest.mark.parametrize("by", list(CURVES))
def test_every_rules_curve_is_drawn_with_the_chosen_point(
    drawn: Figure, result: Result, by: str
) -> None:
    exits.exit_figure(result)
    assert sorted(CURVES[by]) in lines(drawn.axes[0])
    assert [CURVES[by][1]] in lines(drawn.axes[0])


def test_what_was_measured_is_marked_against_steps_and_energy(
    drawn: Figure, result: Result
) -> None:
    exits.exit_figure(result)
    steps, energy = (lines(axes) for axes in drawn.axes)
    assert [(2.0, 0.91)] in steps
    assert [(1.5, 0.91)] in steps
    assert energy == [[(9e6, 0.967)], [(6e6, 0.91)], [(4e6, 0.91)]]
    intervals = [
        segment[:, 1].tolist()
        for collection in drawn.axes[1].collections
        for segment in collection.get_segments()
    ]
    found = [wilson_interval(accuracy, 360) for accuracy in (0.967, 0.91, 0.91)]
    assert intervals == [list(bounds) for bounds in found]


def test_the_legend_says_what_is_of_held_out_data(result: Result) -> None:
    shown = words(exits.exit_figure(result))
    assert {
        "all images stop after the same step",
        "gamma on 500 held-out images; hollow: chosen",
        "margin on 500 held-out images; hollow: chosen",
        "gamma: 2.00 steps, 6.00 µJ, 91.0 %",
        "margin: 1.50 steps, 4.00 µJ, 91.0 %",
        "95 % interval",
        "mean timesteps",
        "energy for one image",
    } <= set(shown)


@pytest.mark.parametrize("steps", [1, 30])
def test_one_step_and_many(make_result: Callable[..., Result], steps: int) -> None:
    only = rule("margin", 1.0, 9e6).model_copy(update={"curve": ((1.0, 0.9),)})
    result = make_result(["relu"], timesteps=steps)
    shown = words(exits.exit_figure(result.model_copy(update={"early_exit": (only,)})))
    assert str(steps) in shown
    assert "0.8" not in shown


def test_every_layers_gamma_is_drawn(drawn: Figure) -> None:
    exits.gamma_figure({"norm1": (0.9, 0.5), "norm2": (0.8, 0.1)})
    found = lines(drawn.axes[0])
    assert [(1.0, 0.9), (2.0, 0.5)] in found
    assert [(1.0, 0.8), (2.0, 0.1)] in found


def test_few_layers_have_a_legend_and_many_have_none() -> None:
    few = {f"norm{index}": (0.9, 0.5) for index in range(12)}
    assert set(few) <= set(words(exits.gamma_figure(few)))
    many = {f"norm{index}": (0.9, 0.5) for index in range(13)}
    assert not set(many) & set(words(exits.gamma_figure(many)))


def test_who_leaves_when_is_written_for_every_class(result: Result) -> None:
    shown = words(exits.leaving_figure(result.early_exit[1]))
    assert {"cat", "dog", "0.62", "0.25", "0.12", "0.38", "0.50", "1.50"} <= set(shown)


def test_a_thousand_classes_are_thinned(result: Result) -> None:
    early = result.early_exit[1]
    one = early.classes[0]
    classes = tuple(one.model_copy(update={"name": f"class {k}"}) for k in range(1000))
    svg = exits.leaving_figure(early.model_copy(update={"classes": classes}))
    assert float(svg.split('viewBox="')[1].split('"')[0].split()[3]) < 1400
    assert {"class 0", "When the 100 classes leave by margin"} <= {*words(svg), svg.split('"')[5]}
