"""The report's figure of energy, in total and by layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leanspike.evaluation.layers import LayerOperations
from leanspike.evaluation.result import Energy
from leanspike.report import style
from leanspike.report.axes import legend_above
from leanspike.report.quantities import energy, ratio, saving, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def energy_figure(
    operations: Sequence[LayerOperations], total: Energy, quotable: bool = True
) -> str:
    """Draw the energy of both networks, in total and layer by layer on a logarithmic axis.

    Without ``quotable`` the ratio of the two sums is left out.

    >>> conv = LayerOperations(path="conv", edge="spike", static=False, dense_macs=10, ann_macs=10,
    ...                        snn_macs=0, snn_acs=10, ann_pj=46, snn_pj=9)
    >>> total = Energy(mac_pj=4.6, ac_pj=0.9, ann_pj=46, snn_pj=11.5, membrane_updates=2,
    ...                membrane_pj=2.5, ratio=4, formula_ratio=5, spikes_per_neuron=1)
    >>> energy_figure([conv], total)
    '<svg...46.0 pJ</text>...11.5 pJ · 4.0× less</text>...5.1×</text>...</svg>'
    """
    rows_px = len(operations) * style.row_height(len(operations)) + 60

    def content(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, height_ratios=(110, rows_px))
        _totals(above, operations, total, quotable)
        _by_layer(below, operations)

    label = f"Energy of the ANN and the SNN in all and in each of {len(operations)} layers"
    return style.draw("energy", label, rows_px + 150, content)


def _totals(
    axes: Axes, operations: Sequence[LayerOperations], total: Energy, quotable: bool
) -> None:
    """Draw two bars: the ANN's energy, and the SNN's by kind of operation."""
    draw_totals(axes, operations, total, (0.0, 1.0), quotable)
    axes.set_yticks([0, 1], ["ANN", "SNN"])
    axes.set_title("In all")
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    legend_above(axes)


def draw_totals(
    axes: Axes,
    operations: Sequence[LayerOperations],
    total: Energy,
    rows: tuple[float, float],
    quotable: bool = True,
) -> None:
    """Draw the bars of ANN and SNN at two heights, with the energies beside them.

    Without ``quotable``, as for a network at chance, the ratio is left out.

    >>> total = Energy(mac_pj=4.6, ac_pj=0.9, ann_pj=46, snn_pj=11.5, membrane_updates=2,
    ...                membrane_pj=2.5, ratio=4, formula_ratio=5, spikes_per_neuron=1)
    >>> style.draw("e", "", 99, lambda figure: draw_totals(figure.subplots(), [], total, (0, 1)))
    '<svg...46.0 pJ</text>...11.5 pJ · 4.0× less</text>...</svg>'
    """
    parts = (
        ("multiply-accumulates", sum(o.snn_macs for o in operations) * total.mac_pj),
        ("accumulates", sum(o.snn_acs for o in operations) * total.ac_pj),
        (
            "membranes and norms" if total.norm_pj else "membrane updates",
            total.membrane_pj + total.norm_pj,
        ),
    )
    above, below = rows
    axes.barh([above], [total.ann_pj], color=style.ANN, height=0.62)
    left = 0.0
    for (name, part), color in zip(
        parts, (style.SNN_DARK, style.SNN, style.SNN_LIGHT), strict=True
    ):
        axes.barh([below], [part], left=left, color=color, label=name, height=0.62)
        left += part
    style.write(axes, energy(total.ann_pj), (total.ann_pj, above), (6, 0), "left")
    beside = ("·", *saving(total.ratio)) if quotable else ()
    text = " ".join((energy(total.snn_pj), *beside))
    style.write(axes, text, (left, below), (6, 0), "left")


def _by_layer(axes: Axes, operations: Sequence[LayerOperations]) -> None:
    """Draw a row for each layer: dots of ANN and SNN, and the factor between them."""
    rows = range(len(operations))
    spent = [pj for o in operations for pj in (o.ann_pj, o.snn_pj) if pj > 0]
    least = min(spent, default=1.0)  # layers without cost get a hollow dot at the left end
    ann = [max(o.ann_pj, least) for o in operations]
    snn = [max(o.snn_pj, least) for o in operations]
    size = max(3.5, min(8.0, style.row_height(len(rows)) / 2.5))
    axes.set_xscale("log")
    axes.grid(visible=True, axis="y", color="#f1f4f7")
    axes.hlines(rows, snn, ann, color=style.GRID, linewidth=4)
    axes.plot(ann, rows, "o", color=style.ANN, markersize=1.4 * size, label="ANN")
    axes.plot(snn, rows, "o", color=style.SNN, markersize=size, label="SNN")
    silent = [row for row in rows if operations[row].snn_pj == 0]
    axes.plot([least] * len(silent), silent, "o", color="white", markersize=size / 2)
    if style.row_height(len(rows)) >= 13:
        for row, layer in enumerate(operations):
            text = times(ratio(layer.ann_pj, layer.snn_pj))
            style.write(axes, text, (max(ann[row], snn[row]), row), (10, 0), "left")
    axes.margins(x=0.1)
    axes.locator_params(axis="x", subs=(1, 2, 5) if max(ann) < 100 * least else (1,))
    axes.xaxis.set_major_formatter(lambda value, _: re.sub(r"\.0*(?= )", "", energy(value)))
    axes.set_title("By layer, on a logarithmic axis")
    style.label_rows(axes, [layer.path for layer in operations])
    legend_above(axes)
