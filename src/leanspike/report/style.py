"""The style of all figures: palette, type, and the conversion from matplotlib to inline SVG.

matplotlib is imported only here, and only when something is drawn. Its global state is left as it
was. One point of a figure is one CSS pixel of the page.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from leanspike.optional import import_optional
from leanspike.report.text import tail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Blue is used beside grey, orange for highlights. They differ by lightness alone, so also for any
# form of colour blindness and in black and white. report.css names the same colours.
INK, MUTED, GRID = "#1b2430", "#5b6675", "#e4e8ee"
ANN, SNN, SNN_DARK, SNN_LIGHT, ACCENT = "#8590a2", "#0b6bb3", "#083a66", "#9cc9ec", "#d55e00"
WIDTH = 800

_STYLE = {
    "font.family": "DejaVu Sans",  # wider than what pages use, so text never outgrows its room
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,  # a layer named "a$b$" is no formula
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 12,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "xtick.minor.size": 0,
    "ytick.color": GRID,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 11,
    "ytick.left": False,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "legend.handlelength": 1.2,
    "svg.fonttype": "none",  # text stays text: in the page's font, selectable, small
}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw(
    name: str, label: str, height: float, content: Callable[[Figure], None], gap: float = 14
) -> str:
    """Draw ``content`` on a figure of ``WIDTH`` × ``height`` px, and return it as inline SVG.

    ``label`` describes the figure to readers who cannot see it. ``gap`` is the distance in px
    between axes one above the other. Equal input gives equal bytes.

    >>> svg = draw("dot", "one <dot>", 100, lambda figure: None)
    >>> svg[:55], "one &lt;dot&gt;" in svg
    ('<svg class="plot" role="img" aria-label="one &lt;dot&gt', True)
    """
    styles, figures, engines = (
        import_optional(f"matplotlib.{name}", "report")
        for name in ("style", "figure", "layout_engine")
    )
    file = io.StringIO()
    style = _STYLE | {"svg.hashsalt": name}
    with styles.context(style, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page has it
        layout = engines.ConstrainedLayoutEngine(h_pad=gap / 144, w_pad=9 / 72, hspace=0, wspace=0)
        figure: Figure = figures.Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout=layout)
        content(figure)
        figure.align_ylabels()
        figure.savefig(file, format="svg", metadata=_NO_METADATA, dpi=72)
    return _inline(file.getvalue(), label)


def _inline(document: str, label: str) -> str:
    """Return an SVG file as an element of a page, without prologue and without shared ids."""
    body = document[document.index("<svg") :]
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # is in report.css
    size = re.search(r'viewBox="[^"]*"', body)
    assert size is not None  # matplotlib always writes one
    opening = f'<svg class="plot" role="img" aria-label="{html.escape(label)}" {size.group()}>'
    return opening + body[body.index(">") + 1 :].rstrip()


def standalone(svg: str, height: float) -> str:
    """Return a figure of :func:`draw` as a separate file, on white, since pages may be dark.

    >>> standalone(draw("dot", "a dot", 100, lambda figure: None), 100).splitlines()[0][:44]
    '<svg xmlns="http://www.w3.org/2000/svg" xmln'
    """
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    paper = f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="#ffffff"/>'
    head, body = svg.removeprefix("<svg ").split(">", 1)
    body = body.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    document = f"<svg {namespaces} {head}>{paper}{body}"
    return "".join(line.strip() + "\n" for line in document.splitlines())


def shades() -> Colormap:
    """Return the colours from white (no spikes) to dark blue, with evenly falling lightness.

    >>> [float(channel) for channel in shades()(0.0)]
    [1.0, 1.0, 1.0, 1.0]
    """
    from matplotlib.colors import LinearSegmentedColormap

    steps = ["#ffffff", "#dcebf7", SNN_LIGHT, "#4a9bd4", SNN, SNN_DARK]
    return LinearSegmentedColormap.from_list("spikes", steps)


def row_height(rows: int) -> float:
    """Return the height of a layer's row in px: wide for few layers, 1,200 px in all for many.

    >>> row_height(4), row_height(120)
    (24.0, 10.0)
    """
    return min(24.0, 1200 / max(rows, 1))


def label_rows(axes: Axes, paths: Sequence[str]) -> None:
    """Label the rows of layers, from top to bottom, with as many names as can be read.

    >>> draw("rows", "rows", 300, lambda figure: label_rows(figure.subplots(), ["up", "down"]))
    '<svg...>up</text>...>down</text>...</svg>'
    """
    every = math.ceil(13 / row_height(len(paths)))
    names = [tail(path, 30) for path in paths[::every]]
    axes.set_yticks(range(0, len(paths), every), names)
    axes.set_ylim(len(paths) - 0.5, -0.5)


def label_steps(axes: Axes, steps: int) -> None:
    """Label the steps from left to right, counted from 1, with at most 15 numbers.

    >>> draw("t", "t", 99, lambda figure: label_steps(figure.subplots(), 30))
    '<svg...>29</text>...</svg>'
    """
    shown = range(0, steps, math.ceil(steps / 15))
    axes.set_xticks(shown, [f"{step + 1}" for step in shown])
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("timestep")


def thin(total: int, most: int) -> list[int]:
    """Return at most ``most`` indices of 0 .. total − 1, evenly spaced, with the first and last.

    >>> thin(4, 10), thin(120, 5)
    ([0, 1, 2, 3], [0, 30, 60, 89, 119])
    """
    if total <= most:
        return list(range(total))
    return [round(index * (total - 1) / (most - 1)) for index in range(most)]


def write(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], align: str
) -> None:
    """Write a small note at a point of the data, shifted by px to the right and up.

    >>> draw("n", "n", 99, lambda figure: write(figure.subplots(), "hi", (0, 0), (0, 9), "center"))
    '<svg...hi</text>...</svg>'
    """
    axes.annotate(
        text,
        at,
        shift,
        textcoords="offset points",
        ha=align,
        va="center",
        fontsize=11,
    )


def write_cells(axes: Axes, values: NDArray[np.float64], texts: Sequence[str], top: float) -> None:
    """Write a text into every cell of a heat map, row by row, in a colour legible on its shade.

    >>> draw("cells", "", 99, lambda f: write_cells(f.subplots(), np.ones((1, 1)), ["1"], 1.0))
    '<svg...fill: #ffffff...>1</text>...</svg>'
    """
    for (row, column), text in zip(np.ndindex(*values.shape), texts, strict=True):
        color = "#ffffff" if values[row, column] > 0.55 * top else INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=11)
