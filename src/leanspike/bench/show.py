"""Showing a race: tables for the terminal and in Markdown, and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.bench import engine_tables
from leanspike.bench.contenders import CONTENDERS
from leanspike.bench.engine_tables import (
    engine_markdown,
    engine_page,
    markdown_table,
    origin_lines,
)
from leanspike.bench.profile import KINDS, REST
from leanspike.bench.result import Entry, Outcome, Profile, Race, Spread
from leanspike.bench.time_and_energy import engine_figure
from leanspike.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADER = ("contender", "ms", "× ANN", "leanspike ÷ it", "peak memory")
ABOUT = (
    "Times are medians over the rounds, in which all take turns. A turn is 0.1 s of calls or more, "
    "and its median call counts. A ratio is the median of the rounds' ratios, with quartiles. "
    "Peak memory is what the process held beyond what it held before its first call."
)
LINES = (style.ANN, style.SNN, style.ACCENT, "#e39b6b", "#7a9a4e", "#c9a227", style.INK)
COLORS = (style.SNN, style.SNN_DARK, style.ACCENT, style.SNN_LIGHT, "#7a9a4e", "#c9a227", style.ANN)


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Return the lines of a heat's table, with cells as in ``HEADER``."""
    return [_row(outcome, entry) for entry in outcome.entries]


