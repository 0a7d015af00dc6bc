"""Synthetic results of any size, so that the report is tested without training anything."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.result import Energy, Example, Provenance, Raster, Result
from leanspike.evaluation.rivals_result import BreakEven, Column, Quantised, Rivals
from leanspike.evaluation.times import BatchTime, Spread, Times

MAC_PJ, AC_PJ = 4.6, 0.9


def _neurons(rng: random.Random, paths: list[str], timesteps: int) -> tuple[NeuronActivity, ...]:
    layers = []
    for depth, path in enumerate(paths):
        level = 0.28 * (1 - 0.8 * depth / len(paths))
        rates = tuple(
            level * rng.uniform(0.7, 1.3) * min(1.0, (t + 1) / (1 + 3 * depth / len(paths)))
            for t in range(timesteps)
        )
        layers.append(
            NeuronActivity(
                path=path,
                neurons=max(64, 32768 >> (8 * depth // len(paths))),
                spikes_per_step=rates,
                threshold=rng.uniform(0.3, 1.6),
                leak=rng.uniform(0.6, 1.0),
                threshold_start=rng.uniform(0.5, 3.0),
                leak_start=1.0,
            )
        )
    return tuple(layers)


def _operations(neurons: tuple[NeuronActivity, ...]) -> tuple[LayerOperations, ...]:
    layers = []
    for depth, path in enumerate([*(layer.path for layer in neurons), "classifier.6"]):
        macs = 1.8e6 if depth == 0 else 38e6 / (1 + depth % 5)
        spikes = neurons[depth - 1].spikes_per_neuron
        snn_macs, snn_acs = (macs, 0.0) if depth == 0 else (0.0, macs * spikes)
        layers.append(
            LayerOperations(
                path=path.replace("relu", "conv"),
                edge="analog" if depth == 0 else ("graded" if depth % 4 == 2 else "spike"),
                static=depth == 0,
                dense_macs=macs * 1.05,
                ann_macs=macs,
                snn_macs=snn_macs,
                snn_acs=snn_acs,
                ann_pj=macs * MAC_PJ,
                snn_pj=snn_macs * MAC_PJ + snn_acs * AC_PJ,
                spike_rate=spikes if depth else None,
            )
        )
    return tuple(layers)


def _energy(neurons: tuple[NeuronActivity, ...], operations: tuple[LayerOperations, ...]) -> Energy:
    updates = sum(layer.neurons * len(layer.spikes_per_step) for layer in neurons)
    ann = sum(layer.ann_pj for layer in operations)
    snn = sum(layer.snn_pj for layer in operations) + updates * AC_PJ
    count = sum(layer.neurons for layer in neurons)
    spikes = sum(layer.neurons * layer.spikes_per_neuron for layer in neurons) / count
    first = operations[0].ann_macs / sum(layer.ann_macs for layer in operations)
    by_layer = sum(row.dense_macs * (row.spike_rate or 0) * AC_PJ for row in operations)
    by_layer += operations[0].dense_macs * MAC_PJ
    return Energy(
        mac_pj=MAC_PJ,
        ac_pj=AC_PJ,
        ann_pj=ann,
        snn_pj=snn,
        membrane_updates=updates,
        membrane_pj=updates * AC_PJ,
        ratio=ann / snn,
        formula_ratio=1 / (first + (1 - first) * spikes * AC_PJ / MAC_PJ),
        bntt_formula_ratio=MAC_PJ * sum(row.dense_macs for row in operations) / by_layer,
        spikes_per_neuron=spikes,
    )


def _example(
    rng: random.Random, neurons: tuple[NeuronActivity, ...], classes: int, side: int, channels: int
) -> Example:
    timesteps = len(neurons[0].spikes_per_step)
    pixels = tuple(
        tuple(
            tuple(int(255 * ((x * y * (c + 1)) % (side * 2)) / (side * 2)) for c in range(channels))
            for x in range(side)
        )
        for y in range(side)
    )
    probabilities = []
    for t in range(timesteps):
        scores = [rng.random() for _ in range(classes)]
        scores[classes // 2] += (t + 1) * classes / 3
        probabilities.append(tuple(score / sum(scores) for score in scores))
    rasters = tuple(
        Raster(
            path=layer.path,
            neurons=layer.neurons,
            shown=64,
            spikes=tuple(
                (t, k)
                for t, rate in enumerate(layer.spikes_per_step)
                for k in range(64)
                if rng.random() < rate * (3 if (k // 8) % 3 else 0.1)
            ),
        )
        for layer in neurons
    )
    return Example(
        pixels=pixels, label=classes // 2, probabilities=tuple(probabilities), rasters=rasters
    )


@pytest.fixture
def rivals() -> Rivals:
    """Three networks in round numbers: above one break-even rate, below another."""
    ann = Column(arithmetic_pj=4e6, weights_pj=2e6, values_pj=1e6)
    small = Column(arithmetic_pj=1e6, weights_pj=1.5e6, values_pj=0.5e6)
    snn = Column(
        arithmetic_pj=2e6, weights_pj=1e6, values_pj=0.5e6, spikes_pj=0.5e6, membranes_pj=2e6
    )
    return Rivals(
        ann=ann,
        ann_int8=small,
        snn=snn,
        spike_rate=0.08,
        break_even_ann=BreakEven(arithmetic=1.4, total=0.125),
        break_even_int8=BreakEven(arithmetic=0.05, total=0.0),
        word_pj=10.0,
        word_bits=64,
        int8_mac_pj=0.3,
        int8_ac_pj=0.1,
        quantised=Quantised(
            value_bits=3,
            ann=Column(arithmetic_pj=0.7e6, weights_pj=1e6, values_pj=0.2e6),
            snn=Column(arithmetic_pj=0.5e6, weights_pj=0.3e6, values_pj=0.2e6, membranes_pj=2e6),
            break_even=BreakEven(arithmetic=0.112, total=0.0),
        ),
    )


def build_result(
    paths: list[str],
    timesteps: int = 5,
    classes: tuple[str, ...] = tuple("0123456789"),
    n: int = 360,
    side: int = 8,
    channels: int = 1,
    seed: int = 0,
    timed: bool = False,
) -> Result:
    """A plausible result with these neuron layers; equal arguments give equal results."""
    rng = random.Random(seed)
    neurons = _neurons(rng, paths, timesteps)
    operations = _operations(neurons)
    top = 0.967
    return Result(
        name="digits-diet",
        data="digits",
        split="test",
        n=n,
        classes=classes,
        timesteps=timesteps,
        encode="direct",
        ann_accuracy=0.981,
        accuracy=(*(top - 0.16 * 0.5**t for t in range(1, timesteps)), top),
        neurons=neurons,
        operations=operations,
        energy=_energy(neurons, operations),
        example=_example(rng, neurons, len(classes), side, channels),
        times=build_times() if timed else None,
        provenance=Provenance(
            command="leanspike train digits --out runs/quickstart --fresh",
            created="2026-01-02T03:04:05+00:00",
            leanspike="0.1.0",
            commit="0123456789abcdef0123456789abcdef01234567",
            seed=0,
            hardware="Example CPU, 2 cores",
            threads=2,
            backend="native",
            instructions="avx512",
            backends={"train snn T=5": "bfloat16, native, avx512"},
            versions={"python": "3.11.9", "torch": "2.14.1"},
            recipe={"name": "digits-diet", "model": {"name": "vgg6", "num_classes": 10}, "t": [5]},
            seconds={"train ann": 12.25, "train snn": 30.5, "evaluate": 1.0},
        ),
    )


def build_times(with_ann: bool = True) -> Times:
    """Times of one sample and of 64, in which the SNN takes 6 and 3 times as long."""
    rows = []
    for batch, ann_ms, ratio in ((1, 0.4, 6.0), (64, 6.5, 3.0)):
        ann, snn, both = (
            Spread(low=0.9 * middle, median=middle, high=1.2 * middle)
            for middle in (ann_ms, ann_ms * ratio, ratio)
        )
        rows.append(
            BatchTime(
                batch=batch,
                rounds=15,
                snn_ms=snn,
                ann_ms=ann if with_ann else None,
                ratio=both if with_ann else None,
            )
        )
    return Times(device="cpu", batches=tuple(rows))


def build_history(stages: dict[str, int]) -> list[dict[str, object]]:
    """A log with so many epochs of each stage, among other events."""
    history: list[dict[str, object]] = [{"event": "start", "parameters": 123}]
    for number, (stage, epochs) in enumerate(stages.items()):
        for epoch in range(1, epochs + 1):
            gain = 1 - 0.55**epoch / (1 + 2 * number)
            history.append(
                {
                    "event": "epoch",
                    "stage": stage,
                    "timesteps": 0 if stage == "ann" else 5,
                    "epoch": epoch,
                    "epochs": epochs,
                    "train_loss": 2.3 * (1 - gain) + 0.02,
                    "train_accuracy": 0.1 + 0.89 * gain,
                    "val_accuracy": 0.1 + 0.87 * gain,
                    "learning_rate": 0.1 / epoch,
                    "seconds": 1.5,
                }
            )
    return history


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """`build_result`, for tests."""
    return build_result


@pytest.fixture(scope="session")
def make_history() -> Callable[[dict[str, int]], list[dict[str, object]]]:
    """`build_history`, for tests."""
    return build_history
