"""What a person sees of a training while it runs, and what is kept: progress, log, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from leanspike.errors import LeanspikeError
from leanspike.evaluation.macs import Macs
from leanspike.files import write_text
from leanspike.train.board import Board


@final
class Monitor:
    """A progress bar with the time left on ``console``, ``log.jsonl``, and TensorBoard.

    TensorBoard is written if it is installed (``pip install 'leanspike[tensorboard]'``).

    Args:
        console: where people look (stderr); without a terminal it gets a line per epoch.
        folder: the run's, for ``log.jsonl`` and ``tensorboard/``; None keeps nothing.
    """

    def __init__(self, console: Console, folder: str | Path | None = None) -> None:
        folder = None if folder is None else Path(folder)
        self.console = console
        self.folder = folder
        self._board: Board | None = None
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._stage = ""
        self._loss: float | None = None
        self._steps = 0

    def begin(self, stage: str, epochs: int, steps: int, epoch: int, step: int) -> None:
        """Show that a stage begins, or is resumed at (epoch, step)."""
        if self._board is None and self.folder is not None:
            self._board = _tensorboard(self.folder / "tensorboard")
        self._stage, self._steps, self._loss = stage, epoch * steps + step, None
        if self._steps:
            self.console.print(f"{stage}: resuming at epoch {epoch + 1}, step {step + 1}")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            stage, total=epochs * steps, completed=self._steps, state=""
        )

    def step(self, loss: float, learning_rate: float) -> None:
        """Show that a training step was taken."""
        smooth = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        self._loss = smooth
        self._steps += 1
        if self._progress is not None:
            self._progress.update(self._task, advance=1, state=f"loss {smooth:.3f}")
        if self._board is not None and self._steps % 10 == 0:
            self._board.add(f"{self._stage}/loss", loss, self._steps)
            self._board.add(f"{self._stage}/learning_rate", learning_rate, self._steps)

    def epoch(self, row: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Print a line for an epoch that is over, and write the whole log."""
        train, val = row["train_accuracy"], row["val_accuracy"]
        self.console.print(
            f"{row['stage']:<9} epoch {row['epoch']:>3}/{row['epochs']}  "
            f"loss {row['train_loss']:.4f}"
            + ("" if train is None else f"  train {train:.2%}")
            + ("" if val is None else f"  val {val:.2%}")
            + f"  {row['seconds']:.1f} s",
            highlight=False,
        )
        if self._board is not None:
            if train is not None:
                self._board.add(f"{self._stage}/train_accuracy", train, row["epoch"])
            if val is not None:
                self._board.add(f"{self._stage}/val_accuracy", val, row["epoch"])
        if self.folder is not None:
            write_log(self.folder / "log.jsonl", history)

    def end(self) -> None:
        """Take the progress bar away: the stage is over."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def close(self) -> None:
        """Close all files: the run is over, or has failed."""
        self.end()
        if self._board is not None:
            self._board.close()
            self._board = None


def write_log(path: str | Path, history: list[dict[str, Any]]) -> None:
    """Write one JSON object per line.

    The file is written whole, so a resumed run repeats no row.
    """
    write_text(Path(path), "".join(json.dumps(row) + "\n" for row in history), make=False)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a log; no rows if there is no log (a network that was only converted).

    Raises:
        LeanspikeError: if a line is no row, with the line's number.
    """
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise LeanspikeError(
                f"{path}, line {number} is damaged ({error}); remove that line"
            ) from None
        if not isinstance(row, dict):
            raise LeanspikeError(
                f"{path}, line {number} is {line[:40]!r}; expected an object; remove that line"
            )
        rows.append(row)
    return rows


def macs_of(history: list[dict[str, Any]], stage: str) -> Macs | None:
    """Return the multiply-accumulates of a stage by the rows of a log; None if one has no count.

    >>> row = {"stage": "ann", "macs": {"forward": 1, "backward": 2}}
    >>> macs_of([row, row], "ann")
    Macs(forward=2, backward=4, teacher=0, validation=0, padding=0)
    >>> macs_of([row, {"stage": "ann"}], "ann") is None
    True
    """
    rows = [row.get("macs") for row in history if row.get("stage") == stage]
    counted = [Macs.model_validate(row) for row in rows if row is not None]
    return Macs.sum(counted) if len(counted) == len(rows) else None


def _tensorboard(folder: Path) -> Board | None:
    try:
        return Board(folder)
    except ImportError:
        return None
