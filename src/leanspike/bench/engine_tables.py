"""The tables of part "engine": all rivals at a batch size, and what was counted."""

from __future__ import annotations

from collections.abc import Sequence

from leanspike.bench.result import Entry, Outcome, Race, Spread
from leanspike.bench.rivals import RIVALS, rival
from leanspike.report import quantities, text

HEADER = ("contender", "ms an image", "÷ the ANN", "accuracy", "peak memory")
COUNTED = ("an image, counted", "multiply-accumulates", "accumulates", "energy", "÷ the ANN")

FLOAT32 = ("ann", "ann_compiled")
FLOATING = (*FLOAT32, "ann_bf16", "ann_bf16_compiled")
INT8 = ("ann_int8", "ann_openvino")
ENGINE = tuple(name for name, row in RIVALS.items() if name.startswith("engine") and row.by_step)
"""The engine, without early exit."""

ABOUT = (
    "Each rival answers real test images in its own process, and all take turns. A turn is 0.1 s "
    "of calls or more, and its median call counts. Times and ratios are medians over the rounds, "
    "with quartiles. A ratio is of turns of the same round. Peak memory is what the process held "
    "beyond what it held before its first call."
)
PRICES = (
    "Energy is counted arithmetic at 45 nm (Horowitz 2014), and no chip was measured. In 32-bit "
    "floating point a multiply-accumulate costs 4.6 pJ, an addition 0.9 pJ. An 8-bit product with "
    "its addition costs 0.3 pJ, an addition of 32-bit integers 0.1 pJ. The engine's whole-number "
    "weights save in the accumulates alone."
)


def fastest(outcome: Outcome, names: Sequence[str]) -> str | None:
    """Return the fastest of the named rivals that ran, or None.

    >>> from leanspike.bench.result import Heat
    >>> heat = Heat(train=False, dtype="float32", batch=1, timesteps=2)
    >>> slow = Entry(contender="ann", version="2", seconds=(2.0,))
    >>> fast = Entry(contender="ann_compiled", version="2", seconds=(1.0,))
    >>> fastest(Outcome(heat=heat, entries=(slow, fast)), FLOAT32)
    'ann_compiled'
    """
    ran = {name: entry.median for name in names if (entry := outcome.entry(name)) is not None}
    return min(ran, key=lambda name: ran[name]) if ran else None


def engine_rows(outcome: Outcome, scored: int | None) -> list[tuple[str, ...]]:
    """Return the lines of a heat's table, with cells as in ``HEADER``."""
    return [_row(outcome, entry, scored or 1) for entry in outcome.entries]


def _row(outcome: Outcome, entry: Entry, scored: int) -> tuple[str, ...]:
    row = rival(entry.contender)
    title = f"{row.title} {entry.version}" if row.package != "leanspike" else row.title
    if entry.failure is not None:
        return (title, entry.failure, "", "", "")
    memory = "" if entry.own_bytes is None else f"{entry.own_bytes / 2**20:,.0f} MiB"
    right = "" if entry.accuracy is None else quantities.percent(entry.accuracy, scored)
    if entry.mean_steps is not None:
        right += f" after {entry.mean_steps:.2f} steps"
    each = _scaled(entry.spread, 1e3 / outcome.heat.batch)
    return (title, _spread(each), _spread(outcome.ratio(entry.contender, "ann")), right, memory)


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(low=factor * spread.low, median=factor * spread.median, high=factor * spread.high)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    digits = 2 if spread.median >= 1 else 3
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def counted_rows(race: Race) -> list[tuple[str, ...]]:
    """Return the lines of the table of what was counted, with cells as in ``COUNTED``.

    >>> counted_rows(Race.model_construct(counted=None))
    []
    """
    found = race.counted
    if found is None:
        return []
    macs = quantities.count(found.ann_macs)

    def row(what: str, multiplies: str, accumulates: str, pj: float) -> tuple[str, ...]:
        return (what, multiplies, accumulates, quantities.energy(pj), f"{pj / found.ann_pj:.3f}")

    rows = [row("the ANN, float32", macs, "", found.ann_pj)]
    rows.append(row("the ANN, int8", macs, "", found.ann_int8_pj))
    for spent in found.steps:
        work = quantities.count(spent.multiplies), quantities.count(spent.accumulates)
        steps = quantities.plural(spent.timesteps, "step")
        rows.append(row(f"the SNN, float32, {steps}", *work, spent.float_pj))
        if spent.whole_pj is not None:
            rows.append(row(f"the SNN, whole-number weights, {steps}", *work, spent.whole_pj))
    return rows


def engine_markdown(race: Race) -> list[str]:
    """Return the lines of all tables of part "engine", in Markdown."""
    lines: list[str] = []
    for outcome in race.engine:
        table = markdown_table(HEADER, engine_rows(outcome, race.scored))
        lines += [f"## The engine: {outcome.heat.title}", "", *table, ""]
    if race.counted is not None:
        images = quantities.plural(race.counted.images, "test image")
        lines += [f"## What was counted, over {images}", "", PRICES, ""]
        lines += [*markdown_table(COUNTED, counted_rows(race)), ""]
    return lines


def engine_page(race: Race) -> str:
    """Return a race of part "engine" alone as a page of Markdown: origin, figure, tables."""
    origin = race.provenance
    scored = "" if race.scored is None else f" Accuracy is over {race.scored:,} test images."
    return "\n".join(
        [
            f"# Race of {race.run}, {origin.created[:10]}",
            "",
            "The run's ANN, its SNN, and the engine that `leanspike compile` makes of the SNN.",
            "",
            *origin_lines(race),
            "",
            "![time and energy of an image](race.svg)",
            "",
            ABOUT + scored,
            "",
            *engine_markdown(race),
        ]
    )


def origin_lines(race: Race) -> list[str]:
    """Return where a race comes from, as the items of a list."""
    origin = race.provenance
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    return [
        f"- `{text.given(origin.command)}`, commit {origin.commit or 'unknown'}",
        f"- {origin.hardware}, {quantities.plural(origin.threads, 'thread')}; "
        f"leanspike's backend: {text.backend(origin)}; {versions}",
        *(["- the processor has matrix units (AMX)"] if race.matrix_units else []),
        *([] if race.left_out is None else [f"- {race.left_out}"]),
    ]


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, numbers at the right.

    >>> markdown_table(("a", "b"), [("x", "1")])
    ['| a | b |', '| --- | ---: |', '| x | 1 |']
    """
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, ruler, *lines)]
