"""A result as tables for the terminal, which need 80 columns and no colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.metric import LayerTable
from leanspike.evaluation.result import Result
from leanspike.report.answer import answer
from leanspike.report.cost import ARITHMETIC, cost_table, how_timed, not_counted, trained_with
from leanspike.report.measured import cell, cells, tables_of
from leanspike.report.quantities import count, energy, percent, plural, ratio, spikes, times
from leanspike.report.rivals import how_rivals, rivals_table
from leanspike.report.text import (
    answered,
    exit_threshold,
    listed,
    quoted,
    reading_names,
    sample_noun,
    tail,
)

_STEPS_A_LINE = 10
_ROWS_AT_MOST = 24
_READINGS_A_TABLE = 2


def render_tables(result: Result) -> RenderableType:
    """Return the tables of a result, for `rich.print`: accuracy, neurons, operations and energy.

    Numbers are for one sample, as the mean over all samples. A table of more than 24 layers shows
    its two ends and the number of layers in between; the HTML report has all layers. The package's
    docstring has an example.
    """
    trained = any(layer.readings_start for layer in result.neurons)
    change = "; before → after training" if trained else ""
    operations = _operations(result)
    name = Text(result.name + (f" ({result.data})" if result.data else ""), style="bold")
    sections: tuple[tuple[str, Table], ...] = (
        *_answers(result),
        (f"Neurons: spikes per neuron over all steps{change}", _neurons(result)),
        *_further_readings(result, change),
        (f"Operations and energy of one {sample_noun(result)}, T = {result.timesteps}", operations),
    )
    if result.early_exit:
        exits = f"Early exit, measured on {answered(result)}", _exits(result)
        sections = (sections[0], exits, *sections[1:])
    parts: list[RenderableType] = [name, Text(answer(result))]
    if result.times is not None:
        title = f"What it costs and brings, T = {result.timesteps}"
        parts += [Text(), Text(title, style="bold"), _cost(result)]
        parts.append(Text(how_timed(result), style="dim"))
    for title, table in sections:
        parts += [Text(), Text(title, style="bold"), table]
    if result.energy.bntt_formula_ratio is None:
        parts.append(Text("by BNTT's formula: not recorded when this was evaluated", style="dim"))
    if result.uncounted:
        parts.append(Text(not_counted(result), style="bold"))
    parts.append(Text(ARITHMETIC, style="dim"))
    if result.rivals is not None:
        title = f"Energy with memory, and beside ANNs of fewer bits, T = {result.timesteps}"
        parts += [Text(), Text(title, style="bold"), _rivals(result)]
        parts.append(Text(how_rivals(result), style="dim"))
    trained_by = trained_with(result.provenance)
    if trained_by:
        parts += [Text(), Text(trained_by, style="dim")]
    return Group(*parts)


def _answers(result: Result) -> list[tuple[str, Table]]:
    """Print what metrics found, accuracy first, as each of them shows it."""
    found = []
    for each in tables_of(result):
        if isinstance(each, LayerTable):
            table = _table(2, "layer", *each.columns)
            rows: list[list[Text | str]] = [
                [Text(tail(path, 30)), *map(cell, row)] for path, row in each.rows.items()
            ]
            _add_layers(table, rows)
            found.append((each.title, table))
            continue
        unit = f" in {each.unit}" if each.unit else ""
        title = f"{each.title}{unit} of {answered(result)}, after each step"
        found.append((title if each.snn else each.title, _steps(*cells(each, result.n))))
    return found


def _table(gap: int, *columns: str) -> Table:
    """Return a table without frames. All columns but the first are numbers."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def _cost(result: Result) -> Table:
    """Return a table of accuracy, time and energy of both networks."""
    table = _table(2, "", "ANN", "SNN", "SNN beside ANN")
    table.columns[3].justify = "left"
    for row in cost_table(result):
        table.add_row(*row)
    return table


def _rivals(result: Result) -> Table:
    """Return a table of arithmetic, memory and break-even rates of all networks."""
    names, *rows = rivals_table(result, whole=False)
    table = _table(1, *names)
    for row in rows:
        table.add_row(*row)
    return table


