"""A comparison as one HTML file that needs nothing else, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanspike.errors import LeanspikeError
from leanspike.report import quantities, text
from leanspike.report.compare import figures
from leanspike.report.compare.runs import Compared, differences, hardware, recipe_changes
from leanspike.report.compare.table import cells
from leanspike.report.html import check_replaceable, templates, write_page

# Stands in the head of every such page, and tells it from files that must not be overwritten.
_SIGN = '<meta name="description" content="leanspike: a comparison of runs">'


def write_comparison(runs: Sequence[Compared], out: Path, fresh: bool = False) -> Path:
    """Write the comparison of two or more runs to ``out`` and return its path.

    The page is like a report: complete in itself, without scripts or requests, and put in its
    place whole. What stands at ``out`` is replaced if it is a comparison too, anything else only
    if ``fresh``. Raises `LeanspikeError` if it must stay or cannot be written, if there are fewer
    than two runs, or for what `write_report` raises it. The package's docstring shows one.
    """
    if len(runs) < 2:
        raise LeanspikeError("one run has nothing to be compared with; give two or more")
    if not fresh:
        check_replaceable(out, _SIGN, "a comparison of runs")
    return write_page(_page(runs), out)


def _page(runs: Sequence[Compared]) -> str:
    """The whole page as text."""
    plots = {
        "accuracy": figures.accuracy_figure(runs),
        "training": figures.training_figure(runs),
        "energy": figures.energy_figure(runs),
    }
    readings = text.reading_names(layer for run in runs for layer in run.result.neurons)
    return (
        templates()
        .get_template("comparison.html")
        .render(
            runs=runs,
            sign=_SIGN,
            quantities=quantities,
            text=text,
            plots=plots,
            readings=readings,
            neurons=[figures.neurons_figure(group) for group in figures.same_layers(runs)]
            if readings
            else [],
            warnings=differences(runs),
            changes=recipe_changes(runs),
            without_curve=[run.name for run in runs if not any(figures.held_out(run))],
            color=figures.color,
            cells=cells,
            hardware=hardware,
        )
    )
