"""The command ``leanspike report``: one run, or several side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from leanspike.console import people, show_answer
from leanspike.errors import LeanspikeError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs; studies, and files of studies."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page.",
            show_default="RUN/report.html, or comparison.html of several runs",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace --out even if it is no such page.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Write the page of one run's robustness instead.")
    ] = False,
) -> None:
    """Write a run's report.html again from its result.json and log, or compare several runs.

    The command reads what was measured and builds no network, so it needs no --trust.

    One page shows two runs or more side by side: accuracy by step, training, energy, thresholds
    and leaks. A study stands for all its runs. The page of one of them is written into the current
    folder, unless **--out** says where.

    Examples:

        leanspike report runs/digits

        leanspike report runs/digits runs/short --out digits.html

        leanspike report results/norms/bntt-0.json --out bntt.html
    """
    from leanspike.studies import load_finished, write_report_of, write_robustness_of

    loaded = [found for run in runs for found in load_finished(run)]
    if robustness:
        if len(loaded) != 1:
            raise LeanspikeError("--robustness is of one run; name one")
        page = write_robustness_of(loaded[0], out, fresh)
        people.print(f"page: {page}", highlight=False, soft_wrap=True)
        print(json.dumps({"page": str(page)}))
    elif len(loaded) == 1:
        show_answer(loaded[0].result, write_report_of(loaded[0], out, fresh))
    else:
        _compare(loaded, out or Path("comparison.html"), fresh)


def _compare(loaded: Sequence[Any], out: Path, fresh: bool) -> None:
    """Write a page, a table, and a line for programs about several finished runs."""
    from leanspike.report.compare import compare, differences, render_comparison, write_comparison

    compared = compare([(found.place, found.comparable, found.history) for found in loaded])
    page = write_comparison(compared, out, fresh)
    people.print(render_comparison(compared))
    people.print(f"\ncomparison: {page}", highlight=False, soft_wrap=True)
    rows = [run.summary for run in compared]
    print(json.dumps({"comparison": str(page), "runs": rows, "notes": differences(compared)}))
