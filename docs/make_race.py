"""Write what is said of the engine's races: docs/race*.svg, and regions of pages.

    python docs/make_race.py

All of it comes from the races that are kept as ``benchmarks/DATE/RUN/race.json``, the latest of
each run on each kind of machine. They are what ``leanspike bench --parts engine --run runs/RUN
--out benchmarks/DATE/RUN`` writes. A region stands between ``<!-- race: KIND -->`` and
``<!-- end -->``, where KIND is

- ``sentence``: the shortest answer, of each machine, for the README;
- ``paragraph``: the same with accuracy and energy;
- ``figure`` and ``readme_figure``: the figures of each machine, and of the first, with captions;
- ``bounds``: the engine's times beside what is required of them;
- ``tables``: all rivals of all races at each batch size, and what was counted;
- ``kept``: a line for each race.

Equal races give equal bytes. Without a race sentences say that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leanspike.bench import Race, engine_figure
from leanspike.bench.engine_tables import (
    ABOUT,
    COUNTED,
    ENGINE,
    FLOAT32,
    FLOATING,
    HEADER,
    INT8,
    PRICES,
    counted_rows,
    engine_rows,
    fastest,
    markdown_table,
)
from leanspike.bench.result import Outcome
from leanspike.bench.rivals import rival
from leanspike.report.quantities import percent, plural

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / name for name in ("README.md", "docs/engine.md", "benchmarks/README.md"))
FIGURE = ROOT / "docs" / "race.svg"
REGION = re.compile(r"(<!-- race: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIRST, BATCH = "cifar10_lean", 64
"""The race that is told first, and its batch."""
NONE = "The race has not been run on a quiet machine yet."


@dataclass(frozen=True)
class Bound:
    """The most that the engine's time may be as a share of a rival's, and what would be better.

    The engine and the rival are the fastest of theirs, without early exit.
    """

    run: str
    batch: int
    rivals: tuple[str, ...]
    words: str
    most: str
    better: float

    @property
    def what(self) -> str:
        """What is divided by what, in words."""
        images = "one image" if self.batch == 1 else f"batch {self.batch}"
        return f"`{self.run}`, {images} ÷ {self.words}"


BFLOAT16 = tuple(name for name in FLOATING if name not in FLOAT32)
FLOATS = "its ANN's fastest floating point"
BOUNDS = (
    Bound("cifar10_lean", 64, FLOAT32, "its ANN in float32", "≤ 0.25", 0.15),
    Bound("cifar10_lean", 64, FLOATING, FLOATS, "< 1", 0.5),
    Bound("cifar10_lean", 64, INT8, "its ANN in int8", "measured", 0.8),
    Bound("cifar10_t5", 64, FLOAT32, "its ANN in float32", "≤ 0.75", 0.5),
    Bound("cifar10_lean", 1, FLOATING, FLOATS, "< 1", 0.5),
)


def races(benchmarks: Path = ROOT / "benchmarks") -> Races:
    """The latest race of each run on each kind of machine, those of the first run first.

    Machines without matrix units, which most people have, come before those with them.
    """
    found: dict[tuple[object, ...], tuple[Path, Race]] = {}
    for path in sorted(benchmarks.glob("*/*/race.json")):
        race = Race.model_validate_json(path.read_text(encoding="utf-8"))
        if race.engine and race.run is not None:
            kind = race.run != FIRST, race.run, bool(race.matrix_units), race.provenance.hardware
            found[kind] = (path.parent, race)
    return [kept for _, kept in sorted(found.items())]


Races = list[tuple[Path, Race]]


def firsts(kept: Races) -> list[Race]:
    """The races that are told first: one run's, on each machine."""
    return [race for _, race in kept if race.run == kept[0][1].run]


def machine(race: Race) -> str:
    """The machine of a race, in words."""
    origin = race.provenance
    units = " with matrix units" if race.matrix_units else ""
    return f"{origin.hardware}{units}, {plural(origin.threads, 'thread')}"


def outcome_of(race: Race, batch: int) -> Outcome | None:
    """The outcome of a batch size."""
    return next((outcome for outcome in race.engine if outcome.heat.batch == batch), None)


