"""Programs at random, with every kind of node, for whatever reads or runs them."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanspike_runtime.program import (
    LARGEST,
    Array,
    Concat,
    Input,
    Layer,
    Neuron,
    Node,
    Pad,
    Pair,
    Pool,
    Program,
    Relabel,
    Shape,
    Synapse,
    Upsample,
)

STEPS = 3


class Random:
    """Makes tables, synapses and layers from one generator."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)

    def table(self, outputs: int, low: float = -0.5, high: float = 0.5) -> Array:
        rows = int(self.draw.choice([1, STEPS]))
        return self.draw.uniform(low, high, (rows, outputs)).astype(np.float32)

    def weights(self, shape: tuple[int, ...], kind: str) -> Array:
        if kind == "f32":
            return self.draw.normal(0, 0.5, shape).astype(np.float32)
        return self.draw.integers(-LARGEST[kind], LARGEST[kind] + 1, shape).astype(np.int8)

    def conv(
        self, edge: int, channels: int, outputs: int, kind: str = "f32", size: int = 3, **rest: Any
    ) -> Synapse:
        groups = rest.pop("groups", 1)
        weights = self.weights((size, size, channels // groups, outputs), kind)
        small = 1.0 if kind == "f32" else 1 / LARGEST[kind]
        padding: Pair = rest.pop("padding", (size // 2, size // 2))
        scale = self.table(outputs, 0.2 * small, small)
        return Synapse(edge, "conv", scale, weights, kind, padding=padding, groups=groups, **rest)  # type: ignore[arg-type]

    def neuron(self, shape: Shape) -> Neuron:
        size = int(self.draw.choice([1, shape[2], int(np.prod(shape))]))
        return Neuron(
            self.draw.uniform(0.3, 1, size).astype(np.float32),
            self.draw.uniform(0.3, 1, size).astype(np.float32),
            str(self.draw.choice(["soft", "hard", "undecayed"])),  # type: ignore[arg-type]
            float(self.draw.choice([0.0, 0.5])),
        )

    def spiking(self, path: str, shape: Shape, *synapses: Synapse) -> Layer:
        return Layer(path, shape, "spikes", synapses, self.table(shape[2]), self.neuron(shape))


def random_program(seed: int, static: bool = True) -> Program:
    """A network of two branches with every kind of node and of synapse; 70 and 6 channels."""
    some = Random(seed)
    kind = ("f32", "i8", "i6")[seed % 3]
    same = some.table(70, 0.2, 1.0)
    nodes: tuple[Node, ...] = (
        some.spiking("stem", (9, 8, 70), some.conv(0, 3, 70)),  # edge 1
        Pool("max_pool", "pool", (5, 4, 70), "spikes", (1,), (3, 3), (2, 2), (1, 1)),
        Pool("sum_pool", "average", (4, 4, 70), "counts", (1,), (2, 2), (2, 2), (0, 0)),
        some.spiking("counted", (4, 4, 6), some.conv(3, 70, 6, kind, padding=(1, 1))),
        Pad("pad", (5, 4, 6), "spikes", (4,), (1, 0, 0, 0)),
        Concat("beside", (5, 4, 76), "spikes", (2, 5)),
        some.spiking(
            "depthwise", (5, 4, 76), some.conv(6, 76, 76, kind, groups=76, padding=(1, 1))
        ),
        some.spiking(
            "branches",
            (5, 4, 70),
            Synapse(2, "same", same),
            some.conv(7, 76, 70, kind, padding=(2, 2), dilation=(2, 2), groups=2),
        ),
        Upsample("up", (10, 8, 70), "spikes", (8,), (2, 2)),
        some.spiking("strided", (5, 4, 6), some.conv(9, 70, 6, kind, stride=(2, 2))),
        Relabel("flatten", (1, 1, 120), "spikes", (10,)),
        Layer(
            "now", (5, 4, 6), "analog", (some.conv(8, 70, 6, kind, size=1),), some.table(6), None
        ),
        Pool("max_pool", "peak", (3, 2, 6), "analog", (12,), (2, 2), (2, 2), (1, 0)),
        some.spiking("late", (3, 2, 6), Synapse(13, "same", some.table(6, 0.5, 1.0))),
        _last(some, kind),
    )
    return Program("leanspike tests", STEPS, "sum", Input((9, 8, 3), static), nodes, 15)


def _last(some: Random, kind: str) -> Layer:
    reads = (
        Synapse(11, "linear", some.table(10), some.weights((1, 1, 120, 10), kind), kind),  # type: ignore[arg-type]
        Synapse(14, "linear", some.table(10), some.weights((1, 1, 36, 10), "f32")),
    )
    return Layer("head", (1, 1, 10), "analog", reads, some.table(10), None)


def random_images(program: Program, samples: int, seed: int) -> Array:
    """Input of a program: ``[N, H, W, C]``, or with steps in front."""
    steps = () if program.input.static else (program.timesteps,)
    shape = (*steps, samples, *program.input.shape)
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
