"""The report's figures of early exit: γ over time, accuracy over steps and energy, leaving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.result import Result
from leanspike.report import style
from leanspike.report.quantities import energy, percent, plural
from leanspike.report.text import interval, sample_noun, tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_AT_MOST = 12
LOOKS = {  # of the rules, which differ without colour, too
    "gamma": (style.SNN_DARK, "s"),
    "margin": (style.ACCENT, "D"),
    "entropy": (style.SNN, "^"),
}


def gamma_figure(gammas: Mapping[str, Sequence[float]]) -> str:
    """Draw the mean γ of each BNTT layer over time. First layers are light, last ones dark.

    >>> gamma_figure({"features.norm2": (0.9, 0.5), "features.norm3": (0.8, 0.1)})
    '<svg...features.norm2</text>...features.norm3</text>...</svg>'
    """
    steps = max(len(row) for row in gammas.values())

    def content(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(axis="y")
        shades = style.shades()
        for number, (path, row) in enumerate(gammas.items()):
            color = shades(0.35 + 0.65 * number / max(1, len(gammas) - 1))
            marker = "o" if steps <= 12 else ""
            axes.plot(range(1, len(row) + 1), row, color=color, marker=marker, label=tail(path, 30))
        axes.axhline(0, color=style.GRID, linewidth=1)
        axes.set_xlim(0.5, steps + 0.5)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.set_xlabel("timestep")
        axes.set_title("Mean γ over the channels")
        if len(gammas) <= LEGEND_AT_MOST:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    label = f"Mean γ of {plural(len(gammas), 'layer')} at each of {plural(steps, 'timestep')}"
    return style.draw("gamma", label, 300, content)


def exit_figure(result: Result) -> str:
    """Draw accuracy over mean timesteps and over energy, for fixed steps and for each rule.

    The left plot also has each rule's curve over its thresholds, on the held-out samples by which
    it was chosen. The right plot has 95 % intervals. A hollow mark is the chosen point, a full one
    the measured point.

    >>> from leanspike.evaluation.result import Energy
    >>> early = EarlyExit.model_construct(
    ...     by="margin", curve=((1.0, 0.8), (1.5, 0.9), (2.0, 0.9)), validation_n=500,
    ...     validation_mean_steps=1.5, validation_accuracy=0.9,
    ...     n=360, mean_steps=1.4, accuracy=0.9, snn_pj=7e6)
    >>> exit_figure(Result.model_construct(
    ...     accuracy=(0.8, 0.9), n=360, early_exit=(early,), encode="direct",
    ...     energy=Energy.model_construct(snn_pj=9e6)))
    '<svg...energy for one image</text>...margin: 1.40 steps, 7.00 µJ, 90.0 %</text>...</svg>'
    """

    def content(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _against_steps(left, result)
        _against_energy(right, result)
        for axes in (left, right):
            axes.grid(visible=True, axis="both")
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        figure.legend(loc="outside lower left", ncols=2)

    label = "Accuracy against mean timesteps and against energy with early exit"
    return style.draw("exit", label, 340 + 20 * len(result.early_exit), content)


def _against_steps(axes: Axes, result: Result) -> None:
    """Draw the curves on held-out samples, the chosen points (hollow) and the measured ones."""
    noun = sample_noun(result)
    steps = range(1, len(result.accuracy) + 1)
    text = f"all {noun}s stop after the same step"
    axes.plot(steps, result.accuracy, color=style.ANN, marker="o", label=text)
    for early in result.early_exit:
        color, marker = LOOKS[early.by]
        text = f"{early.by} on {plural(early.validation_n, f'held-out {noun}')}; hollow: chosen"
        axes.plot(*zip(*sorted(early.curve), strict=True), color=color, dashes=(2, 1), label=text)
        axes.plot(
            [early.validation_mean_steps], [early.validation_accuracy], marker, color=color,
            markerfacecolor="white", markeredgewidth=2, markersize=8, zorder=3,
        )  # fmt: skip
        axes.plot([early.mean_steps], [early.accuracy], marker, color=color, markersize=9, zorder=4)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.set_xlabel("mean timesteps")


def _against_energy(axes: Axes, result: Result) -> None:
    """Draw all steps and each rule with their intervals, on an axis from energy 0."""
    full, last = result.energy.snn_pj, result.accuracy[-1]
    bounds = interval(result, last)
    axes.vlines([full], *bounds, color=style.ANN, alpha=0.25, linewidth=5, label="95 % interval")
    axes.plot([full], [last], "o", color=style.ANN)
    for early in result.early_exit:
        color, marker = LOOKS[early.by]
        bounds = interval(result, early.accuracy)
        axes.vlines([early.snn_pj], *bounds, color=color, alpha=0.25, linewidth=5)
        reached = percent(early.accuracy, early.n)
        text = f"{early.by}: {early.mean_steps:.2f} steps, {energy(early.snn_pj)}, {reached}"
        axes.plot([early.snn_pj], [early.accuracy], marker, color=color, markersize=9, label=text)
    axes.set_xlim(0, 1.15 * max(full, *(early.snn_pj for early in result.early_exit)))
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda value, _: energy(value))
    axes.set_xlabel(f"energy for one {sample_noun(result)}")


def leaving_figure(early: EarlyExit) -> str:
    """Draw the share of each class that leaves after each step.

    >>> from leanspike.evaluation.exit_result import ClassExit
    >>> cat = ClassExit(name="cat", n=10, accuracy=0.9, mean_steps=1.4, leaving=(0.6, 0.4))
    >>> leaving_figure(EarlyExit.model_construct(by="margin", leaving=(0.6, 0.4), classes=(cat,)))
    '<svg...cat</text>...0.60</text>...1.40</text>...</svg>'
    """
    classes = [early.classes[i] for i in style.thin(len(early.classes), 100)]
    shares = np.array([row.leaving for row in classes])
    rows, steps = shares.shape

    def content(figure: Figure) -> None:
        heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=(min(steps, 8) + 1, 4))
        top = max(float(shares.max()), 1e-3)
        heat.imshow(shares, style.shades(), aspect="auto", vmin=0, vmax=top, interpolation="none")
        heat.grid(visible=False)
        heat.set_title("Share of the class that leaves after each step")
        style.label_steps(heat, steps)
        if style.row_height(rows) >= 18 and steps <= 10:
            style.write_cells(heat, shares, [f"{share:.2f}" for share in shares.flat], top)
        _mean_steps(bars, [row.mean_steps for row in classes], steps)
        style.label_rows(heat, [row.name for row in classes])

    label = f"When the {rows} classes leave by {early.by}"
    return style.draw("leaving", label, rows * style.row_height(rows) + 90, content)


def _mean_steps(axes: Axes, values: Sequence[float], steps: int) -> None:
    axes.barh(range(len(values)), values, height=0.6, color=style.SNN)
    if style.row_height(len(values)) >= 13:
        for row, value in enumerate(values):
            style.write(axes, f"{value:.2f}", (value, row), (5, 0), "left")
    axes.set_title("Mean steps")
    axes.set_xlim(0, 1.2 * steps)
