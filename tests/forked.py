"""Commands in processes of their own that begin at once: one has imported for all.

Each is a fork of a server that has computed nothing, not of the process that runs the tests.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest.mock import patch

from leanspike.cli import main
from leanspike.evaluation import times

IMPORTED = (
    *("leanspike.bench.worker", "torch._dynamo"),  # as races want it, whose server it may be
    *("leanspike.cli", "leanspike.run", "sklearn.datasets", "matplotlib.figure", "jinja2"),
)


def server() -> ForkServerContext:
    """Where processes are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def start(arguments: Sequence[str], folder: Path) -> ForkServerProcess:
    """``leanspike`` with these arguments in a folder, where out.txt and err.txt say what it said.

    Its figures are composed and not rendered, and it is timed in the fewest rounds.
    """
    process = server().Process(target=_run, args=(list(arguments), folder))
    process.start()
    return process


def finish(process: ForkServerProcess, folder: Path) -> str:
    """What it has said for programs, once it has ended well."""
    process.join(300)
    assert process.exitcode == 0, (folder / "err.txt").read_text()
    return (folder / "out.txt").read_text()


def save_unrendered(_figure: object, file: io.StringIO, **_options: object) -> None:
    """In the place of ``Figure.savefig``."""
    file.write('<svg viewBox="0 0 800 100"></svg>')


def _run(arguments: list[str], folder: Path) -> None:
    os.chdir(folder)
    # As in a process of its own: a lock then leaves nothing behind where it is killed.
    multiprocessing.set_start_method("fork", force=True)
    with (
        Path("out.txt").open("w") as out,
        Path("err.txt").open("w") as err,
        redirect_stdout(out),
        redirect_stderr(err),
        patch("matplotlib.figure.Figure.savefig", save_unrendered),
        patch.multiple(times, ROUNDS=times.LEAST_ROUNDS, TURN_SECONDS=1e-6),
    ):
        main(arguments)
