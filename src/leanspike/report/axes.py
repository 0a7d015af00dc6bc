"""Settings of axes that several figures share: scale, range and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def fit_shares(axes: Axes) -> None:
    """Extend the x axis to at least the range from 0 to 1.

    >>> from leanspike.report import style
    >>> def content(figure: "Figure") -> None:
    ...     fit_shares(axes := figure.subplots())
    ...     print(axes.get_xlim()[1])
    >>> _ = style.draw("shares", "", 99, content)
    1.05
    """
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), max(1.05, axes.get_xlim()[1]))


def scale_for(values: Sequence[float], axes: Axes) -> None:
    """Make the x axis logarithmic if the values differ much in size.

    >>> from leanspike.report import style
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


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, at the right, since the title is at the left."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.3)
