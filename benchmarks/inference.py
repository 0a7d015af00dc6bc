"""What counting, and going step by step, add to inference, as ratios of times.

    python benchmarks/inference.py [--rounds 7] [--timesteps 8]

BNTT's VGG9 at a quarter of its width, 250 images of noise, float32, memory kept: each round
runs the network whole, then under ``evaluate``, then step by step, as early exit does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer

import leanspike as ls
from leanspike.evaluation import accuracy


def main(
    rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 7,
    timesteps: Annotated[int, typer.Option(help="T.")] = 8,
) -> None:
    """Print the medians of the rounds' ratios, and their range."""
    ls.keep_freed_memory()
    torch.manual_seed(0)
    ann = ls.models.create_model("vgg9_bntt", 10, width=0.25)
    snn = ls.spike(
        ann, example_input=torch.zeros(1, 3, 32, 32), timesteps=timesteps, norm="bntt"
    ).eval()
    snn.to(memory_format=torch.channels_last)
    images = torch.randn(250, 3, 32, 32).to(memory_format=torch.channels_last)
    batches = [(images, torch.randint(10, (250,)))]

    @torch.no_grad()
    def step_by_step() -> None:
        state = None
        for _ in range(snn.timesteps):
            _, state = snn.step(images, state)

    whole, *others = (
        lambda: accuracy(snn, batches),
        lambda: ls.evaluate(snn, batches),
        step_by_step,
    )
    times = [(seconds(whole), *map(seconds, others)) for _ in range(rounds + 1)][1:]
    print(f"whole {median(row[0] for row in times):.2f} s")
    for number, name in ((1, "counted"), (2, "step by step")):
        ratios = sorted(row[number] / row[0] for row in times)
        print(f"{name} {median(ratios):.2f} times that ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def seconds(run: Callable[[], object]) -> float:
    """How long ``run`` takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    typer.run(main)
