"""The figures of a comparison. Each shows all runs, which differ by colour and mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leanspike.report import style
from leanspike.report.axes import fit_shares, scale_for
from leanspike.report.compare.runs import Compared
from leanspike.report.energy import draw_totals
from leanspike.report.quantities import percent, plural
from leanspike.report.story import Epoch, read_epochs
from leanspike.report.text import interval, listed, reading_names, tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Seven of each, in new pairs after seven runs: 49 runs look different.
COLORS = (style.SNN, style.ACCENT, "#008a63", "#a04a97", "#a87900", "#2e9fc4", style.INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_NAME = 34


def color(run: Compared) -> str:
    """Return the colour of a run, the same in every figure and in the page's tables.

    >>> from leanspike.evaluation.result import Result
    >>> color(Compared(0, "first", Result.model_construct(), []))
    '#0b6bb3'
    """
    return COLORS[run.number % len(COLORS)]


def _marker(run: Compared) -> str:
    return MARKERS[(run.number + run.number // len(COLORS)) % len(MARKERS)]


def accuracy_figure(runs: Sequence[Compared]) -> str:
    """Draw the accuracy of all runs after every step, with 95 % intervals; ANNs are dashed lines.

    The figure is "" if no run has an accuracy.

    >>> from leanspike.evaluation.result import Result
    >>> result = Result.model_construct(accuracy=(0.8, 0.9), n=360, ann_accuracy=0.95)
    >>> accuracy_figure([Compared(0, "first", result, [])])
    '<svg...first: 90.0 % (ANN 95.0 %)</text>...</svg>'
    """
    measured = [run for run in runs if run.result.accuracy]
    most = max(len(run.result.accuracy) for run in runs)
    if not measured:
        return ""

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        for run in measured:
            _accuracy(axes, run)
        axes.set_xlim(0.5, most + 0.5)
        axes.set_xlabel("timesteps")
        _percent_axis(axes)
        axes.margins(y=0.08)
        _legend(figure, axes, runs)

    label = f"Accuracy of {plural(len(runs), 'SNN')} after each of up to {most} timesteps"
    return style.draw("accuracies", label, 330 + _legend_height(runs), content)


def _accuracy(axes: Axes, run: Compared) -> None:
    result = run.result
    steps = range(1, len(result.accuracy) + 1)
    bounds = [interval(result, fraction) for fraction in result.accuracy]
    words = f"{_name(run)}: {percent(result.accuracy[-1], result.n)}"
    if result.ann_accuracy is not None:
        words += f" (ANN {percent(result.ann_accuracy, result.n)})"
        axes.axhline(result.ann_accuracy, color=color(run), dashes=(4, 3), linewidth=1.2)
    axes.vlines(steps, *zip(*bounds, strict=True), color=color(run), alpha=0.25, linewidth=5)
    axes.plot(steps, result.accuracy, color=color(run), marker=_marker(run), label=words, zorder=3)


def _percent_axis(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")


def _name(run: Compared) -> str:
    return tail(run.name, _NAME)


def _legend_columns(runs: Sequence[Compared]) -> int:
    """Return how many columns of names with two accuracies fit."""
    longest = max(len(_name(run)) for run in runs)
    return max(1, min(len(runs), int(style.WIDTH / (7.5 * (longest + 24) + 40))))


def _legend_height(runs: Sequence[Compared]) -> float:
    return 19.0 * -(-len(runs) // _legend_columns(runs))


def _legend(figure: Figure, axes: Axes, runs: Sequence[Compared]) -> None:
    """Put the legend of runs above the plot, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = _legend_columns(runs)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.8)


