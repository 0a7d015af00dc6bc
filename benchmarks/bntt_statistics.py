"""What the separate statistics and scales of BNTT are worth in a trained network.

    python benchmarks/bntt_statistics.py RUN [--images 10000]

For every BNTT layer: how far the currents' standard deviation and γ at the first steps and the last
lie from their mean over the steps. Then the accuracy on the test images of the network as it is,
and with γ, the statistics, or both averaged over the steps, which is what one norm for all steps
would have. Nothing is trained again: it tells what this network makes of them, not what another
would learn.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from leanspike.data import Loader
from leanspike.evaluation import accuracy
from leanspike.run import Run, open_run
from leanspike.surgery import SpikingNetwork
from leanspike.temporal import BNTT
from leanspike.train import Monitor

STEPS = {"1": 0, "2": 1, "3": 2, "last": -1}


def main(run: Path, images: Annotated[int, typer.Option(help="Test images.")] = 10_000) -> None:
    """Print both tables for the trained network of the folder RUN."""
    console = Console()
    opened = open_run(run, Monitor(Console(quiet=True)))
    layers = Table("layer", *(f"{what} {t}" for what in "σγ" for t in STEPS))
    for path, norm in norms(snn := network(opened)).items():
        row = []
        for values_TC in (norm.running_var.sqrt(), norm.weight.detach()):
            mean_T = values_TC.mean(1)
            row += [f"{mean_T[t] / mean_T.mean():.3f}" for t in STEPS.values()]
        layers.add_row(path, *row)
    console.print(layers)

    data, size = opened.data, min(opened.recipe.evaluate.batch_size, images)
    test = Loader(data.test, batch_size=size, mean=data.mean, std=data.std, seed=0, train=False)
    changes = {
        "as trained": (),
        "γ averaged": ("weight",),
        "statistics averaged": ("running_mean", "running_var"),
        "both averaged": ("weight", "running_mean", "running_var"),
    }
    accuracies = Table("norms", *(f"T = {t + 1}" for t in range(snn.timesteps)))
    for title, names in changes.items():
        snn = network(opened)
        for norm in norms(snn).values():
            for name in names:
                values_TC = getattr(norm, name)
                with torch.no_grad():
                    values_TC.copy_(values_TC.mean(0).expand_as(values_TC))
        batches = islice(test.epoch(0), -(-images // size))
        found = accuracy(snn, batches, dtype=opened.dtype)
        accuracies.add_row(title, *(f"{100 * value:.2f}" for value in found))
    console.print(accuracies)


def network(run: Run) -> SpikingNetwork:
    """The run's trained network, read anew."""
    snn = run.load("snn")
    assert isinstance(snn, SpikingNetwork)
    return snn


def norms(snn: SpikingNetwork) -> dict[str, BNTT]:
    """Its BNTT layers by path."""
    return {path: norm for path, norm in snn.named_modules() if isinstance(norm, BNTT)}


if __name__ == "__main__":
    typer.run(main)
