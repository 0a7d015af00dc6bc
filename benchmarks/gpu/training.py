"""The network of `diet_cifar10_vgg16`, trained by a recipe with a short schedule of its own.

Through leanspike's own run: the ANN, its calibration, the SNN at T = 5, each for as many epochs as
the time allows, which is found out first on a few batches. Epochs are selected on the 5,000
held-out training images; the test set is looked at once, last. What departs from the recipe is in
`CHANGES`: large batches, one cycle of the learning rate, label smoothing, little dropout, the
calibration on fewer images and steps, so that its values fit the memory.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console

from benchmarks.gpu.cases import Case, Found, Options
from benchmarks.gpu.cifar import collect
from leanspike.config import Recipe, TrainSection
from leanspike.data import Loader
from leanspike.evaluation import accuracy, evaluate
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.run.build import build_augment, build_network, build_neuron
from leanspike.surgery import SpikingNetwork, spike
from leanspike.train import Checkpoints, CrossEntropy, Monitor, Stage, create_optimizer, fit

PROBED = 12
"""Batches that the speed is found out on, after as many to warm up."""

CYCLE = {"schedule": "linear", "warmup": 0.2, "label_smoothing": 0.1}
WEIGHTS = {"xavier_gain": 1.41, "linear_std": None}
CHANGES = {
    "model.options": {"dropout_conv": 0.0, "dropout_linear": 0.2, **WEIGHTS},
    "ann": {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 5e-5, **CYCLE},
    "snn.0": {
        **{"optimizer": "adam", "learning_rate": 3e-4, "weight_decay": 0.0, "dropout": None},
        **CYCLE,
    },
    "spike.calibrate": {"images": 128, "timesteps": 20},
    "evaluate": {"batch_size": 500},
}
SHARES = {"ann": 0.36, "snn": 0.38}
"""Of the section's time; the rest is for validations, the calibration and the evaluation."""


def cases(options: Options) -> Sequence[Case]:
    """What one run does, phase by phase; each takes up the folder that the last one left."""
    training = Training(options)
    phases = (
        *(("data", training.collect), ("batches", training.loader), ("speed", training.plan)),
        *(("ANN", training.train_ann), ("calibration", training.calibrate)),
        *(("SNN", training.train_snn), ("test set", training.evaluate)),
    )
    return [Case(name, phase, limit=math.inf) for name, phase in phases]  # but the section's


def epochs_within(left: float, seconds: dict[str, float], steps: int) -> dict[str, int]:
    """The epochs of so many steps that the shares of ``left`` seconds hold; one, if none.

    >>> epochs_within(100, {"ann": 0.1, "snn": 0.5}, steps=10)
    {'ann': 36, 'snn': 7}
    """
    return {
        name: max(1, int(share * left / (steps * seconds[name]))) for name, share in SHARES.items()
    }


