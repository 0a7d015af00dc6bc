"""Do networks learn the same with the native code and without it? Pairs that share all else.

    python benchmarks/paired_seeds.py seeds.jsonl                    # 100 seeds of recipe digits
    python benchmarks/paired_seeds.py seeds.jsonl --first 50         # a second process beside it
    python benchmarks/paired_seeds.py seeds.jsonl --arms native,dense
    python benchmarks/paired_seeds.py seeds.jsonl --table            # what was found so far

Each seed trains one ANN and converts it once; from that start each arm trains the SNN with the same
images, augmentations and dropout masks. The file gets one line of JSON per seed; arms that are in
it are not trained again. The table compares the first two arms.

Arms: "native" (neurons and event-driven convolutions in C), "reference" (which has neither:
LEANSPIKE_BACKEND=reference), "dense" (native neurons, PyTorch's convolutions), "events" (reference
neurons, event-driven convolutions).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import comb, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from leanspike import keep_freed_memory
from leanspike.backends import use_backend
from leanspike.backends.native import convolution, lif
from leanspike.data import Loader
from leanspike.evaluation import accuracy
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.surgery import SpikingNetwork
from leanspike.train import Monitor, loop

Found = dict[str, list[float]]
"""Of one arm: training loss and training, held-out and test accuracy after each epoch."""

LAST_EPOCHS = 6


def main(
    file: Path,
    recipe: str = "digits",
    first: Annotated[int, typer.Option(help="Seed.")] = 0,
    last: Annotated[int, typer.Option(help="Seed, itself included.")] = 99,
    arms: str = "native,reference",
    threads: int = 1,
    table: Annotated[bool, typer.Option("--table", help="Only what the file holds.")] = False,
) -> None:
    """Train what the file lacks, then print what it holds."""
    names = arms.split(",")
    if not table:
        keep_freed_memory()
        torch.set_num_threads(threads)
        for seed in range(first, last + 1):
            done = read(file).get(seed, {"arms": {}})["arms"]
            if missing := [name for name in names if name not in done]:
                row = {"seed": seed, "threads": threads, **train(recipe, seed, missing)}
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")
    show(list(read(file).values()), *names[:2])


def read(file: Path) -> dict[int, dict[str, Any]]:
    """The rows so far, by seed, in order; lines of the same seed are one row."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows: dict[int, dict[str, Any]] = {}
    for row in map(json.loads, lines):
        row["arms"] = {**rows.get(row["seed"], row)["arms"], **row["arms"]}
        rows[row["seed"]] = row
    return dict(sorted(rows.items()))


def train(recipe: str, seed: int, arms: Sequence[str]) -> dict[str, Any]:
    """One ANN, and from it the SNN of each arm."""
    monitor = Monitor(Console(quiet=True))
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        run = Run(load_recipe(recipe, [f"seed={seed}"]), start, monitor)
        run.begin()
        run.train_ann()
        run.convert()
        found = {}
        for arm in arms:
            copy = Path(shutil.copytree(start, Path(folder) / arm))
            found[arm] = train_arm(Run(run.recipe, copy, monitor), arm)
        return {"dtype": str(run.dtype).removeprefix("torch."), "arms": found}


def train_arm(run: Run, arm: str) -> Found:
    """Train the SNN; the loop's validation tells the test accuracy, in float32, besides."""
    data, tests = run.data, list[float]()
    size = run.recipe.evaluate.batch_size
    test = Loader(
        data.test,
        batch_size=size,
        mean=data.mean,
        std=data.std,
        seed=0,
        train=False,
        memory_format=torch.channels_last,
    )
    before = len(run.history)

    def validate(network: nn.Module, *args: Any, **options: Any) -> list[float]:
        assert isinstance(network, SpikingNetwork)
        tests.append(accuracy(network, test.epoch(0), network.timesteps)[-1])
        return accuracy(network, *args, **options)

    with ARMS[arm](), patch.object(loop, "accuracy", validate):
        run.train_snn()
    rows = run.history[before:]
    keys = {"loss": "train_loss", "train": "train_accuracy", "held_out": "val_accuracy"}
    found = {name: [round(row[key], 4) for row in rows] for name, key in keys.items()}
    return {**found, "test": [round(value, 4) for value in tests]}


