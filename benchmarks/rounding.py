"""Does the native code round to one side? Its bf16 results and the reference's beside float32's.

    python benchmarks/rounding.py RUN [--batches 20]

Batches of the run in the folder RUN, augmented as in training, go through its trained SNN in
bfloat16. What enters each layer, and the gradient that comes back to it, are then given to the
native code, to plain PyTorch in bfloat16, and to plain PyTorch in float32, which stands for the
truth: neurons make the same spikes of it, and gradients dL/dx; convolutions outputs y and dL/dw.

For each of these: the scale <found, true> / <true, true> - 1 and the mean of found - true in mean
absolute values, both ± standard error over the batches, in millionths; and the size of the error,
||found - true|| / ||true||.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.backends import reference
from leanspike.backends.native import lif as native
from leanspike.data import Loader
from leanspike.neuron import LIF
from leanspike.run import open_run
from leanspike.run.build import build_augment
from leanspike.surgery import SpikingNetwork
from leanspike.synapse import EventConv2d
from leanspike.temporal import broadcast
from leanspike.train import CrossEntropy, Monitor

Seen = dict[str, tuple[nn.Module, Tensor, Tensor]]
"""By path of a layer: itself, its input, and the gradient of its output."""


def main(run: Path, batches: Annotated[int, typer.Option(help="Of 64.")] = 20) -> None:
    """Print a row for each layer, kind of result, and code."""
    torch.manual_seed(0)  # of the dropout
    opened = open_run(run, Monitor(Console(quiet=True)))
    snn, data = opened.load("snn").train(), opened.data
    assert isinstance(snn, SpikingNetwork)
    loader = Loader(
        data.train,
        batch_size=64,
        mean=data.mean,
        std=data.std,
        seed=0,
        train=True,
        augment=build_augment(opened.recipe.data.augment, data),
        memory_format=torch.channels_last,
    )
    rows: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    for x, labels in islice(loader.epoch(0), batches):
        for path, (layer, entered, gradient) in train_step(snn, x, labels).items():
            for code, found, true in results(layer, entered, gradient):
                for what in true:
                    rows[path, what, code].append(errors(found[what], true[what]))
    show(rows)


def train_step(snn: SpikingNetwork, x: Tensor, labels: Tensor) -> Seen:
    """Forward and backward in bfloat16; what the neurons and convolutions saw."""
    seen: Seen = {}
    with watching(snn, seen):
        with torch.autocast("cpu", torch.bfloat16):
            y_TNK = snn(x)
        CrossEntropy()(y_TNK, labels, x).backward()
    snn.zero_grad()
    return seen


@contextmanager
def watching(snn: SpikingNetwork, seen: Seen) -> Iterator[None]:
    def watch(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()
            output.register_hook(lambda gradient: seen.update({path: (layer, x, gradient)}))

        return hook

    layers = {p: m for p, m in snn.named_modules() if isinstance(m, LIF | EventConv2d)}
    handles = [layer.register_forward_hook(watch(path)) for path, layer in layers.items()]
    yield
    for handle in handles:
        handle.remove()


def results(layer: nn.Module, x: Tensor, gradient: Tensor) -> Iterator[tuple[str, Any, Any]]:
    """Of both codes: what they find in bfloat16, and the truth."""
    find = of_neuron if isinstance(layer, LIF) else of_convolution
    true = find(layer, x, gradient, torch.float32, False)
    for code, by_native in (("native", True), ("PyTorch", False)):
        yield code, find(layer, x, gradient, torch.bfloat16, by_native), true


def of_neuron(
    neuron: Any, x_TN: Tensor, gradient: Tensor, dtype: torch.dtype, by_native: bool
) -> dict[str, Tensor]:
    static = len(x_TN) > 1 and x_TN.stride(0) == 0
    x = (x_TN[0] if static else x_TN).to(dtype).requires_grad_()
    lif = native.lif if by_native else reference.lif
    entered = broadcast(x, len(x_TN)) if static else x
    o_TN = lif(entered, neuron.leak, neuron.threshold, neuron.dynamics)
    return {"dL/dx": torch.autograd.grad(o_TN, x, gradient.to(dtype))[0]}


def of_convolution(
    conv: Any, x: Tensor, gradient: Tensor, dtype: torch.dtype, by_native: bool
) -> dict[str, Tensor]:
    weight = conv.weight.detach().bfloat16().to(dtype).requires_grad_()
    if by_native:
        how = None, list(conv.stride), list(conv.padding)
        y = torch.ops.leanspike.convolution(x.to(dtype), weight, *how)
    else:
        y = F.conv2d(x.to(dtype), weight, None, conv.stride, conv.padding)
    return {"y": y.detach(), "dL/dw": torch.autograd.grad(y, weight, gradient.to(dtype))[0]}


def errors(found: Tensor, true: Tensor) -> tuple[float, float, float]:
    """The scale's, the mean's and the size of the error."""
    found, true = found.double(), true.double()
    scale = (found * true).sum() / true.square().sum() - 1
    shift = (found - true).mean() / true.abs().mean()
    return scale.item(), shift.item(), ((found - true).norm() / true.norm()).item()


def show(rows: dict[tuple[str, str, str], list[tuple[float, ...]]]) -> None:
    table = Table("layer", "result", "code", "scale, ppm", "mean, ppm", "size of the error")
    for names, found in rows.items():
        values = torch.tensor(found)
        ppm, spread = 1e6 * values.mean(0), 1e6 * values.std(0) / len(values) ** 0.5
        cells = (f"{ppm[i]:.1f} ± {spread[i]:.1f}" for i in (0, 1))
        table.add_row(*names, *cells, f"{values[:, 2].mean():.2e}")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
