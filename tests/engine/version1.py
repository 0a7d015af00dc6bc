"""A small program with every kind of node and synapse, and what a file of version 1 holds of it.

``python -m tests.engine.version1`` writes the file anew; that is for a new version alone. The files
that are there stay as they are: whoever reads version 1 must read them, and give these answers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leanspike_runtime import Program, Reference, to_bytes
from leanspike_runtime.program import (
    Array,
    Concat,
    Input,
    Layer,
    Neuron,
    Node,
    Pad,
    Pair,
    Pool,
    Relabel,
    Shape,
    Synapse,
    Upsample,
)

FOLDER = Path(__file__).parent
STEPS = 3


class _Drawn:
    """Tables, synapses and layers from one generator."""

    def __init__(self) -> None:
        self.draw = np.random.default_rng(1)

    def table(self, outputs: int, rows: int = 1, high: float = 0.5) -> Array:
        return self.draw.uniform(-high / 4, high, (rows, outputs)).astype(np.float32)

    def conv(
        self,
        edge: int,
        inputs: int,
        outputs: int,
        kind: str,
        groups: int = 1,
        dilation: Pair = (1, 1),
    ) -> Synapse:
        shape = (3, 3, inputs // groups, outputs)
        whole = self.draw.integers(-31, 32, shape)
        weights = whole.astype(np.int8) if kind != "f32" else whole.astype(np.float32) / 16
        scale = self.table(outputs, high=0.5 if kind == "f32" else 0.05)
        return Synapse(
            edge,
            "conv",
            scale,
            weights,
            kind,
            padding=dilation,
            dilation=dilation,
            groups=groups,  # type: ignore[arg-type]
        )

    def spiking(self, path: str, shape: Shape, reset: str, size: int, *reads: Synapse) -> Layer:
        leak, threshold = (self.draw.uniform(0.3, 1, size).astype(np.float32) for _ in range(2))
        neuron = Neuron(leak, threshold, reset, 0.5 if reset == "soft" else 0.0)  # type: ignore[arg-type]
        return Layer(path, shape, "spikes", reads, self.table(shape[2], STEPS), neuron)


def program() -> Program:
    """The program of ``version1.leanspike``."""
    some = _Drawn()
    strided = Synapse(
        9, "conv", some.table(4, high=0.1), some.conv(9, 69, 4, "i8").weights, "i8", (2, 2), (1, 1)
    )
    head = some.draw.integers(-31, 32, (1, 1, 24, 3)).astype(np.int8)
    nodes: tuple[Node, ...] = (
        some.spiking("stem", (5, 4, 66), "soft", 66, some.conv(0, 2, 66, "f32")),
        Pool("max_pool", "pool", (3, 2, 66), "spikes", (1,), (3, 3), (2, 2), (1, 1)),
        Pool("sum_pool", "average", (2, 2, 66), "counts", (1,), (2, 2), (2, 2), (0, 0)),
        some.spiking("counted", (2, 2, 3), "hard", 12, some.conv(3, 66, 3, "i6")),
        Pad("pad", (3, 2, 3), "spikes", (4,), (1, 0, 0, 0)),
        Concat("beside", (3, 2, 69), "spikes", (2, 5)),
        some.spiking("depthwise", (3, 2, 69), "undecayed", 1, some.conv(6, 69, 69, "i8", 69)),
        some.spiking(
            "branches",
            (3, 2, 69),
            "soft",
            69,
            Synapse(6, "same", some.table(69)),
            some.conv(7, 69, 69, "i6", 23, (2, 2)),
        ),
        Upsample("up", (6, 4, 69), "spikes", (8,), (2, 2)),
        some.spiking("strided", (3, 2, 4), "soft", 1, strided),
        Relabel("flatten", (1, 1, 24), "spikes", (10,)),
        Layer("now", (3, 2, 4), "analog", (some.conv(8, 69, 4, "f32"),), some.table(4), None),
        Pool("max_pool", "peak", (2, 1, 4), "analog", (12,), (2, 2), (2, 2), (1, 0)),
        some.spiking("late", (2, 1, 4), "hard", 4, Synapse(13, "same", some.table(4))),
        Layer(
            "head",
            (1, 1, 3),
            "analog",
            (
                Synapse(11, "linear", some.table(3, high=0.1), head, "i6"),
                Synapse(
                    14,
                    "linear",
                    some.table(3),
                    some.draw.normal(0, 1, (1, 1, 8, 3)).astype(np.float32),
                ),
            ),
            some.table(3, STEPS),
            None,
        ),
    )
    pixels = Input((5, 4, 2), True, (0.5, 0.25), (0.25, 0.5), ("cat", "dog", "a bird"))
    return Program("leanspike tests", STEPS, "mean", pixels, nodes, 15)


def images() -> Array:
    """Two images of it, ``[2, 5, 4, 2]``; sums of these in float32 are exact."""
    drawn = np.random.default_rng(2).integers(-8, 9, (2, 5, 4, 2)) / 4
    return drawn.astype(np.float32)


if __name__ == "__main__":
    (FOLDER / "version1.leanspike").write_bytes(to_bytes(program()))
    logits, _ = Reference(program()).run(images())
    np.savetxt(FOLDER / "version1.logits", logits.reshape(-1, 3), fmt="%.9g")
