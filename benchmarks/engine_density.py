"""The engine's time over the density of spikes, beside PyTorch's dense convolution.

    OMP_NUM_THREADS=1 python benchmarks/engine_density.py [ROUNDS]

One 3×3 convolution of C to C channels (16×16 pixels, 8×8 from 256 on) whose inputs fire at random,
with its neurons; one step, one thread, weights of 6 bits, 8 bits, float32. The least of five times
is divided by that of PyTorch's convolution in float32, channels last, and a ReLU, in the same
round: medians over the rounds, in brackets the quartiles. PyTorch's is processor time, which waits
for nobody; a layer of the engine has a wall clock alone. The last column is the density at which
both take equally long.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import nn

from leanspike.evaluation import provenance
from leanspike_runtime import Engine, Program, to_bytes
from leanspike_runtime.program import LARGEST, Array, Input, Layer, Neuron, Synapse

CHANNELS = (16, 32, 64, 128, 256, 512)
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
TYPES: tuple[Literal["i6", "i8", "f32"], ...] = ("i6", "i8", "f32")
IMAGES = 2
CALLS = 5


def table(value: float, channels: int) -> Array:
    """One number for each channel, ``[1, C]``."""
    return np.full((1, channels), value, np.float32)


def program(channels: int, size: int, kind: Literal["i6", "i8", "f32"]) -> bytes:
    """The file of a layer behind one that turns 0 and 1 into spikes."""
    generator = np.random.default_rng(0)
    shape = (size, size, channels)
    neuron = Neuron(np.float32([0]), np.float32([0.5]))
    weights: Array = generator.normal(size=(3, 3, channels, channels)).astype(np.float32)
    if kind != "f32":
        most = LARGEST[kind]
        weights = np.clip(np.round(weights * most / 3), -most, most).astype(np.int8)
    last: Array = np.zeros((1, 1, size * size * channels, 1), np.float32)
    given = Synapse(0, "same", table(1, channels))
    convolution = Synapse(1, "conv", table(0.01, channels), weights, kind, padding=(1, 1))
    answer = Synapse(2, "linear", table(1, 1), last)
    nodes = (
        Layer("given", shape, "spikes", (given,), table(0, channels), neuron),
        Layer("layer", shape, "spikes", (convolution,), table(0, channels), neuron),
        Layer("out", (1, 1, 1), "analog", (answer,), table(0, 1), None),
    )
    return to_bytes(Program("density", 1, "sum", Input(shape, True), nodes, 3))


def seconds(call: Callable[[], object]) -> float:
    """Processor time of a call, the least of some."""
    found = []
    for _ in range(CALLS):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def ratios(channels: int, size: int, rounds: int) -> dict[str, list[tuple[float, float, float]]]:
    """Quartiles of the ratio, for each type of weights, at each density."""
    engines = {kind: Engine(program(channels, size, kind)) for kind in TYPES}
    layer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()).eval()
    layer = layer.to(memory_format=torch.channels_last)
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in TYPES}
    for density in DENSITIES:
        spikes = np.random.default_rng(1).random((IMAGES, size, size, channels)) < density
        x = spikes.astype(np.float32)
        dense = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last
        lists: dict[str, list[float]] = {kind: [] for kind in TYPES}
        for number in range(rounds + 1):
            with torch.no_grad():
                ann = seconds(lambda: layer(dense))  # noqa: B023
            for kind, engine in engines.items():
                least = min(engine.work(x)[1].seconds for _ in range(CALLS))
                if number:
                    lists[kind].append(least / ann)
        for kind in TYPES:
            low, middle, high = np.percentile(lists[kind], [25, 50, 75])
            found[kind].append((float(low), float(middle), float(high)))
    return found


def break_even(middles: list[float]) -> str:
    """The density at which the ratio is 1, on a line between two that were measured."""
    if middles[0] >= 1:
        return f"below {DENSITIES[0]:.2f}"
    for i in range(1, len(middles)):
        if middles[i] >= 1:
            share = (1 - middles[i - 1]) / (middles[i] - middles[i - 1])
            return f"{DENSITIES[i - 1] + share * (DENSITIES[i] - DENSITIES[i - 1]):.2f}"
    return f"above {DENSITIES[-1]:.2f}"


def main() -> None:
    """A line for each number of channels and type of weights."""
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"{provenance().hardware}, 1 thread, torch {torch.__version__}, {rounds} rounds")
    print("channels weights | " + " | ".join(f"{d:.2f}" for d in DENSITIES) + " | break-even")
    for channels in CHANNELS:
        found = ratios(channels, 16 if channels < 256 else 8, rounds)
        for kind in TYPES:
            cells = [f"{m:.2f} ({low:.2f}-{high:.2f})" for low, m, high in found[kind]]
            even = break_even([middle for _, middle, _ in found[kind]])
            print(f"{channels:4d} {kind:4s} | " + " | ".join(cells) + f" | {even}", flush=True)


if __name__ == "__main__":
    main()
