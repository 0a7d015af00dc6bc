"""The command ``leanspike recipes``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from leanspike.console import people
from leanspike.errors import LeanspikeError


def recipes(
    show: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Print this recipe in full.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Say what each key of a recipe takes and means.")
    ] = False,
) -> None:
    """List the recipes that come with leanspike, or print one with every key written out.

    With **--keys** the command lists all keys that a recipe may have: type, default and meaning.

    Examples:

        leanspike recipes

        leanspike recipes digits > mine.yaml

        leanspike recipes --keys 2>&1 | less
    """
    from leanspike.recipes import dump, load_recipe
    from leanspike.recipes import recipes as all_recipes
    from leanspike.recipes.keys import as_json, render_keys

    if keys:
        if show is not None:
            raise LeanspikeError(f"--keys lists the keys of every recipe; leave {show} out")
        people.print(render_keys())
        print(as_json())
        return
    if show is not None:
        sys.stdout.write(dump(load_recipe(show)))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("recipe", style="bold")
    table.add_column("what it does")
    for name, description in all_recipes().items():
        table.add_row(name, description)
    people.print(table)
    print(json.dumps(sorted(all_recipes())))
