"""The common parts of all commands: the console, shared options, and the answer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

people = Console(stderr=True, emoji=False)  # a:b:c is a name, not an emoji

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import and run the network that model.name=package.module:Class names, also from "
        "the current folder.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


def trusted(trust: bool) -> bool:
    """Add the current folder to the path of modules under --trust, as ``python -m`` does."""
    here = os.getcwd()
    if trust and not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)
    return trust


def progress_bar() -> Progress:
    """Return a progress bar with the time left, which is shown on a terminal only."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("left")
    hidden = not people.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=people, transient=True, disable=hidden)


def show_answer(result: Any, page: Path) -> None:
    """Print the tables, the report's path, and the line for programs."""
    from leanspike.report import render_tables

    people.print(render_tables(result))
    people.print(f"\nreport: {page}", highlight=False, soft_wrap=True)
    print(json.dumps({**result.summary, "report": str(page)}))
