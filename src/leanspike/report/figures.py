"""The report's figures of the network: accuracy, spikes, thresholds and leaks.

Each function turns a result into inline SVG. It holds for 1 to hundreds of layers, and for 1 to
dozens of timesteps. Rows are layers, from the input down. ``style`` holds the look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leanspike.evaluation.layers import NeuronActivity
from leanspike.evaluation.result import Result
from leanspike.report import style
from leanspike.report.axes import fit_shares, legend_above, scale_for
from leanspike.report.quantities import percent, plural, spikes
from leanspike.report.text import interval, listed, reading_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_figure(result: Result) -> str:
    """Draw the accuracy after every step with its 95 % interval, and the ANN's as a line.

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
    """Draw the spike rate of each layer at each step as a heat map, and the sum over the steps.

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
    """Draw shades with numbers in the cells, or a colour bar if there are too many cells."""
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
    """Draw white lines between the cells of a heat map, if there is room."""
    axes.grid(visible=False)
    if rows * columns <= 400:
        axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=2)
    style.label_steps(axes, columns)
    axes.spines[:].set_visible(False)


def neurons_figure(neurons: Sequence[NeuronActivity]) -> str:
    """Draw the neurons' readings by layer, as threshold and leak, before and after training.

    If a reading differs within a layer, the dot is the mean, and a thin line the range.

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
            legend_above(columns[-1])

    names = reading_names(neurons)
    height = len(neurons) * style.row_height(len(neurons)) + 100
    layers = plural(len(neurons), "layer")
    label = f"{listed(names)} of {layers} before and after training"
    return style.draw("neurons", label, height, content)


def _moved(axes: Axes, neurons: Sequence[NeuronActivity], name: str) -> None:
    """Draw a row per layer: a hollow dot for the old value, a full one for the new, and a line."""
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
