"""What is measured, case by case, in a process of its own: what it has done, nobody can take away.

    python -m benchmarks.gpu.cases MODULE OPTIONS-AS-JSON [CASE-TO-LEAVE-OUT ...]

The module's ``cases(options)`` are told first. Each case tells when it begins, for how long it
may run, and what it found; whoever started the process ends it where a case takes too long, and
starts it again without that case. Told as JSON, one object a line, on standard output.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

SECTIONS = {
    "machine": "benchmarks.gpu.machine",
    "check": "benchmarks.gpu.checks",
    "time": "benchmarks.gpu.times",
    "train": "benchmarks.gpu.training",
    "compile": "benchmarks.gpu.compiled",
}
"""Each section's module, in the order in which they come."""


@dataclass(frozen=True)
class Options:
    """What is common to all sections.

    ``device`` computes; ``width`` is of the networks, 1 for the published size; ``batch`` and
    ``timesteps`` are those of the timing, ``rounds`` how often a case is timed at most.
    ``data`` are folders that hold CIFAR-10 (none: blank stripes), ``work`` one for what is kept
    from case to case. ``train_seconds`` is the time for the training, from its first case on,
    ``train_images`` how many images it uses (None: all), ``train_batch`` those of a step.
    """

    device: str = "cuda"
    width: float = 1.0
    batch: int = 128
    timesteps: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 30
    data: tuple[str, ...] = ()
    work: str = ""
    train_seconds: float = math.inf
    train_batch: int = 512
    train_images: int | None = None


@dataclass(frozen=True)
class Found:
    """What a case found: a figure in few words, more words, numbers; ``ok`` None if none is due."""

    figure: str
    detail: str = ""
    ok: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row: its name, what finds it, and after how many seconds it is given up."""

    name: str
    run: Callable[[], Found]
    limit: float = 60.0


def run_case(case: Case) -> dict[str, Any]:
    """The row of a case; a failure is one, too."""
    begun = time.monotonic()
    try:
        found = case.run()
    except Exception as error:
        traceback.print_exc()
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found = Found("failed", words, ok=False)
    gc.collect()  # what it held on the device
    return {"name": case.name, **asdict(found), "seconds": round(time.monotonic() - begun, 2)}


def main(module: str, options: str, *left_out: str) -> None:
    """Run a module's cases and tell of them."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes where errors go

    def tell(**message: Any) -> None:
        told.write(json.dumps(message) + "\n")

    given = json.loads(options)
    known = Options(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
    cases: Sequence[Case] = import_module(module).cases(known)
    tell(cases=[case.name for case in cases])
    for case in cases:
        if case.name not in left_out:
            tell(begins=case.name, limit=case.limit)
            row = run_case(case)
            tell(row=row)
            if row["ok"] is False and not is_usable(known.device):
                return
    tell(done=True)


def is_usable(device: str) -> bool:
    """Whether the device still computes: an illegal access spoils it for the whole process."""
    import torch  # which whoever watches this process does without

    try:
        return bool(torch.ones(1, device=device).sum().item())
    except RuntimeError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
