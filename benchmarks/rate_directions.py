"""Do rate gradients point where backpropagation through time does, and how long are they?

Of a trained run's SNN, in training mode, on one batch of training images: for each layer the cosine
between both gradients of its weights, and the ratio of their norms.

    python benchmarks/rate_directions.py runs/digits
    python benchmarks/rate_directions.py runs/cifar10 --images 64 --timesteps 8
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import typer
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

import leanspike as ls
from leanspike.data import normalise
from leanspike.execute import Gradient
from leanspike.run import open_run
from leanspike.train import Monitor


def main(run: Path, images: int = 128, timesteps: int | None = None, threads: int = 1) -> None:
    """Print a line for each layer with weights."""
    torch.set_num_threads(threads)
    opened = open_run(run, Monitor(Console(quiet=True)))
    pixels, labels = opened.data.train.batch(torch.arange(images))
    x = normalise(pixels, opened.data.mean, opened.data.std)
    snn = ls.load(run / "snn")
    assert isinstance(snn, ls.SpikingNetwork)
    steps = timesteps or snn.timesteps
    through, by_rate = (gradients(snn, x, labels, steps, name) for name in ("bptt", "rate"))
    print(
        f"torch {torch.__version__}, T = {steps}, {images} images\nlayer  cosine  norm, rate / bptt"
    )
    for name, expected in through.items():
        if name.endswith(".weight") and expected.ndim > 1:
            found = by_rate[name]
            alike = cosine_similarity(expected.flatten(), found.flatten(), 0)
            print(f"{name}  {alike:.3f}  {found.norm() / expected.norm():.2f}")


def gradients(
    snn: ls.SpikingNetwork, x: Tensor, labels: Tensor, timesteps: int, gradient: Gradient
) -> dict[str, Tensor]:
    """Those of the cross-entropy of the last answer, by parameter."""
    network: nn.Module = deepcopy(snn).train()
    outputs = network(x, timesteps, gradient=gradient)
    cross_entropy(ls.readout(outputs, "sum")[-1], labels).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    typer.run(main)
