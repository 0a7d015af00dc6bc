"""A comparison as one table for the terminal, which fits into 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.report.compare.runs import Compared, differences
from leanspike.report.quantities import percent, spikes, times
from leanspike.report.text import quoted

_NUMBERS = ("ANN", "SNN", "T", "counted", "DIET", "BNTT", "time", "spikes", "seconds", "seed")
_LEGEND = (
    "ANN, SNN: accuracy in %; counted, DIET, BNTT: energy of the ANN / SNN at these T steps, "
    "counted and by the formulas of DIET-SNN and BNTT; time: of the SNN / ANN, the larger batch; "
    "spikes: per neuron, over all steps; seconds: of training; –: not recorded, or at chance"
)


def render_comparison(runs: Sequence[Compared]) -> RenderableType:
    """Return two lines for each run, for `rich.print`, and what makes the runs incomparable.

    Long names are broken over several lines, never cut. The package's docstring has an example.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    for column in _NUMBERS:
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        name, data, network, *numbers = cells(run)
        words = Text.assemble((name, "bold"), "\n", (f"{data}, {network}", "dim"))
        table.add_row(words, *numbers)
    notes = [Text(sentence, style="yellow") for sentence in differences(runs)]
    return Group(table, Text(), Text(_LEGEND, style="dim"), *notes)


def cells(run: Compared) -> list[str]:
    """Return the row of a run as text.

    >>> from leanspike.evaluation.result import Energy, Provenance, Result
    >>> origin = Provenance.model_construct(seed=3, recipe={}, seconds={})
    >>> energy = Energy.model_construct(ratio=2.92, formula_ratio=6.8, spikes_per_neuron=0.75)
    >>> result = Result.model_construct(data="digits", n=360, ann_accuracy=None, accuracy=(0.9,),
    ...                                 timesteps=1, classes=(), energy=energy,
    ...                                 provenance=origin)
    >>> cells(Compared(0, "first", result, []))
    ['first', 'digits', '–', '–', '90.0', '1', '2.9×', '6.8×', '–', '–', '0.75', '–', '3']
    """
    result, total = run.result, run.result.energy
    ann, last, seconds = result.ann_accuracy, result.last_accuracy, run.training_seconds
    ratios = {} if result.times is None else result.times.ratios
    return [
        run.name,
        result.data or "–",
        run.network,
        "–" if ann is None else percent(ann, result.n).removesuffix(" %"),
        "–" if last is None else percent(last, result.n).removesuffix(" %"),
        str(result.timesteps),
        quoted(result, total.ratio),
        quoted(result, total.formula_ratio),
        quoted(result, total.bntt_formula_ratio),
        times(ratios[max(ratios)]) if ratios else "–",
        spikes(total.spikes_per_neuron),
        "–" if seconds is None else f"{seconds:,.0f}",
        "–" if result.provenance.seed is None else str(result.provenance.seed),
    ]