# The arms.


@contextmanager
def backend(name: str, *, dense: bool = False, neurons: bool = True) -> Iterator[None]:
    """A choice of backend; without event-driven convolutions, without native neurons."""
    with ExitStack() as stack:
        stack.enter_context(use_backend(name))
        if dense:
            stack.enter_context(patch.dict(convolution.DENSEST, clear=True))
        if not neurons:
            stack.enter_context(patch.object(lif, "_knows", lambda *_: False))
        yield


ARMS = {
    "native": lambda: backend("native"),
    "reference": lambda: backend("reference"),
    "dense": lambda: backend("native", dense=True),
    "events": lambda: backend("native", neurons=False),
}


# What came out.


def best(found: Found) -> list[int]:
    """The epochs that are best on held-out images; training selects the first of them."""
    most = max(found["held_out"])
    return [epoch for epoch, value in enumerate(found["held_out"]) if value == most]


FIGURES: dict[str, Callable[[Found], float]] = {
    f"training loss, last {LAST_EPOCHS} epochs": lambda arm: mean(arm["loss"][-LAST_EPOCHS:]),
    f"training accuracy, last {LAST_EPOCHS} epochs": lambda arm: (
        100 * mean(arm["train"][-LAST_EPOCHS:])
    ),
    f"held-out accuracy, last {LAST_EPOCHS} epochs": lambda arm: (
        100 * mean(arm["held_out"][-LAST_EPOCHS:])
    ),
    f"test accuracy, last {LAST_EPOCHS} epochs": lambda arm: 100 * mean(arm["test"][-LAST_EPOCHS:]),
    "held-out accuracy, chosen epoch": lambda arm: 100 * max(arm["held_out"]),
    "test accuracy, chosen epoch": lambda arm: 100 * arm["test"][best(arm)[0]],
    "test accuracy, last of the best epochs": lambda arm: 100 * arm["test"][best(arm)[-1]],
    "test accuracy, all epochs": lambda arm: 100 * mean(arm["test"]),
    "test accuracy, last epoch": lambda arm: 100 * arm["test"][-1],
    "chosen epoch": lambda arm: 1.0 + best(arm)[0],
}


def show(rows: Sequence[dict[str, Any]], ours: str, theirs: str) -> None:
    """Both arms' mean ± standard deviation, and their difference ± its standard error."""
    console = Console(width=130)
    rows = [row for row in rows if {ours, theirs} <= set(row["arms"])]
    if len(rows) < 2:
        console.print(f"{len(rows)} pairs of {ours} and {theirs}; two or more make a table")
        return
    shown = Table("", ours, theirs, "difference", "t", "more, less", "p (signs)")
    for title, figure in FIGURES.items():
        a, b = ([figure(row["arms"][arm]) for row in rows] for arm in (ours, theirs))
        pairs = [x - y for x, y in zip(a, b, strict=True)]
        error = stdev(pairs) / sqrt(len(pairs))
        digits = 4 if "loss" in title else 2
        more, less = sum(d > 0 for d in pairs), sum(d < 0 for d in pairs)
        shown.add_row(
            title,
            *(f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}" for values in (a, b)),
            f"{mean(pairs):.{digits}f} ± {error:.{digits}f}",
            f"{mean(pairs) / error:.2f}" if error else "",
            f"{more}, {less}",
            f"{sign_test(more, less):.2f}",
        )
    console.print(shown)
    console.print(f"n = {len(rows)} pairs, {rows[0]['dtype']}, {rows[0]['threads']} thread(s)")


def sign_test(more: int, less: int) -> float:
    """How probable so unequal a split is, to either side, if both signs are equally likely."""
    n, fewer = more + less, min(more, less)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)


if __name__ == "__main__":
    typer.run(main)
