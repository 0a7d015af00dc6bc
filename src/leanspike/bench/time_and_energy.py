"""The figure of part "engine": time and energy of the ANN in each precision, of the SNN by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanspike.bench.engine_tables import FLOAT32, INT8, fastest
from leanspike.bench.result import Counted, Outcome, Race
from leanspike.report import style
from leanspike.report.quantities import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 420
SHOWN = (64, 1)
"""The batches that are drawn, from left to right, where they were raced."""
LABEL = "Time and energy of an image: the ANN by precision, the SNN and the engine by step"


@dataclass(frozen=True)
class Line:
    """What is drawn of an SNN's rival: its name, its words, its prices and its colours."""

    name: str
    words: str
    whole: bool
    color: str
    ink: str = "#ffffff"


LINES = (
    Line("snn", "SNN, PyTorch", False, style.SNN_LIGHT, style.INK),
    Line("engine_f32", "engine, float32", False, style.SNN_DARK),
    Line("engine_int8", "engine, int8", True, style.SNN),
    Line("engine_int6", "engine, 6 bits", True, style.ACCENT),
)
ANNS = (
    (FLOAT32, "ANN, float32", "ann_pj", style.INK, "s"),
    (INT8, "ANN, int8", "ann_int8_pj", style.ANN, "D"),
)


@dataclass(frozen=True)
class Point:
    """A place in the figure, with the share of right answers there."""

    ms: float
    microjoules: float
    accuracy: float | None


def engine_figure(race: Race) -> str:
    """Draw the figure as an SVG file. Without times and energies it is empty.

    >>> engine_figure(Race.model_construct(engine=(), counted=None))[:4]
    '<svg'
    """
    shown = [o for batch in SHOWN for o in race.engine if o.heat.batch == batch]

    def content(drawing: Figure) -> None:
        if not shown or race.counted is None:
            return
        panels = drawing.subplots(1, len(shown), sharey=True, squeeze=False).flat
        for axes, outcome in zip(panels, shown, strict=True):
            _panel(axes, outcome, race.counted, race.scored or race.counted.images)
        drawing.axes[0].set_ylabel("energy of an image, µJ")
        drawing.legend(
            *drawing.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3
        )

    return style.standalone(style.draw("engine", LABEL, HEIGHT, content), HEIGHT)


def _panel(axes: Axes, outcome: Outcome, counted: Counted, scored: int) -> None:
    batch = outcome.heat.batch
    axes.set_title("one image at a time" if batch == 1 else f"batches of {batch} images")
    axes.set_xlabel("time of an image, ms")
    _logarithmic(axes)
    for names, words, field, color, marker in ANNS:
        name = fastest(outcome, names)
        if name is not None:
            place = _point(outcome, name, getattr(counted, field))
            assert place is not None
            axes.plot(
                [place.ms],
                [place.microjoules],
                marker,
                color=color,
                markersize=10,
                label=f"{words}{_right([place], scored)}",
            )
    for line in LINES:
        _steps(axes, line, points(outcome, line, counted), scored)
    axes.margins(0.15)


def _logarithmic(axes: Axes) -> None:
    """Make both axes logarithmic, with numbers at 1, 2 and 5 times the powers of 10."""
    axes.set_xscale("log", subs=())
    axes.set_yscale("log", subs=())
    axes.locator_params(subs=(1, 2, 5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(visible=True, axis="both")


def _steps(axes: Axes, line: Line, found: list[tuple[int, Point]], scored: int) -> None:
    """Draw a line through the steps, whose points hold their numbers."""
    if not found:
        return
    places = [place for _, place in found]
    axes.plot(
        [place.ms for place in places],
        [place.microjoules for place in places],
        color=line.color,
        marker="o",
        markersize=14,
        label=f"{line.words}{_right(places, scored)}",
    )
    for step, place in found:
        axes.annotate(
            f"{step}",
            (place.ms, place.microjoules),
            ha="center",
            va="center_baseline",
            fontsize=9,
            color=line.ink,
        )


def points(outcome: Outcome, line: Line, counted: Counted) -> list[tuple[int, Point]]:
    """Return the steps after which a rival was stopped, and what is drawn of each.

    >>> from leanspike.bench.result import Entry, Heat, StepEnergy
    >>> energy = StepEnergy(timesteps=1, accumulates=0, multiplies=0, float_pj=3e6, whole_pj=None)
    >>> heat = Heat(train=False, dtype="float32", batch=64, timesteps=1)
    >>> entry = Entry(contender="snn", version="1", seconds=(0.064,), accuracy=0.5)
    >>> counted = Counted.model_construct(steps=(energy,))
    >>> points(Outcome(heat=heat, entries=(entry,)), LINES[0], counted)
    [(1, Point(ms=1.0, microjoules=3.0, accuracy=0.5))]
    """
    found = []
    for spent in counted.steps:
        last = spent.timesteps == outcome.heat.timesteps
        name = line.name if last else f"{line.name}@{spent.timesteps}"
        picojoules = spent.whole_pj if line.whole else spent.float_pj
        place = None if picojoules is None else _point(outcome, name, picojoules)
        if place is not None:
            found.append((spent.timesteps, place))
    return found


def _point(outcome: Outcome, name: str, picojoules: float) -> Point | None:
    entry = outcome.entry(name)
    if entry is None:
        return None
    ms = entry.median * 1e3 / outcome.heat.batch
    return Point(ms, picojoules / 1e6, entry.accuracy)


def _right(places: list[Point], scored: int) -> str:
    """Return accuracies in words, for the legend."""
    shares = [place.accuracy for place in places if place.accuracy is not None]
    figures = [percent(share, scored).removesuffix(" %") for share in shares]
    return f": {', '.join(figures)} %" if figures else ""
