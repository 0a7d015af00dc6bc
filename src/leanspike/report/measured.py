"""Showing the findings of metrics: tables for the terminal, figures for the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from leanspike.evaluation.metric import Look, Metric, StepTable
from leanspike.evaluation.record import Record
from leanspike.evaluation.result import Result
from leanspike.metrics import metrics
from leanspike.report import style
from leanspike.report.quantities import figure

LOOK = Look(style.SNN, style.SNN_LIGHT, style.SNN_DARK, style.ANN, style.ACCENT)


@dataclass(frozen=True)
class Shown:
    """A figure of the page: its title, its caption, and the SVG."""

    title: str
    caption: str
    svg: str


def step_tables(result: Result) -> list[StepTable]:
    """Return the tables of all metrics of a result.

    >>> step_tables(Result.model_construct(measured={"of_old": {}}))
    [StepTable(title='of_old: its package is not installed here', snn=(), ann=None, unit='')]
    """
    found: list[StepTable] = []
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


def cells(table: StepTable) -> tuple[list[str], str | None]:
    """Return the numbers of a table as text: those of the steps, and the ANN's.

    >>> cells(StepTable("error", (0.125, 0.5), None, "%"))
    (['12.50', '50.00'], None)
    """
    written = [_number(value, table.unit) for value in table.snn]
    return written, None if table.ann is None else _number(table.ann, table.unit)


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.2f}" if unit == "%" else figure(value)


def _rows(result: Result) -> Iterator[tuple[str, type[Metric] | None, Record | None]]:
    """Yield each measured metric and its row; None for a metric that is no longer installed."""
    for name, data in result.measured.items():
        if name not in metrics:
            yield name, None, None
            continue
        kind = cast(type[Metric], metrics.find(name))
        yield name, kind, kind.Row.model_validate(data)
