"""Showing the findings of metrics: tables for the terminal, figures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from leanspike.evaluation.accuracy_metric import Accuracy
from leanspike.evaluation.function_metric import FunctionMetric, Numbers
from leanspike.evaluation.metric import LayerTable, Look, Metric, StepTable
from leanspike.evaluation.record import Record
from leanspike.evaluation.result import Result
from leanspike.evaluation.score import Scored
from leanspike.metrics import metrics
from leanspike.report import style
from leanspike.report.quantities import figure, percent

LOOK = Look(style.SNN, style.SNN_LIGHT, style.SNN_DARK, style.ANN, style.ACCENT)


@dataclass(frozen=True)
class Shown:
    """A figure of the page: its title, its caption, and the SVG."""

    title: str
    caption: str
    svg: str


def tables_of(result: Result) -> list[StepTable | LayerTable]:
    """Return the tables of all metrics of a result, accuracy's first.

    >>> result = Result.model_construct(accuracy=(0.5,), ann_accuracy=None, measured={"old": {}})
    >>> [table.title for table in tables_of(result)]
    ['Accuracy', 'old: its package is not installed here']
    """
    return [*_accuracy(result), *_function(result), *_further(result)]


def further_step_tables(result: Result) -> list[StepTable]:
    """Return the tables by step of the metrics that were asked for by name."""
    return [table for table in _further(result) if isinstance(table, StepTable)]


def layer_tables(result: Result) -> list[LayerTable]:
    """Return the tables with a row for each layer.

    >>> layer_tables(Result.model_construct(measured={}))
    []
    """
    return [table for table in _further(result) if isinstance(table, LayerTable)]


def _accuracy(result: Result) -> Sequence[StepTable]:
    """Return the accuracy table, which all results have."""
    row = Scored(
        task=result.task,
        unit=result.unit,
        chance=result.chance,
        mistakes=None,
        accuracy=result.accuracy,
        ann_accuracy=result.ann_accuracy,
        top5=result.top5,
        ann_top5=result.ann_top5,
    )
    return Accuracy.tables(row)


def _function(result: Result) -> Sequence[StepTable]:
    """Return the table of a user's own function."""
    return FunctionMetric.tables(Numbers(steps=result.metrics, ann=result.ann_metrics))


def _further(result: Result) -> list[StepTable | LayerTable]:
    found: list[StepTable | LayerTable] = []
    for name, kind, row in _rows(result):
        missing = StepTable(f"{name}: its package is not installed here", ())
        found += [missing] if kind is None or row is None else kind.tables(row)
    return found


def pictures(result: Result) -> list[Shown]:
    """Return the figures of all metrics of a result.

    >>> pictures(Result.model_construct(measured={}))
    []
    """
    return [
        Shown(
            picture.title,
            picture.caption,
            style.draw(
                name,
                picture.title,
                picture.height,
                lambda canvas, draw=picture.draw: draw(canvas, LOOK),  # type: ignore[misc]
            ),
        )
        for name, kind, row in _rows(result)
        if kind is not None and row is not None
        for picture in kind.pictures(row)
    ]


def cells(table: StepTable, n: int) -> tuple[list[str], str | None]:
    """Return the numbers of a table as text, by step and the ANN's; ``n`` samples were measured.

    >>> cells(StepTable("error", (0.125, 0.5), None, "%"), 360)
    (['12.50', '50.00'], None)
    >>> cells(StepTable("Accuracy", (0.125, 0.5), 0.9, "%", counted=True), 360)
    (['12.5', '50.0'], '90.0')
    """

    values = [*table.snn, *(() if table.ann is None else (table.ann,))]
    if table.counted:
        written = [percent(value, n).removesuffix(" %") for value in values]
    else:
        share = table.unit == "%"
        written = [f"{100 * value:.2f}" if share else figure(value) for value in values]
    steps = len(table.snn)
    return written[:steps], None if table.ann is None else written[steps]


def cell(value: float | str) -> str:
    """Return a value of a table of layers as text.

    >>> cell("lif"), cell(0.5), cell(123456)
    ('lif', '0.5', '123,456')
    """
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else figure(value)


def _rows(result: Result) -> Iterator[tuple[str, type[Metric] | None, Record | None]]:
    """Yield each measured metric and its row; None for a metric that is no longer installed."""
    for name, data in result.measured.items():
        if name not in metrics:
            yield name, None, None
            continue
        kind = cast(type[Metric], metrics.find(name))
        yield name, kind, kind.Row.model_validate(data)
