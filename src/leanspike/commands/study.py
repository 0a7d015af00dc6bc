"""``leanspike study ...``: finished runs kept in a small folder.

Everything for people goes to stderr; the last line of stdout is JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from leanspike.console import people

commands = typer.Typer(
    name="study",
    help="Keep finished runs as a study: their recipes and what was measured, in a small folder.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@commands.callback()
def about() -> None:
    """Keep finished runs as a study: their recipes and what was measured, in a small folder."""


@commands.command()
def keep(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; studies, too.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")],
    title: Annotated[
        str | None,
        typer.Option(help="What the study is about.", show_default="the name of its folder"),
    ] = None,
) -> None:
    """Write a study of finished runs: what they share once, and one small file for each.

    The study's **study.yaml** holds the first run's whole recipe as its base, and the other runs as
    changes of it. It also holds the seeds and the command that repeats a run. Add notes of your
    own. **VARIANT-SEED.json** beside it holds a run's result, log and thresholds. Weights,
    checkpoints and pictures stay behind. Runs that differ only in their folder's last **-SEED**
    are one variant.

    A file of a study stands for its run. **leanspike train**, **convert** and **recipes** take it
    as a recipe; **leanspike report** takes it as a run.

    Examples:

        leanspike study keep runs/short-0 runs/short-1 runs/long-0 --out results/length

        leanspike study keep results/length runs/long-1 --out results/length

        leanspike report results/length

        leanspike train results/length/long-0.json --out runs/again
    """
    from leanspike.recipes.study import STUDY
    from leanspike.studies import keep as keep_runs

    study = keep_runs(runs, out, title)
    for run in study.runs:
        people.print(f"{out / run}.json", highlight=False, soft_wrap=True)
    people.print(f"\nstudy: {out / STUDY}", highlight=False, soft_wrap=True)
    print(json.dumps({"study": str(out / STUDY), "runs": study.runs}))
