"""Results of one logit, several labels, pixels and no labels: tables, page and comparison."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.result import Result
from leanspike.report import render_tables, write_report
from leanspike.report.compare import compare, render_comparison, write_comparison
from leanspike.report.cost import cost_table

Make = Callable[..., Result]
NOTHING: dict[str, Any] = {
    "task": "none",
    "accuracy": (),
    "ann_accuracy": None,
    "chance": None,
    "classes": (),
    "example": None,
}
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "binary": (
        {"task": "binary", "classes": ("no", "yes"), "chance": 0.5, "example": None},
        "the SNN answers 96.7 % of 360 test images correctly (ANN: 98.1 %) and spends",
    ),
    "multilabel": (
        {"task": "multilabel", "unit": "label", "classes": ("a", "b", "c"), "example": None},
        "the SNN answers 96.7 % of the labels of 360 test images correctly (ANN: 98.1 %) and",
    ),
    "pixels": (
        {"unit": "pixel", "classes": (), "chance": 0.7, "example": None},
        "the SNN answers 96.7 % of the pixels of 360 test images correctly (ANN: 98.1 %) and",
    ),
    "nothing": (
        NOTHING,
        "less energy on arithmetic than the same network as an ANN. No accuracy was measured.",
    ),
    "a metric": (
        NOTHING
        | {
            "metrics": {"mse": (0.51234, 0.25, 0.2), "very_long": (1e-12, 2.5e10, -3e-4)},
            "ann_metrics": {"mse": 0.1875, "very_long": -2e-4},
        },
        "the SNN has mse 0.2 (ANN: 0.1875), very_long -0.0003 (ANN: -0.0002) on 360 test images "
        "and spends",
    ),
}


@pytest.fixture(params=KINDS)
def shown(request: pytest.FixtureRequest, make_result: Make) -> tuple[Result, str]:
    update, words = KINDS[request.param]
    made = make_result(["relu1", "relu2"], timesteps=3)
    return Result.model_validate(made.model_copy(update=update).model_dump()), words


def printed(table: Any) -> str:
    console = Console(file=StringIO(), width=80, no_color=True)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def in_one_line(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").split())


def test_the_tables_say_it(shown: tuple[Result, str]) -> None:
    result, words = shown
    text = printed(render_tables(result))
    assert words in in_one_line(text)
    assert max(map(len, text.splitlines())) <= 80
    assert ("Accuracy in %" in text) == bool(result.accuracy)
    for name, values in result.metrics.items():
        assert f"{name} of 360 test images, after each step" in text
        assert f"{values[0]:.4g}" in text


def test_the_page_says_it_and_stays_whole(shown: tuple[Result, str], tmp_path: Path) -> None:
    result, words = shown
    page = write_report(result, [], tmp_path / "report.html").read_text()
    text = in_one_line(re.sub("<[^>]+>", " ", page.split("</head>")[1]))
    assert words in text
    assert ("Accuracy against timesteps" in text) == bool(result.accuracy)
    assert ("95 % Wilson interval" in text) == (bool(result.accuracy) and result.unit == "sample")
    assert ("not measured: no labels" in text) == (not result.accuracy and not result.metrics)
    assert ("What the metric says after every step" in text) == bool(result.metrics)


def test_costs_and_comparison_bear_it(shown: tuple[Result, str], make_result: Make) -> None:
    result, _ = shown
    rows = [row.what for row in cost_table(result)]
    assert rows == [*(["accuracy"] if result.accuracy else []), *result.metrics, rows[-1]]
    other = make_result(["relu1", "relu2"], timesteps=3)
    runs = compare([(Path("one"), result, []), (Path("two"), other, [])])
    text = in_one_line(printed(render_comparison(runs)))
    assert ("Different tasks: " in text) == (result.task != "multiclass" or result.unit == "pixel")


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("both", [False, True])
def test_a_comparison_of_runs_without_labels_is_a_page(
    both: bool, make_result: Make, tmp_path: Path
) -> None:
    made = make_result(["relu"])
    bare = Result.model_validate(made.model_copy(update=NOTHING).model_dump())
    runs = compare([(Path("one"), bare, []), (Path("two"), bare if both else made, [])])
    page = write_comparison(runs, tmp_path / "comparison.html").read_text()
    assert ("Accuracy against timesteps." in page) == (not both)


@pytest.mark.usefixtures("unrendered")
def test_an_exit_of_several_labels_has_no_rows_for_classes(
    make_result: Make, tmp_path: Path
) -> None:
    early = EarlyExit(
        by="margin", threshold=0.5, max_drop=0.01, validation_n=50, validation_accuracy=0.9,
        validation_full_accuracy=0.9, validation_mean_steps=2.0, curve=((2.0, 0.9), (3.0, 0.9)),
        n=360, accuracy=0.9, full_accuracy=0.9, mean_steps=2.1, leaving=(0.1, 0.7, 0.2),
        classes=(), snn_pj=7e6, full_snn_pj=9e6, seconds=1.0, full_seconds=1.5,
    )  # fmt: skip
    update = {**KINDS["multilabel"][0], "early_exit": (early,)}
    result = make_result(["relu"], timesteps=3).model_copy(update=update)
    page = write_report(result, [], tmp_path / "report.html").read_text()
    assert "Leaving early" in page
    assert "One row for each class" not in page
    assert "Early exit, measured on the labels of 360 test images" in printed(render_tables(result))


def test_older_records_are_of_classes_and_lengths_must_agree(make_result: Make) -> None:
    old = make_result(["relu"]).model_dump()
    for name in ("task", "unit", "metrics", "ann_metrics"):
        del old[name]
    result = Result.model_validate(old)
    assert (result.task, result.unit, result.metrics) == ("multiclass", "sample", {})
    with pytest.raises(ValueError, match="0 accuracies for 5 timesteps"):
        Result.model_validate({**old, "accuracy": ()})
    with pytest.raises(ValueError, match="1 of mse for 5 timesteps"):
        Result.model_validate({**old, "metrics": {"mse": (1.0,)}})
    with pytest.raises(ValueError, match="0 accuracies for -3 timesteps"):
        Result.model_validate({**old, "task": "none", "accuracy": (), "timesteps": -3})
