"""What a step costs beside a T-th of the whole call, and what leaving early saves.

    python benchmarks/steps.py [--timesteps 5] [--batch 1] [--rounds 15]

Three networks with the sizes of the recipes digits, cifar10 and published_resnet20 (weights as they
begin, thresholds calibrated on noise and raised until about as few spikes are fired as in trained
networks), float32, one thread. Times are the processor's, which other work on the machine disturbs
less than the clock's; whole and step by step take turns within each round.

Beside a later step stand the convolutions, linear layers, norms and pools of that step in bare
PyTorch, dense and without neurons: what a step cannot do without where events do not save work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

import leanspike as ls
from leanspike.models import create_model
from leanspike.recipes import load_recipe

NETWORKS = {"digits": (1, 8), "cifar10": (3, 32), "published_resnet20": (3, 32)}
"""Recipes, with channels and pixels of their images."""


PLAIN = nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.MaxPool2d


def main(
    timesteps: Annotated[int, typer.Option(help="T.")] = 5,
    batch: Annotated[int, typer.Option(help="Images at once.")] = 1,
    rounds: Annotated[int, typer.Option(help="That are timed, after one.")] = 15,
) -> None:
    """Print a row for each network."""
    torch.set_num_threads(1)
    print(f"T = {timesteps}, batch {batch}: medians of {rounds} rounds, range of the ratio")
    for name in NETWORKS:
        snn, x = network(name, timesteps, batch)
        whole, steps, later, floor = zip(*measure(snn, x, rounds), strict=True)
        ratios = sorted(s / w for w, s in zip(whole, steps, strict=True))
        share = median(timesteps * one / w for w, one in zip(whole, later, strict=True))
        bare = median(timesteps * f / w for w, f in zip(whole, floor, strict=True))
        print(
            f"{name:20} whole {1e3 * median(whole):7.2f} ms, all steps {median(ratios):.2f} times "
            f"that ({ratios[0]:.2f} to {ratios[-1]:.2f}); a later step {share:.2f} times a T-th, "
            f"its layers in bare PyTorch {bare:.2f}"
        )


def network(name: str, timesteps: int, batch: int) -> tuple[ls.SpikingNetwork, Tensor]:
    """The network of a recipe, calibrated on noise, and images of noise."""
    torch.manual_seed(0)
    recipe, (channels, size) = load_recipe(name), NETWORKS[name]
    options = dict(recipe.model.options)
    if name == "digits":
        options |= {"in_channels": channels, "image_size": size}
    ann = create_model(recipe.model.name, 10, **options).eval()
    images = torch.rand(max(16, batch), channels, size, size)
    neuron = ls.LIF(height="threshold", initial="half")
    norm = recipe.spike.norm
    snn = ls.spike(ann, example_input=images[:1], timesteps=timesteps, neuron=neuron, norm=norm)
    ls.calibrate(snn, images, method="one_pass", scale=3.0, statistics="reestimate")
    snn.to(memory_format=torch.channels_last)
    return snn, images[:batch].contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def measure(
    snn: ls.SpikingNetwork, x: Tensor, rounds: int
) -> list[tuple[float, float, float, float]]:
    """Seconds of each round: the whole call, all steps, a later step, and its layers in PyTorch."""
    _, state = snn.step(x)
    bare = layers_of_a_step(snn, x)

    def all_steps() -> None:
        state = None
        for _ in range(snn.timesteps):
            _, state = snn.step(x, state)

    runs = (lambda: snn(x), all_steps, lambda: snn.step(x, state), bare)
    repeats = max(1, int(0.02 / seconds(runs[0], 2)))
    found = [tuple(seconds(run, repeats) for run in runs) for _ in range(rounds + 1)]
    return found[1:]  # type: ignore[return-value]


def layers_of_a_step(snn: ls.SpikingNetwork, x: Tensor) -> Callable[[], None]:
    """Runs the layers of a later step with what enters them there, as PyTorch's own."""
    calls: list[tuple[nn.Module, Tensor]] = []
    _, state = snn.step(x)

    def observe(node, values, _value) -> None:  # type: ignore[no-untyped-def]
        layer = snn.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, PLAIN):
            entering = values[node.all_input_nodes[0]]
            plain = nn.Conv2d.forward if isinstance(layer, nn.Conv2d) else type(layer).forward
            calls.append((lambda x, layer=layer, plain=plain: plain(layer, x), entering))

    snn.step(x, state, observe)

    def run() -> None:
        for layer, entering in calls:
            layer(entering)

    return run


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The processor's time for one run."""
    begun = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - begun) / repeats


if __name__ == "__main__":
    typer.run(main)
