"""``leanspike export ...``: a command for each kind of file.

Everything for people goes to stderr; the last line of stdout is JSON.
"""

from __future__ import annotations

import typer

commands = typer.Typer(
    name="export",
    help="Write a run's SNN into a file that others read.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@commands.callback()
def about() -> None:
    """Write a run's SNN into a file that others read."""
