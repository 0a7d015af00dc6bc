"""What a plain call costs beside one in channels_last, the layout of `leanspike train`.

    python benchmarks/layout.py [--timesteps 5] [--batches 1] [--networks cifar10] [--rounds 11]

Three networks with the sizes of the recipes digits, cifar10 and published_resnet20, as in steps.py,
float32, one thread. Weights and images lie contiguous, PyTorch's default. "kept" are calls that
keep the images so inside, "as before" those whose contiguous convolutions are also dense, as they
were before images were turned at a network's entry. All take turns within each round; ratios are
of the processor's time to that of weights and images in channels_last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from statistics import median
from typing import Annotated
from unittest.mock import patch

import torch
import typer
from steps import NETWORKS, network, seconds

import leanspike as ls
from leanspike.backends.native import convolution


def main(
    timesteps: Annotated[int, typer.Option(help="T.")] = 5,
    batches: Annotated[list[int], typer.Option(help="Images at once.")] = [1, 64],  # noqa: B006
    networks: Annotated[list[str], typer.Option(help="Of which.")] = list(NETWORKS),  # noqa: B006
    rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 11,
) -> None:
    """Print a row for each network and batch."""
    torch.set_num_threads(1)
    ls.keep_freed_memory()
    print(f"T = {timesteps}, medians of {rounds} rounds; torch {torch.__version__}")
    for batch in batches:
        for name in networks:
            found = measure(name, timesteps, batch, rounds)
            last = found.pop("channels_last")
            shares = (
                f"{what} {median(t / u for t, u in zip(times, last, strict=True)):.2f}"
                for what, times in found.items()
            )
            load = os.getloadavg()[0]
            print(
                f"batch {batch:2} {name:20} channels_last {1e3 * median(last):7.1f} ms; "
                f"{', '.join(shares)} times that (load {load:.1f})",
                flush=True,
            )


def measure(name: str, timesteps: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """The seconds of each way of calling a network, round by round."""
    last, x_last = network(name, timesteps, batch)
    snn, x = deepcopy(last).to(memory_format=torch.contiguous_format), x_last.contiguous()
    kept = deepcopy(snn)
    kept.layout = replace(kept.layout, turns=False)
    only_last = convolution.layout_of

    def before() -> None:
        def layout_of(x: torch.Tensor) -> torch.memory_format | None:
            found = only_last(x)
            return found if found == torch.channels_last else None

        with patch.object(convolution, "layout_of", layout_of):
            kept(x)

    ways: dict[str, Callable[[], object]] = {
        "channels_last": lambda: last(x_last),
        "plain": lambda: snn(x),
        "kept": lambda: kept(x),
        "as before": before,
    }
    with torch.no_grad():
        repeats = max(1, int(0.02 / seconds(ways["plain"], 2)))
        rows = [[seconds(way, repeats) for way in ways.values()] for _ in range(rounds + 1)]
    return {way: list(times)[1:] for way, times in zip(ways, zip(*rows, strict=True), strict=True)}


if __name__ == "__main__":
    typer.run(main)
