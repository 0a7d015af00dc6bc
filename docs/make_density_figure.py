"""Draw docs/density.svg: the engine's time over the density of spikes, beside a dense convolution.

    python docs/make_density_figure.py

It shows the latest ``benchmarks/DATE/engine_density.txt``, which ``benchmarks/engine_density.py``
prints. Equal measurements give equal bytes.
"""

from __future__ import annotations

import numpy as np
from make_results import ROOT
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leanspike.report import style

OUT, HEIGHT = ROOT / "docs" / "density.svg", 340
TYPES = {"i6": "6-bit weights", "i8": "8-bit weights", "f32": "float32 weights"}


def measured() -> tuple[list[float], dict[str, dict[int, list[float]]]]:
    """The densities, and for each type of weights and number of channels the ratio at each."""
    latest = max(ROOT.glob("benchmarks/*/engine_density.txt"))
    head, *lines = (line for line in latest.read_text("utf-8").splitlines() if "|" in line)
    densities = [float(cell) for cell in head.split("|")[1:-1]]
    found: dict[str, dict[int, list[float]]] = {kind: {} for kind in TYPES}
    for line in lines:
        first, *cells = line.split("|")
        channels, kind = first.split()
        found[kind][int(channels)] = [float(cell.split()[0]) for cell in cells[:-1]]
    return densities, found


def figure() -> str:
    """The figure as a file of SVG."""
    label = "Time of one layer in the engine over its density, as a share of a dense convolution"
    return style.standalone(style.draw("density", label, HEIGHT, _content), HEIGHT)


def _content(figure: Figure) -> None:
    densities, found = measured()
    panels = figure.subplots(1, len(TYPES), sharey=True)
    for axes, (kind, title) in zip(panels, TYPES.items(), strict=True):
        _curves(axes, densities, found[kind])
        axes.set_title(title)
        axes.set_xlabel("density")
    panels[0].set_ylabel("time ÷ dense")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=(len(labels) + 1) // 2)


def _curves(axes: Axes, densities: list[float], ratios: dict[int, list[float]]) -> None:
    """A curve for each number of channels, and the line on which both take equally long."""
    axes.axhline(1, color=style.ANN, linestyle="--", linewidth=1)
    shades = colormaps["viridis"](np.linspace(0.0, 0.9, len(ratios)))
    for shade, (channels, values) in zip(shades, ratios.items(), strict=True):
        axes.plot(densities, values, color=shade, label=f"{channels} channels")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(densities, [f"{100 * density:.0f} %" for density in densities])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


if __name__ == "__main__":
    OUT.write_text(figure(), encoding="utf-8")