def training_figure(runs: Sequence[Compared]) -> str:
    """Draw the accuracy on held-out data over the epochs, of ANNs (left) and SNNs (right).

    The stages of an SNN follow each other. The figure is "" if no run has such an epoch.

    >>> from leanspike.evaluation.result import Result
    >>> epoch = {"event": "epoch", "stage": "ann", "epoch": 1, "train_loss": 2.3,
    ...          "train_accuracy": 0.1, "val_accuracy": 0.2}
    >>> training_figure([Compared(0, "first", Result.model_construct(), [epoch])])
    '<svg...first</text>...</svg>'
    >>> training_figure([Compared(0, "first", Result.model_construct(), [])])
    ''
    """
    curves = {run.number: held_out(run) for run in runs}
    shown = [run for run in runs if any(curves[run.number])]
    titles = ("ANN", "SNN, from its conversion on")
    columns = [side for side in (0, 1) if any(curves[run.number][side] for run in shown)]
    if not shown:
        return ""

    def content(figure: Figure) -> None:
        grid = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, side in zip(grid, columns, strict=True):
            for run in shown:
                _curve(axes, run, curves[run.number][side])
            axes.set_title(titles[side])
            axes.set_xlabel("epoch")
            _percent_axis(axes)
        grid[0].set_ylabel("accuracy on held-out data")
        _legend(figure, grid[0], shown)

    label = f"Accuracy on held-out data over the epochs of {plural(len(shown), 'run')}"
    return style.draw("trainings", label, 300 + _legend_height(shown), content)


