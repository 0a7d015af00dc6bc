"""What was done to break it, as a table: damaged files, killed runs, full disks, hostile files.

    python -m benchmarks.faults [--only TEXT] [--short] [--json FILE] [--text FILE]

Each row is one kind of fault. Files are read in a process of their own, which can start no other,
write nothing, and have no more memory than ten times the file and 64 MiB; what ends otherwise than
read or refused in one line is shown. `--only` chooses rows by a part of their names. `--short` is
some of each, in half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.breaking import data_kinds, interruptions, kinds
from benchmarks.breaking.guard import Guarded, read_all

FILES = {**kinds.KINDS, **data_kinds.KINDS}
SHORT = 12


@dataclass(frozen=True)
class Row:
    """One kind of fault: how often, how it ended, and what ended badly."""

    what: str
    count: int
    ended: dict[str, int]
    bad: list[str]
    seconds: float


def files_row(name: str, count: int) -> Row:
    """Damaged files of one kind, all of them read."""
    begun = sum(os.times()[:4])
    kind = FILES[name]()
    guarded = Guarded(kind.read, kind.errors, kind.examples[0], kind.beside)
    every = list(read_all(kind.files(name, count), guarded))
    whole = "refused" if kind.official else "read"
    bad = [each for each in every if not each.good or (each.number < 0 and each.how != whole)]
    bad = [f"{each.number}: {each.how}: {each.said}" for each in bad]
    ended = [each for each in every if each.number >= 0]
    times = sum(os.times()[:4]) - begun
    return Row(name, len(ended), dict(Counter(each.how for each in ended)), bad, times)


def run_row(name: str, count: int, seed: int, minutes: float) -> Row:
    """Something done to runs; after these minutes no more."""
    begun, until = sum(os.times()[:4]), time.monotonic() + 60 * minutes
    what, _, _ = interruptions.KINDS[name]
    ends = []
    for end in what(count, seed):
        ends.append(end)
        if time.monotonic() > until:
            break
    name = f"{name}, seed {seed}" if seed else name
    bad = [f"{number}: {wrong}" for number, (wrong, _) in enumerate(ends) if wrong]
    ended = Counter("other" if wrong else how for wrong, how in ends)
    return Row(name, len(ends), dict(ended), bad, sum(os.times()[:4]) - begun)


def render(rows: list[Row]) -> Table:
    """The table for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("what", "tried", "ended well", "how"):
        table.add_column(column, justify="right" if column in ("tried", "ended well") else "left")
    for row in rows:
        how = ", ".join(f"{count:,} {name}" for name, count in sorted(row.ended.items()))
        good = row.count - len(row.bad)
        table.add_row(row.what, f"{row.count:,}", f"{good:,}", how)
    return table


def keep(rows: list[Row], path: Path) -> list[Row]:
    """All rows of a file, those that are new in the place of older ones; written back."""
    before = json.loads(path.read_text()) if path.is_file() else []
    found = {row["what"]: Row(**row) for row in before} | {row.what: row for row in rows}
    path.write_text(json.dumps([asdict(row) for row in found.values()], indent=1))
    return list(found.values())


def chosen(given: argparse.Namespace) -> list[Callable[[], Row]]:
    """The rows whose names contain one of these; all, of none."""
    count = min(SHORT, given.count) if given.short else given.count
    rows: dict[str, Callable[[], Row]] = {name: partial(files_row, name, count) for name in FILES}
    if given.files:
        return list(rows.values())
    for name, (_, whole, some) in interruptions.KINDS.items():
        times = some if given.short else whole
        rows[name] = partial(run_row, name, times, given.seed, given.minutes)
    only = [part.lower() for part in given.only] or [""]
    return [row for name, row in rows.items() if any(part in name.lower() for part in only)]


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 where something ended badly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="rows by a part of their name")
    parser.add_argument("--count", type=int, default=1000, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0, help="other moments at which runs end")
    parser.add_argument("--minutes", type=float, default=60, help="at most, for a row of runs")
    parser.add_argument("--files", action="store_true", help="damaged files alone")
    parser.add_argument("--short", action="store_true", help="some of each")
    parser.add_argument("--json", type=Path, help="kept rows; older ones of other names stay")
    parser.add_argument("--text", type=Path, help="the table of all rows in --json, or of these")
    given = parser.parse_args(arguments)
    people = Console(stderr=True)
    rows: list[Row] = []
    for row in chosen(given):
        rows.append(row())
        people.print(render(rows[-1:]))
        for line in rows[-1].bad[:20]:
            people.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        kept = keep(rows, given.json) if given.json else rows
        if given.text:
            with given.text.open("w") as file:
                Console(file=file, width=120).print(render(kept))
    return int(any(row.bad for row in rows))


if __name__ == "__main__":
    sys.exit(main())