def share(outcome: Outcome | None, rivals: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The engine's fastest name, the fastest rival's, and the ratio with quartiles."""
    if outcome is None:
        return None
    ours, theirs = fastest(outcome, ENGINE), fastest(outcome, rivals)
    if ours is None or theirs is None:
        return None
    ratio = outcome.ratio(ours, theirs)
    assert ratio is not None
    return ours, theirs, f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def bounds(kept: Races) -> str:
    """The engine's times beside what is required of them, on each machine."""
    rows = []
    for bound in BOUNDS:
        told = bound.what, bound.most, f"{bound.better:g}"
        raced = [race for _, race in kept if race.run == bound.run]
        shares = [(share(outcome_of(race, bound.batch), bound.rivals), race) for race in raced]
        rows += [
            (*told, found[2], *map(title, found[:2]), machine(race))
            for found, race in shares
            if found is not None
        ] or [(*told, "not raced", "", "", "")]
    header = "time of the engine", "at most", "better", "measured", "weights", "beside", "machine"
    return "\n".join(markdown_table(header, rows))


def title(name: str) -> str:
    """A rival in words, without its kind."""
    return rival(name).title.removeprefix("the engine, ").removeprefix("the ANN, ")


def sentence(kept: Races) -> str:
    """The shortest answer, of each machine, for the README."""
    return " ".join(map(_sentence, firsts(kept))) if kept else NONE


def _sentence(race: Race) -> str:
    outcome = outcome_of(race, BATCH)
    if outcome is None:
        return NONE
    parts = [
        f"{found[2].partition(' ')[0]} of its ANN's time in {words}"
        for words, rivals in (("float32", FLOAT32), ("bfloat16", BFLOAT16), ("int8", INT8))
        if (found := share(outcome, rivals)) is not None
    ]
    steps = plural(outcome.heat.timesteps, "step")
    run = f"`{race.run}` ({steps}, batches of {BATCH} images)"
    return f"The engine answers {run} in {_listed(parts)}. The machine: {machine(race)}."


def paragraph(kept: Races) -> str:
    """The shortest answer with accuracy and energy."""
    if not kept:
        return NONE
    first = kept[0][1]
    return " ".join([sentence(kept), *_accuracies(first), *_energies(first)])


def _accuracies(race: Race) -> Iterator[str]:
    outcome = outcome_of(race, BATCH)
    if outcome is None or race.scored is None:
        return
    ours, int8 = fastest(outcome, ENGINE), fastest(outcome, INT8)
    named = {"the ANN": "ann", "the ANN in int8": int8, "the SNN": "snn", "the engine": ours}
    rights = {
        words: entry.accuracy
        for words, name in named.items()
        if name is not None and (entry := outcome.entry(name)) and entry.accuracy is not None
    }
    if rights:
        parts = [f"{words} {percent(right, race.scored)}" for words, right in rights.items()]
        yield f"Right are {_listed(parts)} of {race.scored:,} test images."


def _energies(race: Race) -> Iterator[str]:
    found = race.counted
    if found is None:
        return
    last = found.steps[-1]
    yield (
        f"The SNN's counted arithmetic costs {last.float_pj / found.ann_pj:.2f} of the ANN's in "
        "32-bit floating point."
    )
    if last.whole_pj is not None:
        yield (
            f"With whole-number weights it costs {last.whole_pj / found.ann_int8_pj:.2f} of the "
            "ANN's in 8-bit integers."
        )


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def picture(kept: Races, folder: str = "") -> str:
    """The figures of the first run, with captions; nothing without a race."""
    return "\n\n".join(
        "![Time and energy of an image by the ANN in each precision, and by the SNN and the engine "
        f"after each step]({folder}{place.name})\n\n*The time and the energy of an image, of "
        f"`{race.run}` ({machine(race)}). A number in a point is the step after which the SNN is "
        "stopped. The percentages are accuracies.*"
        for place, race in zip(figures(kept), firsts(kept), strict=True)
    )


def readme_picture(kept: Races) -> str:
    """The first figure, for a page above docs/."""
    return picture(kept[:1], f"{FIGURE.parent.name}/")


def figures(kept: Races) -> list[Path]:
    """The files of the figures: race.svg, race_2.svg and so on."""
    count = len(firsts(kept))
    return [FIGURE.with_stem(f"race_{i + 1}") if i else FIGURE for i in range(count)]


def tables(kept: Races) -> str:
    """All rivals of all races at each batch size, and what was counted."""
    blocks = [ABOUT, PRICES] if kept else []
    for _, race in kept:
        run, where = race.run, f"({machine(race)})"
        for outcome in race.engine:
            heat = outcome.heat
            blocks.append(f"`{run}`, batch {heat.batch}, T = {heat.timesteps} {where}:")
            blocks.append("\n".join(markdown_table(HEADER, engine_rows(outcome, race.scored))))
        if race.counted is not None:
            blocks.append(f"`{run}`, counted over {plural(race.counted.images, 'test image')}:")
            blocks.append("\n".join(markdown_table(COUNTED, counted_rows(race))))
        if race.left_out is not None:
            blocks.append(f"In this race {race.left_out}.")
    return "\n\n".join(blocks)


def lines(kept: Races) -> str:
    """A line for each race, in benchmarks/README.md."""
    if not kept:
        return NONE
    found = []
    for folder, race in kept:
        place, date = folder.relative_to(ROOT / "benchmarks"), race.provenance.created[:10]
        found.append(f"- [`{race.run}`]({place}/race.md), {date}: {machine(race)}")
    return "\n".join(found)


KINDS: dict[str, Callable[[Races], str]] = {
    "sentence": sentence,
    "paragraph": paragraph,
    "figure": picture,
    "readme_figure": readme_picture,
    "bounds": bounds,
    "tables": tables,
    "kept": lines,
}


def page(text: str, kept: Races) -> str:
    """A page with its regions written anew."""

    def written(region: re.Match[str]) -> str:
        content = KINDS[region[2]](kept)
        return region[1] + (f"\n{content}\n\n" if content else "") + region[3]

    return REGION.sub(written, text)


def main() -> None:
    """Write everything."""
    kept = races()
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8"), kept), encoding="utf-8")
    for place, race in zip(figures(kept), firsts(kept), strict=True):
        place.write_text(engine_figure(race), encoding="utf-8")


if __name__ == "__main__":
    main()
