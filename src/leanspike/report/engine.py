"""The work of a compiled network for an image, as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.engine import Explanation, LayerWork
from leanspike.report.quantities import count, duration

WIDTH = 8
"""The width of bars that show a share."""

HOW = (
    "events: each spike adds its row of weights, and work is additions; dense: "
    "analog values enter, and work is multiply-accumulates; once: the same at each step"
)


def render_explanation(explanation: Explanation) -> RenderableType:
    """Return a table of the layers: how each runs, its input, work, time and share of the work.

    Numbers are means for one image over all its steps.

    >>> from rich.console import Console
    >>> row = LayerWork("conv2", "event-driven", "5.0 % of what enters is not 0", 320.0, 0.05,
    ...                 "i8", 92160.0, 0.0, 1.0, 0.0001)
    >>> Console(width=80).print(render_explanation(Explanation((row,), 0.0, 16, 4)))
    What each layer does for one image, T = 4 (mean of 16)
    layer  runs    events  density    work      time  share of work
    conv2  events     320    5.0 %  92.2 k  0.100 ms  ████████ 100 %
    events: each spike adds ...
    all of it for one image in one thread: 0.100 ms
    """
    timed = explanation.between_seconds is not None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("layer", "runs"):
        table.add_column(name, overflow="fold")
    numbers = ("events", "density", "work")
    for name in (*numbers, *(["time"] if timed else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share of work", no_wrap=True)
    for row in explanation.layers:
        table.add_row(*_cells(row, timed))
    title = (
        f"What each layer does for one image, T = {explanation.timesteps} "
        f"(mean of {explanation.images})"
    )
    parts: list[RenderableType] = [Text(title, style="bold"), table, Text(HOW, style="dim")]
    if explanation.between_seconds is not None:
        spent = [row.seconds or 0.0 for row in explanation.layers]
        total = sum(spent) + explanation.between_seconds
        line = f"all of it for one image in one thread: {duration(1000 * total)}"
        parts.append(Text(line, style="dim"))
    return Group(*parts)


def _cells(row: LayerWork, timed: bool) -> list[str]:
    runs = "events" if row.runs == "event-driven" else "dense"
    time = [] if not timed else ["" if row.seconds is None else duration(1000 * row.seconds)]
    bar = "█" * round(WIDTH * row.share) or "▏"
    return [
        row.path,
        f"{runs}, once" if row.once else runs,
        "" if row.events is None else count(row.events),
        "" if row.density is None else f"{100 * row.density:.1f} %",
        count(row.accumulates + row.multiplies),
        *time,
        f"{bar} {100 * row.share:.0f} %",
    ]
