"""Measure leanspike on a GPU: check, time, train, compile, within so many minutes.

Called by `run.sh`, which sees to what it needs. What was found is written after every row.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gpu.cases import SECTIONS, Options
from benchmarks.gpu.show import table, write
from benchmarks.gpu.workers import NO_TIME, Row, rows_of

HERE = Path(__file__).resolve().parent
SHARES = {"check": 0.16, "time": 0.14, "train": 0.5, "compile": 0.2}
"""Of the time, in this order; what a section leaves goes to those after it."""

SPARE = 8.0
"""Seconds at the end for the last files and the table."""

REHEARSAL = Options(
    device="cpu",
    width=0.125,
    batch=4,
    timesteps=(1, 4),
    rounds=3,
    train_seconds=40.0,
    train_batch=32,
    train_images=320,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Everything; 1 if a check failed, else 0."""
    given = parser().parse_args(arguments)
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was found is shown
    with TemporaryDirectory(prefix="leanspike-gpu-") as work:
        options = choose(given, work)
        environment = surroundings(given.rehearse)
        log_path = Path(work, "log.txt")
        with log_path.open("ab") as log:
            machine = next(rows_of("machine", options, begun + 150, log, environment))
            rows = [machine]
            if machine["ok"] is False:
                print(log_path.read_text(errors="replace"), machine["detail"], file=sys.stderr)
                return 1
            folder = make_folder(given, machine)
            about = describe(given, machine, options)
            try:
                measure(given, options, rows, begun, log, environment, folder, about)
            finally:
                shutil.copyfile(log_path, folder / "log.txt")
                write(folder, about, rows)
                print(f"\n{folder}\n\n{table(rows)}", flush=True)
    return int(any(row["ok"] is False for row in rows))


def measure(
    given: argparse.Namespace,
    options: Options,
    rows: list[Row],
    begun: float,
    log: Any,
    environment: dict[str, str],
    folder: Path,
    about: dict[str, Any],
) -> None:
    """Go through the sections, each up to its share of the time; write after each row."""
    seconds = 60 * given.minutes - SPARE
    chosen = [name for name in SHARES if name in given.only]
    total = sum(SHARES[name] for name in chosen)
    share = 0.0
    for section in chosen:
        share += SHARES[section] / total
        until = begun + share * seconds
        seconds_left = min(options.train_seconds, until - time.monotonic())
        left = replace(options, train_seconds=seconds_left)
        for row in rows_of(section, left, until, log, environment):
            rows.append(row)
            write(folder, about, rows)
            if row["figure"] != NO_TIME:
                mark = {True: "ok  ", False: "FAIL", None: "    "}[row["ok"]]
                told = f"{time.monotonic() - begun:5.0f} s {mark} {row['name']}: {row['figure']}"
                print(told, flush=True)


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="run.sh", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--data", action="append", default=[], metavar="FOLDER", help="a part of CIFAR-10; several")
    add("--minutes", type=float, default=8.0, help="for everything (8)")
    add("--only", nargs="+", choices=SHARES, default=list(SHARES), help="these sections")
    add("--out", help="folder of the results ($OUT, else benchmarks/gpu)")
    add("--batch", type=int, help="images of a timed call (128)")
    add("--timesteps", type=int, nargs="+", help="T of the timing (1 2 4 8)")
    add("--rehearse", action="store_true", help="on the CPU, an eighth of the width, few images")
    return made


def choose(given: argparse.Namespace, work: str) -> Options:
    """What the sections need to know."""
    options = REHEARSAL if given.rehearse else Options()
    changes = {key: getattr(given, key) for key in ("batch", "timesteps")}
    changes = {key: value for key, value in changes.items() if value is not None}
    if "timesteps" in changes:
        changes["timesteps"] = tuple(changes["timesteps"])
    data = tuple(str(Path(folder).resolve()) for folder in given.data)
    return replace(options, data=data, work=work, **changes)


def surroundings(rehearse: bool) -> dict[str, str]:
    """The environment of the processes: on a CPU the kernel that a GPU would have, too."""
    own = {"PYTHONUNBUFFERED": "1"} | ({"LEANSPIKE_BACKEND": "reference"} if rehearse else {})
    return {**os.environ, **own}


def make_folder(given: argparse.Namespace, machine: Row) -> Path:
    """A dated folder, named by the GPU, that is not there yet."""
    out = Path(given.out or os.environ.get("OUT") or HERE)
    name = "rehearsal" if given.rehearse else str(machine["values"]["gpu"])
    stem = f"{datetime.now(UTC):%Y-%m-%d}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
    number = 1
    while (folder := out / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def describe(given: argparse.Namespace, machine: Row, options: Options) -> dict[str, Any]:
    """What the files begin with."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": machine["figure"],
        "rehearsal": given.rehearse,
        "command": shlex.join(["benchmarks/gpu/run.sh", *sys.argv[1:]]),
        "options": {key: str(value) for key, value in vars(options).items() if key != "work"},
    }


if __name__ == "__main__":
    assert set(SHARES) < set(SECTIONS)
    sys.exit(main())
