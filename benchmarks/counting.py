"""What counting spikes and operations adds to inference, as a ratio of times.

    python benchmarks/counting.py [--rounds 7]

BNTT's VGG9 at a quarter of its width, T = 8, 250 images of noise, float32, memory kept: each round
runs the network alone and then under ``evaluate``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer

import leanspike as ls
from leanspike.evaluate import accuracy


def main(rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 7) -> None:
    """Print the median of the rounds' ratios, and their range."""
    ls.keep_freed_memory()
    torch.manual_seed(0)
    ann = ls.models.create_model("vgg9_bntt", 10, width=0.25)
    snn = ls.spike(ann, example_input=torch.zeros(1, 3, 32, 32), timesteps=8, norm="bntt")
    snn.to(memory_format=torch.channels_last)
    images = torch.randn(250, 3, 32, 32).to(memory_format=torch.channels_last)
    batches = [(images, torch.randint(10, (250,)))]
    pairs = [
        (seconds(lambda: accuracy(snn, batches)), seconds(lambda: ls.evaluate(snn, batches)))
        for _ in range(rounds + 1)
    ][1:]
    ratios = sorted(counted / alone for alone, counted in pairs)
    alone = median(alone for alone, _ in pairs)
    print(f"alone {alone:.2f} s; counted {median(ratios):.2f} times that", end=" ")
    print(f"({ratios[0]:.2f} to {ratios[-1]:.2f}; {rounds} rounds)")


def seconds(run: Callable[[], object]) -> float:
    """How long ``run`` takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    typer.run(main)
