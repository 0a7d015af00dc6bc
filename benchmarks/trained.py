"""A trained network's inference beside its ANN's: event-driven, and with dense convolutions.

    python benchmarks/trained.py RUN [--rounds 7]

On test images of the run in the folder RUN, memory kept; the three take turns, round by round.
Milliseconds are medians of the rounds, ratios medians of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from leanspike import keep_freed_memory
from leanspike.bench.worker import seconds_of
from leanspike.data import Loader
from leanspike.run import open_run
from leanspike.synapse import EventConv2d, convolution
from leanspike.train import Monitor

BATCHES = (1, 64, 256)


def main(run: Path, rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 7):
    """Print the times of ANN and SNN, and how sparse the SNN's convolutions' inputs are."""
    keep_freed_memory()
    opened = open_run(run, Monitor(Console(quiet=True)))
    ann, snn = (
        opened.load(part).eval().to(memory_format=torch.channels_last) for part in ("ann", "snn")
    )
    data, console = opened.data, Console()
    test = Loader(
        data.test, batch_size=max(BATCHES), mean=data.mean, std=data.std, seed=0, train=False
    )
    images = next(iter(test.epoch(0)))[0].to(memory_format=torch.channels_last)
    table = Table("dtype", "batch", "ANN, ms", "dense, ms", "events, ms", "÷ dense", "÷ ANN")
    for dtype in (torch.float32, torch.bfloat16):
        for batch in BATCHES:
            x = images[:batch]
            cases = (
                lambda x=x, dtype=dtype: infer(ann, x, dtype),
                lambda x=x, dtype=dtype: densely(lambda: infer(snn, x, dtype)),
                lambda x=x, dtype=dtype: infer(snn, x, dtype),
            )
            times = [tuple(map(seconds_of, cases)) for _ in range(rounds + 1)][1:]
            columns = [median(column) * 1e3 for column in zip(*times, strict=True)]
            to_dense, to_ann = (median(row[2] / row[i] for row in times) for i in (1, 0))
            table.add_row(
                str(dtype).removeprefix("torch."),
                str(batch),
                *(f"{ms:.2f}" for ms in columns),
                *(f"{ratio:.2f}" for ratio in (to_dense, to_ann)),
            )
    console.print(table)
    found = densities(snn, images)
    shown = ", ".join(f"{path} {density:.3f}" for path, density in found.items())
    console.print(f"T = {snn.timesteps}; inputs that are not 0: {shown}")


@torch.no_grad()
def infer(network: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        network(x)


def densely(call: Callable[[], None]) -> None:
    with patch.dict(convolution.DENSEST, clear=True):
        call()


@torch.no_grad()
def densities(snn: nn.Module, x: Tensor) -> dict[str, float]:
    """The share of inputs that are not 0, of each event-driven convolution."""
    found: dict[str, float] = {}
    for path, module in snn.named_modules():
        if isinstance(module, EventConv2d):
            module.register_forward_pre_hook(
                lambda _, args, path=path: found.update({path: convolution.density(args[0])})
            )
    snn(x)
    return found


if __name__ == "__main__":
    typer.run(main)
