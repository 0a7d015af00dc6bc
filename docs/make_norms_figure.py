"""Draw docs/norms.svg: the accuracy after each step by norm, from the studies in results/.

    python docs/make_norms_figure.py

Equal runs give equal bytes.
"""

from __future__ import annotations

import numpy as np
from make_results import ROOT, groups, result_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leanspike.report import style

OUT, HEIGHT = ROOT / "docs" / "norms.svg", 320
PANELS = {
    "norms": "Poisson input, trained to 8 steps",
    "direct": "direct input, trained to 5 steps",
}
NORMS = {
    "bntt": ("BNTT", style.SNN, "-"),
    "tebn": ("TEBN", style.ACCENT, "-"),
    "keep": ("one batch norm for all steps", style.SNN_DARK, "--"),
    "none": ("no norm", style.ANN, "-"),
}


def figure() -> str:
    """The figure as a file of SVG."""
    label = "Accuracy after each step of networks with BNTT, TEBN, one batch norm, and none"
    return style.standalone(style.draw("norms", label, HEIGHT, _content), HEIGHT)


def _content(figure: Figure) -> None:
    both = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (runs, title) in zip(both, PANELS.items(), strict=True):
        _curves(axes, runs)
        axes.set_title(title)
        axes.set_xlabel("timesteps")
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
        axes.grid(visible=False, axis="x")
    both[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _curves(axes: Axes, runs: str) -> None:
    """The mean over the seeds, in a band from the worst to the best."""
    for norm, (name, color, dashes) in NORMS.items():
        (paths,) = groups([f"{runs}/{norm}"])
        values = 100 * np.array([result_of(path).accuracy for path in paths.values()])
        steps = np.arange(1, values.shape[1] + 1)
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
        axes.plot(steps, values.mean(0), color=color, linestyle=dashes, label=name)


if __name__ == "__main__":
    OUT.write_text(figure(), encoding="utf-8")