def _row(outcome: Outcome, entry: Entry) -> tuple[str, ...]:
    title = CONTENDERS[entry.contender].title
    if CONTENDERS[entry.contender].package != "torch":
        title = f"{title} {entry.version}"
    if entry.failure is not None:
        return (title, entry.failure, "", "", "")
    memory = "" if entry.own_bytes is None else f"{entry.own_bytes / 2**20:,.0f} MiB"
    return (
        title,
        _milliseconds(entry.median),
        _ratio(outcome.ratio(entry.contender, "ann")),
        _ratio(outcome.ratio("leanspike", entry.contender)),
        memory,
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def render_race(race: Race) -> RenderableType:
    """Return all tables, for `rich.print`.

    >>> render_race(Race.model_construct(outcomes=())).renderables
    []
    """
    parts: list[RenderableType] = [] if race.left_out is None else [Text(race.left_out), Text()]
    for outcome in race.outcomes:
        parts += [Text(outcome.heat.title, style="bold"), _table(HEADER, rows(outcome)), Text()]
    for outcome in race.engine:
        table = _table(engine_tables.HEADER, engine_tables.engine_rows(outcome, race.scored))
        parts += [Text(outcome.heat.title, style="bold"), table, Text()]
    if race.counted is not None:
        title = f"what was counted, over {race.counted.images:,} test images"
        table = _table(engine_tables.COUNTED, engine_tables.counted_rows(race))
        parts += [Text(title, style="bold"), table, Text()]
    if race.curve:
        title = f"{race.curve[0].heat.task}: milliseconds over T"
        parts += [Text(title, style="bold"), _table(*_curve(race)), Text()]
    if race.profiles:
        parts += [Text("where the time goes, ms", style="bold"), _table(*_profiles(race)), Text()]
    return Group(*parts)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for index, column in enumerate(header):
        table.add_column(column, justify="right" if index else "left")
    for line in lines:
        table.add_row(*line)
    return table


def _curve(race: Race) -> tuple[list[str], list[list[str]]]:
    header = ["contender", *[f"T = {outcome.heat.timesteps}" for outcome in race.curve]]
    lines = []
    for name in _contenders(race.curve):
        entries = [outcome.entry(name) for outcome in race.curve]
        cells = [_milliseconds(entry.median) if entry else "–" for entry in entries]
        lines.append([CONTENDERS[name].title, *cells])
    return header, lines


def _profiles(race: Race) -> tuple[list[str], list[list[str]]]:
    header = [
        "kind of work",
        *[f"{CONTENDERS[p.contender].title}, {_short(p)}" for p in race.profiles],
    ]
    lines = []
    for kind in (*KINDS, REST):
        cells = [f"{p.milliseconds.get(kind, 0.0):.0f}" for p in race.profiles]
        lines.append([kind, *cells])
    return header, lines


def _short(profile: Profile) -> str:
    return {"float32": "f32", "bfloat16": "bf16"}[profile.heat.dtype]


def _contenders(outcomes: Sequence[Outcome]) -> list[str]:
    return [name for name in CONTENDERS if any(outcome.entry(name) for outcome in outcomes)]


def markdown(race: Race) -> str:
    """Return the race as a page of Markdown: origin, figure, tables.

    >>> from leanspike.evaluation import provenance
    >>> origin = provenance(command="leanspike bench")
    >>> markdown(Race(outcomes=(), provenance=origin)).splitlines()[0][:7]
    '# Race '
    """
    if _engine_alone(race):
        return engine_page(race)
    lines = [
        f"# Race of {race.provenance.created[:10]}",
        "",
        "BNTT's VGG9 without norms on 32×32 images, the same weights and the same neuron for all: "
        "see `leanspike/bench/contenders.py`.",
        "",
        *origin_lines(race),
        "",
        "![times, curve and profile](race.svg)",
        "",
        ABOUT,
        "",
    ]
    for outcome in race.outcomes:
        lines += [f"## {outcome.heat.title}", "", *markdown_table(HEADER, rows(outcome)), ""]
    lines += engine_markdown(race)
    if race.curve:
        title = race.curve[0].heat.task
        lines += [f"## {title}: milliseconds over T", "", *markdown_table(*_curve(race)), ""]
    if race.profiles:
        heat = race.profiles[0].heat
        title = (
            f"Where the time goes: milliseconds of a step, batch {heat.batch}, T = {heat.timesteps}"
        )
        lines += [f"## {title}", "", *markdown_table(*_profiles(race)), ""]
    return "\n".join(lines)


def _engine_alone(race: Race) -> bool:
    return bool(race.engine) and not (race.outcomes or race.curve or race.profiles)


HEIGHT = 900


def figure(race: Race) -> str:
    """Draw times relative to the ANN's, the curve over T and the profiles, as an SVG file.

    A race of part "engine" alone is drawn by `leanspike.bench.time_and_energy`.

    >>> figure(Race.model_construct(outcomes=()))[:4]
    '<svg'
    """
    if _engine_alone(race):
        return engine_figure(race)

    def content(drawing: Figure) -> None:
        parts = drawing.subfigures(3, 1, squeeze=False, height_ratios=(1.25, 1.15, 0.8)).flat
        shown = [outcome for outcome in race.outcomes if outcome.heat.memory == "default"]
        if shown:
            bars = parts[0].subplots(1, 2, sharey=True)
            _bars(bars[0], [o for o in shown if o.heat.train], "training, batch 32")
            _bars(
                bars[1],
                [o for o in shown if not o.heat.train and o.heat.batch > 1],
                "inference, batch 64",
            )
        if race.curve:
            _lines(parts[1].subplots(1, 2), race)
        if race.profiles:
            _stacks(parts[2].subplots(), race)

    svg = style.draw("race", "Times of leanspike and others on one network", HEIGHT, content)
    return style.standalone(svg, HEIGHT)


def _bars(axes: Axes, outcomes: Sequence[Outcome], title: str) -> None:
    """Draw times as multiples of the ANN's in float32, with a pair of bars for each contender."""
    names = _contenders(outcomes)
    unit = next((o.entry("ann") for o in outcomes if o.heat.dtype == "float32"), None)
    axes.set_title(f"{title}: × the ANN in float32")
    axes.set_yticks(range(len(names)), [CONTENDERS[name].title for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    if unit is None:
        return
    for offset, outcome in zip((-0.2, 0.2), outcomes[:2], strict=False):
        dark = outcome.heat.dtype == "float32"
        for place, name in enumerate(names):
            entry = outcome.entry(name)
            if entry is None:
                continue
            color = _color(name, dark)
            factor = entry.median / unit.median
            axes.barh(place + offset, factor, height=0.36, color=color)
            word = f"{factor:.2f}" + ("" if dark else " bf16")
            style.write(axes, word, (factor, place + offset), (4, 0), "left")
    axes.margins(x=0.18)


def _color(name: str, dark: bool) -> str:
    if name == "leanspike":
        return style.SNN if dark else style.SNN_LIGHT
    return style.ANN if dark else "#c5cbd5"


def _lines(pair: Sequence[Axes], race: Race) -> None:
    """Draw time and memory of a training step over T."""
    quantities: tuple[tuple[str, Callable[[Entry], float]], ...] = (
        (f"seconds of {race.curve[0].heat.task}", lambda entry: entry.median),
        ("its peak memory, GiB", lambda entry: (entry.own_bytes or 0) / 2**30),
    )
    names = _contenders(race.curve)
    for axes, (title, value) in zip(pair, quantities, strict=True):
        axes.set_title(title)
        axes.grid(axis="y")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:g}")
        axes.yaxis.set_major_formatter(lambda number, _: f"{number:.3g}")
        axes.set_xlabel("timesteps")
        for name, color in zip(names, LINES, strict=False):
            points = [(o.heat.timesteps, e) for o in race.curve if (e := o.entry(name))]
            axes.plot(
                [T for T, _ in points],
                [value(entry) for _, entry in points],
                color=color,
                marker="o",
                markersize=4,
                zorder=3 if name == "leanspike" else 2,
                linewidth=2.5 if name == "leanspike" else 1.2,
                label=CONTENDERS[name].title,
            )
    pair[0].legend(ncols=4, loc="upper left", bbox_to_anchor=(-0.1, -0.2), fontsize=10)


def _stacks(axes: Axes, race: Race) -> None:
    """Draw a bar for each profile, split by kind of work."""
    names = [f"{CONTENDERS[p.contender].title}, {_short(p)}" for p in race.profiles]
    axes.set_title("where a training step's time goes, ms")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    left = [0.0] * len(names)
    for kind, color in zip((*KINDS, REST), (*COLORS, style.GRID), strict=True):
        widths = [p.milliseconds.get(kind, 0.0) for p in race.profiles]
        axes.barh(range(len(names)), widths, left=left, height=0.6, color=color, label=kind)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.14), fontsize=10)