def _steps(snn: Sequence[str], ann: str | None) -> Table:
    """Return a table of figures after every step, as many in a line as fit, and the ANN's."""
    most = min(_STEPS_A_LINE, 72 // (1 + max(map(len, snn), default=0)))
    table = _table(1, *[""] * (1 + min(most, len(snn))))
    table.show_header = False
    for column in table.columns[1:]:
        column.min_width = 6
    for first in range(0, len(snn), most):
        line = snn[first : first + most]
        steps = [str(first + offset + 1) for offset in range(len(line))]
        table.add_row("step", *steps, style="dim")
        table.add_row("SNN", *line)
    if ann is not None:
        table.add_row("ANN", ann)
    return table


def _exits(result: Result) -> Table:
    """Return a table of accuracy, steps, energy and time for each rule and for all steps."""
    table = _table(2, "rule", "threshold", "accuracy", "mean steps", "energy", "seconds")
    full = percent(result.accuracy[-1], result.n)
    spent = "–" if result.at_chance else energy(result.energy.snn_pj)
    table.add_row("all steps", "", full, str(result.timesteps), spent, "")
    for early in result.early_exit:
        table.add_row(
            early.by,
            exit_threshold(early),
            percent(early.accuracy, early.n),
            f"{early.mean_steps:.2f}",
            "–" if result.at_chance else energy(early.snn_pj),
            f"{early.seconds:.1f} of {early.full_seconds:.1f}",
        )
    return table


def _neurons(result: Result) -> Table:
    """Return a table of spikes by layer, and of the first readings, as threshold and leak."""
    names = reading_names(result.neurons)[:_READINGS_A_TABLE]
    table = _table(2, "layer", "neurons", "spikes", *map(_words, names))
    _add_layers(table, [_neuron_row(layer, names) for layer in result.neurons])
    number = count(sum(layer.neurons for layer in result.neurons))
    table.add_row("all", number, spikes(result.energy.spikes_per_neuron), style="bold")
    return table


def _neuron_row(layer: NeuronActivity, names: Sequence[str]) -> list[Text | str]:
    return [
        Text(tail(layer.path, 30)),
        count(layer.neurons),
        spikes(layer.spikes_per_neuron),
        *[_change(layer, name) for name in names],
    ]


def _further_readings(result: Result, change: str) -> list[tuple[str, Table]]:
    """Return tables of the readings that do not fit beside the spikes."""
    names = reading_names(result.neurons)[_READINGS_A_TABLE:]
    found = []
    for first in range(0, len(names), _READINGS_A_TABLE):
        some = names[first : first + _READINGS_A_TABLE]
        table = _table(2, "layer", *map(_words, some))
        rows: list[list[Text | str]] = [
            [Text(tail(layer.path, 30)), *[_change(layer, name) for name in some]]
            for layer in result.neurons
        ]
        _add_layers(table, rows)
        found.append((f"{listed(some)}{change}", table))
    return found


def _words(name: str) -> str:
    return name.replace("_", " ")


def _change(layer: NeuronActivity, name: str) -> str:
    """Return a reading as the mean of its layer, with that of before the training."""
    if name not in layer.readings:
        return ""
    after = f"{layer.readings[name]:.2f}"
    before = layer.readings_start.get(name)
    return after if before is None else f"{before:.2f} → {after}"


def _operations(result: Result) -> Table:
    """Return a table of operations and energy by layer and product, of membranes, and in total."""
    total, layers = result.energy, result.operations
    columns = ("edge", "ANN MAC", "SNN MAC", "SNN AC", "ANN", "SNN", "ANN/SNN")
    table = _table(1, "layer", *columns)
    table.columns[1].justify = "left"
    _add_layers(table, [_operation_row(layer) for layer in layers])
    table.add_row("membrane updates", *[""] * 5, energy(total.membrane_pj))
    if total.norm_pj:
        ann_norms = energy(total.ann_norm_pj) if total.ann_norm_pj else ""
        table.add_row("norms", *[""] * 4, ann_norms, energy(total.norm_pj))
    sums = [
        count(sum(layer.ann_macs for layer in layers)),
        count(sum(layer.snn_macs for layer in layers)),
        count(sum(layer.snn_acs for layer in layers)),
    ]
    energies = [energy(total.ann_pj), energy(total.snn_pj), quoted(result, total.ratio)]
    table.add_row("all", "", *sums, *energies, style="bold")
    table.add_row("by DIET-SNN's formula", *[""] * 6, quoted(result, total.formula_ratio))
    if total.bntt_formula_ratio is not None:
        table.add_row("by BNTT's formula", *[""] * 6, quoted(result, total.bntt_formula_ratio))
    return table


def _operation_row(layer: LayerOperations) -> list[Text | str]:
    return [
        Text(tail(layer.path, 22)),
        Text(layer.edge),
        count(layer.ann_macs),
        count(layer.snn_macs),
        count(layer.snn_acs),
        energy(layer.ann_pj),
        energy(layer.snn_pj),
        times(ratio(layer.ann_pj, layer.snn_pj)),
    ]


def _add_layers(table: Table, rows: Sequence[list[Text | str]]) -> None:
    """Add all rows, or the two ends of a long table and the number of rows in between."""
    end = _ROWS_AT_MOST // 2
    hidden = len(rows) - 2 * end
    for index, row in enumerate(rows):
        if hidden <= 0 or not end <= index < len(rows) - end:
            table.add_row(*row)
        elif index == end:
            table.add_row(f"… {plural(hidden, 'more layer')}", style="dim")
