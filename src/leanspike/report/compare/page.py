"""A comparison as one self-contained HTML file, in the style of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanspike.errors import LeanspikeError
from leanspike.report import quantities, text
from leanspike.report.compare import figures
from leanspike.report.compare.runs import Compared, differences, hardware, recipe_changes
from leanspike.report.compare.table import cells
from leanspike.report.html import check_replaceable, templates, write_page

# The head of every such page holds it. Files without it must not be overwritten.
_SIGN = '<meta name="description" content="leanspike: a comparison of runs">'


def write_comparison(runs: Sequence[Compared], out: Path, fresh: bool = False) -> Path:
    """Write the comparison of two or more runs to ``out``, and return its path.

    The page is self-contained, without scripts or requests, and appears whole. An older comparison
    at ``out`` is replaced, any other file only if ``fresh``. Raises `LeanspikeError` if the file
    must not be replaced or cannot be written, if there are fewer than two runs, and as
    `write_report` does. The package's docstring has an example.
    """
    if len(runs) < 2:
        raise LeanspikeError(f"runs: {len(runs)} given, but a comparison needs two; give more")
    if not fresh:
        check_replaceable(out, _SIGN, "a comparison of runs")
    return write_page(_page(runs), out)


def _page(runs: Sequence[Compared]) -> str:
    """Return the whole page as text."""
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