def held_out(run: Compared) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Return (epoch, accuracy on held-out data) for the ANN, and for the SNN's stages in a row.

    >>> from leanspike.evaluation.result import Result
    >>> epoch = {"event": "epoch", "stage": "snn T=2", "epoch": 1, "train_loss": 2.3,
    ...          "train_accuracy": 0.1, "val_accuracy": 0.2}
    >>> held_out(Compared(0, "first", Result.model_construct(), [epoch]))
    ([], [(1, 0.2)])
    """
    stages = read_epochs(run.history)
    ann = [epochs for stage, epochs in stages.items() if stage == "ann"]
    snn = [epochs for stage, epochs in stages.items() if stage != "ann"]
    return _in_a_row(ann), _in_a_row(snn)


def _in_a_row(stages: Sequence[Sequence[Epoch]]) -> list[tuple[int, float]]:
    """Number the epochs through all stages, and leave out those without held-out data."""
    accuracies = [epoch.val_accuracy for epochs in stages for epoch in epochs]
    return [(at, value) for at, value in enumerate(accuracies, 1) if value is not None]


def _curve(axes: Axes, run: Compared, points: Sequence[tuple[int, float]]) -> None:
    at, accuracy = zip(*points, strict=True) if points else ((), ())
    every = -(-max(len(at), 1) // 12)
    # A run without points here keeps its place in the legend: it may have some in the other plot.
    axes.plot(
        at,
        accuracy,
        color=color(run),
        marker=_marker(run),
        markersize=5,
        markevery=every,
        label=_name(run),
    )


def energy_figure(runs: Sequence[Compared]) -> str:
    """Draw two bars for each run, on one scale: the ANN's energy, and the SNN's by operation.

    >>> from leanspike.evaluation.result import Energy, Result
    >>> total = Energy(mac_pj=4.6, ac_pj=0.9, ann_pj=46, snn_pj=11.5, membrane_updates=2,
    ...                membrane_pj=2.5, ratio=4, formula_ratio=5, spikes_per_neuron=1)
    >>> result = Result.model_construct(
    ...     operations=(), energy=total, timesteps=5, accuracy=(0.9,), n=360, classes=())
    >>> energy_figure([Compared(0, "a", result, [])])
    '<svg...46.0 pJ</text>...11.5 pJ · 4.0× less</text>...a, T = 5</text>...</svg>'
    """

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        for row, run in enumerate(runs):
            result, heights = run.result, (3 * row, 3 * row + 0.8)
            quotable = not result.at_chance
            draw_totals(axes, result.operations, result.energy, heights, quotable)
            axes.annotate(
                f"{_name(run)}, T = {run.result.timesteps}",
                (0, 3 * row - 0.72),
                xycoords=("axes fraction", "data"),
                va="center",
                color=color(run),
                fontweight="bold",
            )
        rows = [3 * row + shift for row in range(len(runs)) for shift in (0, 0.8)]
        axes.set_yticks(rows, ["ANN", "SNN"] * len(runs))
        axes.set_ylim(3 * len(runs) - 1.6, -1.4)
        axes.margins(x=0.22)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[:3], labels[:3], loc="outside upper left", ncols=3)

    label = f"Energy of the ANN and the SNN of {plural(len(runs), 'run')}"
    return style.draw("energies", label, 78 * len(runs) + 40, content)


def neurons_figure(runs: Sequence[Compared]) -> str:
    """Draw the neurons' readings by layer, before and after training, for runs of equal layers.

    >>> from leanspike.evaluation.layers import NeuronActivity
    >>> from leanspike.evaluation.result import Result
    >>> layer = NeuronActivity(path="relu", neurons=4, spikes_per_step=(0.25, 0.5), threshold=1.0,
    ...                        leak=0.9, threshold_start=1.2, leak_start=1.0)
    >>> neurons_figure([Compared(0, "first", Result.model_construct(neurons=(layer,)), [])])
    '<svg...relu</text>...first</text>...</svg>'
    """
    paths = [layer.path for layer in runs[0].result.neurons]
    row = max(style.row_height(len(paths)), min(8.0 + 8 * len(runs), 2400 / len(paths)))

    def content(figure: Figure) -> None:
        columns = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(columns, names, strict=True):
            _readings(axes, runs, name, row)
        style.label_rows(columns[0], paths)
        _legend(figure, columns[0], runs)

    names = reading_names(layer for run in runs for layer in run.result.neurons)
    layers = plural(len(paths), "layer")
    label = f"{listed(names)} of {layers}, before and after training"
    height = len(paths) * row + 80 + _legend_height(runs)
    return style.draw(f"neurons of {runs[0].number}", label, height, content)


def _readings(axes: Axes, runs: Sequence[Compared], name: str, row: float) -> None:
    """Draw one reading: a column of all layers and runs."""
    axes.grid(visible=True, axis="y", color="#f1f4f7")
    everything: list[float] = []
    for place, run in enumerate(runs):
        shift = 0.72 * ((place + 0.5) / len(runs) - 0.5)
        size = min(7.0, 0.75 * row / (len(runs) + 0.4))
        both = [(n.readings_start.get(name), n.readings.get(name)) for n in run.result.neurons]
        _moved(axes, run, both, shift, size)
        everything += [value for values in both for value in values if value is not None]
    if name.endswith("leak"):
        fit_shares(axes)
    else:
        scale_for(everything, axes)
    axes.set_title(listed([name]))


def _moved(
    axes: Axes,
    run: Compared,
    values: Sequence[tuple[float | None, float | None]],
    shift: float,
    size: float,
) -> None:
    """Draw a full mark per layer, a hollow one for the value before, if known, and a line."""
    for row, (before, after) in enumerate(values):
        if before is not None and after is not None:
            at = (row + shift, row + shift)
            axes.plot((before, after), at, color=color(run), alpha=0.4, linewidth=2)
    _marks(axes, run, [before for before, _ in values], shift, size, "white", "")
    _marks(axes, run, [after for _, after in values], shift, size, color(run), _name(run))


def _marks(
    axes: Axes,
    run: Compared,
    values: Sequence[float | None],
    shift: float,
    size: float,
    fill: str,
    label: str,
) -> None:
    known = [(value, row + shift) for row, value in enumerate(values) if value is not None]
    axes.plot(
        [value for value, _ in known],
        [row for _, row in known],
        _marker(run),
        color=color(run),
        markerfacecolor=fill,
        markersize=size,
        label=label,
    )


def same_layers(runs: Sequence[Compared]) -> list[list[Compared]]:
    """Return the runs in groups whose layers of neurons have the same paths, in order.

    >>> from leanspike.evaluation.result import Result
    >>> run = Compared(0, "first", Result.model_construct(neurons=()), [])
    >>> len(same_layers([run, run]))
    1
    """
    groups: dict[tuple[str, ...], list[Compared]] = {}
    for run in runs:
        groups.setdefault(tuple(layer.path for layer in run.result.neurons), []).append(run)
    return list(groups.values())
