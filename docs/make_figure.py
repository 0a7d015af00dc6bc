"""Draw the README's figure from a run of the quickstart.

    leanspike train digits
    python docs/make_figure.py runs/digits docs/digits.svg

One test image and the spikes it sets off, accuracy after each step, energy. Equal runs give equal
bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leanspike.evaluation import Result, load_result
from leanspike.evaluation.result import Raster
from leanspike.report import style
from leanspike.report.quantities import energy, percent, times

HEIGHT = 270


def main(run: Path, out: Path) -> None:
    """Read ``run``'s result, write ``out``."""
    result = load_result(run / "result.json")
    label = "One test image, the spikes of each layer, accuracy after each step, and energy"
    svg = style.draw("readme", label, HEIGHT, lambda figure: _content(figure, result))
    out.write_text(style.standalone(svg, HEIGHT), encoding="utf-8")


def _content(figure: Figure, result: Result) -> None:
    parts = figure.subfigures(1, 3, squeeze=False, width_ratios=(0.9, 2.2, 2.2))
    image, spikes, right = parts.flat
    _image(image.subplots(), result)
    assert result.example is not None
    rasters = result.example.rasters
    for axes, raster in zip(spikes.subplots(len(rasters), 1), rasters, strict=True):
        _raster(axes, raster, result.timesteps)
    spikes.axes[0].set_title(f"its spikes in {result.timesteps} steps")
    above, below = right.subplots(2, 1, height_ratios=(3, 1.4))
    _accuracy(above, result)
    _energy(below, result)


def _image(axes: Axes, result: Result) -> None:
    assert result.example is not None
    axes.imshow(np.asarray(result.example.pixels).squeeze(), "gray_r", interpolation="none")
    axes.set_axis_off()
    axes.set_anchor("N")
    axes.set_title("a test image")


def _raster(axes: Axes, raster: Raster, timesteps: int) -> None:
    """A dash for each spike of each neuron shown, steps from left to right."""
    step, neuron = np.array(raster.spikes, dtype=float).reshape(-1, 2).T
    gap = np.full(len(step), np.nan)
    x, y = np.stack([step - 0.45, step + 0.45, gap]), np.stack([neuron, neuron, gap])
    axes.plot(x.T.ravel(), y.T.ravel(), color=style.SNN, linewidth=1, solid_capstyle="butt")
    axes.set_xlim(-0.5, timesteps - 0.5)
    axes.set_ylim(raster.shown - 0.5, -0.5)
    axes.set_facecolor("#f5f7fa")
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([(raster.shown - 1) / 2], [raster.path])


def _accuracy(axes: Axes, result: Result) -> None:
    steps = range(1, result.timesteps + 1)
    axes.plot(steps, result.accuracy, color=style.SNN, marker="o")
    for step, fraction in zip(steps, result.accuracy, strict=True):
        text = percent(fraction, result.n).removesuffix(" %")
        style.write(axes, text, (step, fraction), (5, -13), "left")
    if result.ann_accuracy is not None:
        axes.axhline(result.ann_accuracy, color=style.ANN, dashes=(4, 2), linewidth=1.5)
        text = f"ANN {percent(result.ann_accuracy, result.n)}"
        style.write(axes, text, (0.6, result.ann_accuracy), (0, 9), "left")
    axes.set_title("accuracy in % after each step")
    axes.set_xlim(0.5, result.timesteps + 0.5)
    axes.margins(y=0.25)
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.set_yticks([])
    axes.grid(visible=False)


def _energy(axes: Axes, result: Result) -> None:
    total = result.energy
    spent = (total.ann_pj, total.snn_pj)
    axes.barh(["ANN", "SNN"], spent, color=[style.ANN, style.SNN], height=0.6)
    style.write(axes, energy(spent[0]), (spent[0], 0), (6, 0), "left")
    fewer = f"{energy(spent[1])} · {times(total.ratio)} less"
    style.write(axes, fewer, (spent[1], 1), (6, 0), "left")
    axes.set_title(f"energy of one image, T = {result.timesteps}")
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
