"""The report's figures of the network: accuracy, spikes, thresholds and leaks, energy.

Each function turns a result into inline SVG and holds for 1 to hundreds of layers, 1 to dozens
of timesteps. Rows are layers, from the input down; ``style`` holds the look.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.result import Energy, Result
from leanspike.report import style
from leanspike.report.text import (
    energy,
    interval,
    listed,
    percent,
    plural,
    ratio,
    reading_names,
    saving,
    spikes,
    times,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_figure(result: Result) -> str:
    """Accuracy after every step with its 95 % interval; the ANN's as a line.

    >>> accuracy_figure(Result.model_construct(accuracy=(0.8, 0.9), n=360, ann_accuracy=0.95))
    '<svg...80.0</text>...90.0</text>...ANN 95.0 %</text>...</svg>'
    """
    steps = range(1, len(result.accuracy) + 1)
    bounds = [interval(result, fraction) for fraction in result.accuracy]

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.grid(visible=False, axis="x")
        axes.vlines(steps, *zip(*bounds, strict=True), color=style.SNN, alpha=0.25, linewidth=5)
        axes.plot(steps, result.accuracy, color=style.SNN, marker="o", zorder=3)
        for index in range(len(steps)) if len(steps) <= 10 else (0, len(steps) - 1):
            text = percent(result.accuracy[index], result.n).removesuffix(" %")
            style.write(axes, text, (index + 1, bounds[index][0]), (0, -9), "center")
        if result.ann_accuracy is not None:
            axes.axhline(result.ann_accuracy, color=style.ANN, dashes=(4, 2), linewidth=1.5)
            text = f"ANN {percent(result.ann_accuracy, result.n)}"
            style.write(axes, text, (0.55, result.ann_accuracy), (0, 9), "left")
        axes.set_xlim(0.5, len(steps) + 0.5)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        axes.margins(y=0.12)
        axes.set_xlabel("timesteps")

    label = f"Accuracy of the SNN after each of {plural(len(steps), 'timestep')}"
    return style.draw("accuracy", label, 300, content)


def spikes_figure(neurons: Sequence[NeuronActivity]) -> str:
    """Spike rate of each layer at each step as a heat map; beside it their sum over the steps.

    >>> rates = dict(neurons=4, spikes_per_step=(0.25, 0.5), threshold=1.0, leak=1.0)
    >>> spikes_figure([NeuronActivity(path="relu", **rates)])
    '<svg...0.25</text>...0.50</text>...0.75</text>...</svg>'
    """
    rates = np.array([layer.spikes_per_step for layer in neurons])
    layers, steps = rates.shape

    def content(figure: Figure) -> None:
        heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=(min(steps, 8) + 1, 5))
        _heat_map(figure, heat, rates)
        totals = rates.sum(axis=1)
        bars.barh(range(layers), totals, height=0.6, color=style.SNN)
        if style.row_height(layers) >= 13:
            for row, total in enumerate(totals):
                style.write(bars, spikes(total), (total, row), (5, 0), "left")
        bars.set_title(f"Spikes per neuron over {plural(steps, 'step')}")
        bars.margins(x=0.2)
        style.label_rows(heat, [layer.path for layer in neurons])

    label = f"Spike rate of {plural(layers, 'layer')} at each of {plural(steps, 'timestep')}"
    return style.draw("spikes", label, layers * style.row_height(layers) + 110, content)


def _heat_map(figure: Figure, axes: Axes, rates: NDArray[np.float64]) -> None:
    """Shades, with the numbers in the cells, or where there are too many with a colour bar."""
    layers, steps = rates.shape
    top = max(float(rates.max()), 1e-3)
    image = axes.imshow(
        rates, style.shades(), aspect="auto", vmin=0, vmax=top, interpolation="none"
    )
    axes.set_title("Spikes per neuron and step")
    _separate_cells(axes, layers, steps)
    if style.row_height(layers) >= 18 and steps <= 10:
        style.write_cells(axes, rates, [f"{rate:.2f}" for rate in rates.flat], top)
    else:
        bar = figure.colorbar(image, ax=axes, location="bottom", aspect=50, pad=0.02)
        bar.outline.set_visible(False)


def _separate_cells(axes: Axes, rows: int, columns: int) -> None:
    """White lines between the cells of a heat map, as long as there is room for them."""
    axes.grid(visible=False)
    if rows * columns <= 400:
        axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=2)
    style.label_steps(axes, columns)
    axes.spines[:].set_visible(False)


def neurons_figure(neurons: Sequence[NeuronActivity]) -> str:
    """What the neurons of each layer show, as threshold and leak, and what before the training.

    Of what differs within a layer the dot is the mean, and a thin line the range.

    >>> rates = dict(neurons=4, spikes_per_step=(0.25, 0.5), threshold=1.0, leak=1.0)
    >>> "before training" in neurons_figure([NeuronActivity(path="relu", **rates)])
    False
    """

    def content(figure: Figure) -> None:
        columns = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(columns, names, strict=True):
            _moved(axes, neurons, name)
            axes.set_title(listed([name]))
            if name.endswith("leak"):
                fit_shares(axes)
        style.label_rows(columns[0], [layer.path for layer in neurons])
        if any(layer.readings_start for layer in neurons):
            _legend(columns[-1])

    names = reading_names(neurons)
    height = len(neurons) * style.row_height(len(neurons)) + 100
    layers = plural(len(neurons), "layer")
    label = f"{listed(names)} of {layers} before and after training"
    return style.draw("neurons", label, height, content)


def fit_shares(axes: Axes) -> None:
    """An x axis from 0 to 1 at least.

    >>> def content(figure: "Figure") -> None:
    ...     fit_shares(axes := figure.subplots())
    ...     print(axes.get_xlim()[1])
    >>> _ = style.draw("shares", "", 99, content)
    1.05
    """
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), max(1.05, axes.get_xlim()[1]))


def _moved(axes: Axes, neurons: Sequence[NeuronActivity], name: str) -> None:
    """One row each: a hollow dot where a value stood, a full one where it is, a line between."""
    rows = [row for row, layer in enumerate(neurons) if name in layer.readings]
    after = [neurons[row].readings[name] for row in rows]
    known = [row for row in rows if name in neurons[row].readings_start]
    start = [neurons[row].readings_start.get(name, neurons[row].readings[name]) for row in rows]
    axes.hlines(rows, start, after, color=style.SNN_LIGHT, linewidth=3)
    for row in rows:
        if name in neurons[row].ranges:
            axes.hlines(row, *neurons[row].ranges[name], color=style.SNN, linewidth=1)
    axes.grid(visible=True, axis="y", color="#f1f4f7")
    size = max(3.5, min(7.0, style.row_height(len(neurons)) / 2.5))
    axes.plot(
        [neurons[row].readings_start[name] for row in known],
        known,
        "o",
        color=style.ANN,
        markerfacecolor="white",
        markersize=size,
        label="before training",
    )
    axes.plot(after, rows, "o", color=style.SNN, markersize=size, label="after training")
    scale_for([*start, *after], axes)


def scale_for(values: Sequence[float], axes: Axes) -> None:
    """A logarithmic x axis for values of very different size, a plain one for others.

    >>> def content(figure: "Figure") -> None:
    ...     scale_for([0.01, 1.0], figure.subplots())
    ...     print(figure.axes[0].get_xscale())
    >>> _ = style.draw("scale", "", 99, content)
    log
    """
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.locator_params(axis="x", nbins=6)


def _legend(axes: Axes) -> None:
    """The legend above the axes, at the right: the title is at the left."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.3)


def energy_figure(
    operations: Sequence[LayerOperations], total: Energy, quotable: bool = True
) -> str:
    """The energy of both networks in all, and layer by layer on a logarithmic axis.

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
    """Two bars: the ANN's energy, and the SNN's by kind of operation."""
    draw_totals(axes, operations, total, (0.0, 1.0), quotable)
    axes.set_yticks([0, 1], ["ANN", "SNN"])
    axes.set_title("In all")
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    _legend(axes)


def draw_totals(
    axes: Axes,
    operations: Sequence[LayerOperations],
    total: Energy,
    rows: tuple[float, float],
    quotable: bool = True,
) -> None:
    """The ANN's bar and the SNN's at two heights, with the energies written beside them.

    Without ``quotable``, as of a network at chance, how they compare is left out.

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
    """One row for each layer: the ANN's dot, the SNN's, and the factor between them."""
    rows = range(len(operations))
    spent = [pj for o in operations for pj in (o.ann_pj, o.snn_pj) if pj > 0]
    least = min(spent, default=1.0)  # what costs nothing stands at the left end, hollow
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
    _legend(axes)