@final
class Training:
    """One run in the folder ``options.work``, and the plan beside it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.work = Path(options.work)
        self.begun = time.monotonic()

    def collect(self) -> Found:
        """CIFAR-10 from its parts, or none."""
        if not self.options.data:
            return Found("stripes", "no --data: figures of the training mean nothing")
        collect([Path(folder) for folder in self.options.data], self.work / "data")
        data = self.run.data
        numbers = f"{len(data.train):,} + {len(data.val):,} held out, {len(data.test):,} test"
        return Found("CIFAR-10", numbers, len(data.test) == 10_000)

    def loader(self) -> Found:
        """How many images a second are drawn, augmented and normalised on the device."""
        batches = self._loader(self.run.data.train, train=True)
        seconds, images = [], 0
        for _ in range(2):
            begun, images = time.perf_counter(), 0
            for x, _labels in batches.epoch(0):
                images += len(x)
            x.sum().item()  # when all is done
            seconds.append(time.perf_counter() - begun)
        rate = images / seconds[-1]
        return Found(f"{rate:,.0f} images/s", "augmented", values={"images_per_second": rate})

    def plan(self) -> Found:
        """Seconds a step of ANN and SNN, from which follow the epochs."""
        seconds = {name: self._probe(name) for name in SHARES}
        steps = len(self._loader(self.run.data.train, train=True))
        left = self.options.train_seconds - (time.monotonic() - self.begun)
        epochs = epochs_within(left, seconds, steps)
        (self.work / "epochs.json").write_text(json.dumps(epochs))
        del self.run  # the next one goes by that plan
        figure = ", ".join(f"{name.upper()} {seconds[name] * 1e3:.0f} ms" for name in SHARES)
        images = {name: self.options.train_batch / seconds[name] for name in SHARES}
        detail = ", ".join(
            f"{name.upper()} {images[name]:,.0f} images/s, {epochs[name]} epochs" for name in SHARES
        )
        return Found(figure, detail, values={"seconds": seconds, "epochs": epochs})

    def train_ann(self) -> Found:
        """The ANN, from scratch."""
        self.run.begin()
        self.run.train_ann()
        return self._trained("ann")

    def calibrate(self) -> Found:
        """The SNN's thresholds, and what it answers before any training."""
        table = self.run.convert()
        snn = self.run.load("start")
        right = accuracy(snn, self._loader(self.run.data.val).epoch(0))[-1]
        scale = None if table is None else table.scale
        values = {"scale": scale, "val_accuracy": right}
        return Found(f"{right:.2%} held out", f"scale {scale}, untrained", values=values)

    def train_snn(self) -> Found:
        """The SNN, through time."""
        self.run.train_snn()
        return self._trained("snn")

    def evaluate(self) -> Found:
        """Both on the whole test set, in float32, and what they cost."""
        run = self.run
        snn, ann = run.load("snn"), run.load("ann")
        assert isinstance(snn, SpikingNetwork)
        images = run.data.test
        if self.options.train_images is not None:  # a rehearsal
            images = images.select(torch.arange(min(200, len(images))))
        test = list(self._loader(images).epoch(0))
        result = evaluate(snn, test, ann=ann, name=run.recipe.name, data=run.data.name)
        told = result.summary
        figure = f"ANN {told['ann_accuracy']:.2%}, SNN {told['snn_accuracy']:.2%}"
        detail = f"T = {snn.timesteps}, {told['spikes_per_neuron']} spikes a neuron, energy "
        detail += f"{told['energy_ratio']}× below the ANN's; {result.n:,} images"
        by_step = {"accuracy_by_step": list(result.accuracy)}
        recipe = run.recipe.model_dump(mode="json")
        return Found(figure, detail, values={**told, **by_step, "recipe": recipe})

    # -- parts ---------------------------------------------------------------------------------

    @cached_property
    def run(self) -> Run:
        """The run; its epochs are those of the plan, once there is one."""
        return Run(self._recipe(), self.work / "run", Monitor(Console(file=sys.stderr, width=100)))

    def _recipe(self) -> Recipe:
        """The recipe with what departs from it."""
        options = self.options
        plan = self.work / "epochs.json"
        epochs = json.loads(plan.read_text()) if plan.is_file() else {"ann": 1, "snn": 1}
        changes: dict[str, Any] = {
            "device": options.device,
            "model.options.width": options.width,
            "data.name": "cifar10" if options.data else "synthetic",
            "data.root": str(self.work / "data") if options.data else None,
            "ann.epochs": epochs["ann"],
            "snn.0.epochs": epochs["snn"],
            "ann.batch_size": options.train_batch,
            "snn.0.batch_size": options.train_batch,
            "checkpoint_minutes": 60,
        }
        for section, values in CHANGES.items():
            changes |= {f"{section}.{key}": value for key, value in values.items()}
        if options.train_images is not None:
            changes |= {"data.train_images": options.train_images, "data.validation": 200}
            changes |= {"spike.calibrate.images": 32, "spike.calibrate.timesteps": 5}
        written = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        return load_recipe("diet_cifar10_vgg16", written)

    def _loader(self, split: Any, train: bool = False) -> Loader:
        data, section = self.run.data, self.run.recipe
        return Loader(
            split,
            batch_size=self.options.train_batch if train else section.evaluate.batch_size,
            mean=data.mean,
            std=data.std,
            seed=0,
            train=train,
            augment=build_augment(section.data.augment, data) if train else None,
            memory_format=torch.channels_last,
            device=self.run.device,
        )

    def _probe(self, name: str) -> float:
        """Seconds a step, by leanspike's own loop, of a network that is then thrown away."""
        run = self.run
        section: TrainSection | None = run.recipe.ann if name == "ann" else run.recipe.snn[0]
        assert section is not None
        network: Any = build_network(run.recipe.model, run.data)
        if name == "snn":
            neuron, steps = build_neuron(run.recipe.spike.neuron), run.recipe.spike.timesteps
            example = torch.zeros(1, *run.data.shape)
            network = spike(network, example_input=example, timesteps=steps, neuron=neuron)
        network = network.to(run.device).to(memory_format=torch.channels_last)
        images = torch.arange(PROBED * self.options.train_batch) % len(run.data.train)
        few = run.data.train.select(images)
        history: list[dict[str, Any]] = []
        stage = Stage(
            name=f"probe {name}",
            number=0,
            epochs=2,
            timesteps=None if name == "ann" else run.recipe.spike.timesteps,
            train=replace(self._loader(few, train=True), seed=1),
            val=None,
            objective=CrossEntropy(label_smoothing=section.label_smoothing),
            optimizer=create_optimizer(network, section.optimizer.name, learning_rate=1e-6),
            schedule=lambda _step: 1.0,
            seed=0,
            dtype=run.dtype,
        )
        fit(network, stage, history, Checkpoints(self.work / "probe.pt", 60), run.monitor)
        return float(history[-1]["seconds"]) / len(stage.train)

    def _trained(self, name: str) -> Found:
        """The rows of a stage's epochs."""
        rows = [row for row in self.run.history if row["stage"].startswith(name)]
        if not rows:
            return Found("trained before", "by a process that was ended")
        best = max(row["val_accuracy"] or 0.0 for row in rows)
        seconds, loss = sum(row["seconds"] for row in rows), rows[-1]["train_loss"]
        detail = f"{len(rows)} epochs, {seconds:.0f} s with validation, loss {loss:.3f}"
        return Found(f"{best:.2%} held out", detail, values={"epochs": rows})
