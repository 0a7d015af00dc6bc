"""A small run, in a process that is killed, stopped, or starved; and whether it ends the same."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPE = """
name: tiny
data: {name: digits, train_images: 128, validation: 64}
model: {name: mlp, options: {hidden: [12]}}
ann: {epochs: 2, batch_size: 32, learning_rate: 0.05}
spike:
  timesteps: 2
  neuron: {height: threshold, initial: half}
  calibrate: {method: one_pass, scale: 1.0, images: 64}
snn:
  - {epochs: 1, timesteps: 1, batch_size: 32, learning_rate: 0.05}
  - {epochs: 1, batch_size: 32, learning_rate: 0.02}
checkpoint_minutes: 0.0000001
"""
"""With a checkpoint after each step."""
MOMENT_S = 0.0005
PATIENCE_S = 300


@dataclass(frozen=True)
class Attempt:
    """How a process ended: its code, below 0 by a signal, and the errors that it printed."""

    code: int
    said: str

    @property
    def errors(self) -> list[str]:
        """Lines that say so, and a traceback's first one."""
        marks = ("error:", "Traceback", "Exception in thread", "terminate called")
        return [line for line in self.said.splitlines() if line.startswith(marks)]


def warm() -> None:
    """Import here, once, what the runs need: their processes are forks of this one."""
    import matplotlib.figure
    import tensorboard.summary  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    import leanspike.cli
    import leanspike.report.html
    import leanspike.run  # noqa: F401

    matplotlib.figure.Figure.savefig = _no_plot


def _no_plot(_: object, file: Any, **__: object) -> None:
    """Plots take most of a short run's time, and are beside the point."""
    file.write('<svg viewBox="0 0 8 1"></svg>')


def train(
    folder: Path,
    changes: Sequence[str] = (),
    *,
    inside: Callable[[], None] = lambda: None,
    stop: tuple[float, signal.Signals] | None = None,
    until: Callable[[], bool] | None = None,
) -> Attempt:
    """`leanspike train` in a process of its own.

    ``inside`` is called there first. ``stop``: after so many seconds of the processor it gets that
    signal; with ``until``, when that becomes true.
    """
    recipe, log = folder.with_suffix(".yaml"), folder.with_suffix(".log")
    recipe.write_text(RECIPE)
    process = os.fork()
    if process == 0:
        _child(["train", str(recipe), *changes, "--out", str(folder)], log, inside)
    status = _watched(process, stop, until)
    return Attempt(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"))


def _child(arguments: Sequence[str], log: Path, inside: Callable[[], None]) -> None:
    from leanspike.cli import main

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 70
    try:
        inside()
        main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watched(
    process: int, stop: tuple[float, signal.Signals] | None, until: Callable[[], bool] | None
) -> int:
    """Its status at the end; a signal at the moment."""
    begun, sent = time.monotonic(), False
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        due = until() if until else stop is not None and _processor_s(process) >= stop[0]
        if due and stop is not None and not sent:
            os.kill(process, stop[1])
            sent = True
        if time.monotonic() - begun > PATIENCE_S:
            os.kill(process, signal.SIGKILL)
        time.sleep(MOMENT_S)


def _processor_s(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0


def bits(folder: Path) -> dict[str, Any]:
    """All that a run ends with, but for what depends on time."""
    found: dict[str, Any] = {}
    for name in ("ann", "start", "snn"):
        for file in ("model.safetensors", "spec.json"):
            found[f"{name}/{file}"] = (folder / name / file).read_bytes()
    for file in ("calibration.json", "data.json", "recipe.yaml"):
        found[file] = (folder / file).read_bytes()
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found["log.jsonl"] = [{**row, "seconds": 0} for row in rows]
    result = json.loads((folder / "result.json").read_text())
    found["result.json"] = {**result, "provenance": None, "times": None}
    return found
