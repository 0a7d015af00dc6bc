"""The command line. All text goes to stderr; the last line of stdout is JSON for programs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from leanspike.commands.bench import bench
from leanspike.commands.compile import compile_run
from leanspike.commands.convert import convert
from leanspike.commands.evaluate import evaluate
from leanspike.commands.export import commands as export_commands
from leanspike.commands.neurobench import neurobench
from leanspike.commands.recipes import recipes
from leanspike.commands.report import report
from leanspike.commands.robustness import robustness
from leanspike.commands.study import commands as study_commands
from leanspike.commands.train import train
from leanspike.console import people
from leanspike.environment import started_by_torchrun
from leanspike.errors import LeanspikeError, memory_ended, one_line
from leanspike.memory import keep_freed_memory

app = typer.Typer(
    name="leanspike",
    help="Turn an ordinary PyTorch network into a spiking one, train it to answer in a handful of "
    "timesteps, and count what it costs. The ordinary network is called the ANN (artificial neural "
    "network), the spiking one the SNN.\n\nStart with:  leanspike train digits",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for name, command in (
    ("compile", compile_run),
    ("robustness", robustness),
    ("train", train),
    ("convert", convert),
    ("evaluate", evaluate),
    ("neurobench", neurobench),
    ("report", report),
    ("recipes", recipes),
    ("bench", bench),
):
    app.command(name)(command)
app.add_typer(export_commands)
app.add_typer(study_commands)
INTERRUPTED, TERMINATED = 130, 143
STOPPED = "\nstopped"
GO_ON = f"{STOPPED}; the same command, without --fresh, resumes the run"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A user's mistake is one line on stderr and exit status 1.

    SIGTERM and Ctrl-C end it with 143 and 130, and for a training with a line on how to resume.
    """
    keep_freed_memory()
    if started_by_torchrun():
        from leanspike.distributed.worker import work_as_one

        work_as_one(lambda: _work(arguments), _say)
    try:
        with _terminable():
            _work(arguments)
    except LeanspikeError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        _stopped(arguments)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):  # typer answers Ctrl-C with the first
            _stopped(arguments)
        raise


def _stopped(arguments: Sequence[str] | None) -> None:
    """Say that the command was stopped, and how to go on if it can."""
    given = sys.argv[1:] if arguments is None else arguments
    people.print(GO_ON if "train" in given[:1] else STOPPED)


def _work(arguments: Sequence[str] | None) -> None:
    """Run the command, and report the end of memory as a mistake, too."""
    try:
        app(arguments)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not memory_ended(error):
            raise
        raise LeanspikeError(
            f"memory ended ({one_line(error) or type(error).__name__}); lower batch_size, "
            "timesteps or the model's width, or train with gradient=rate, and give another --out"
        ) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into a normal exit, so that open files are closed."""

    def stop(*_: object) -> None:
        sys.exit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may set a handler
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(error: str) -> None:
    people.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
