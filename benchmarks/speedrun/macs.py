"""How many multiply-accumulates would the training of a recipe take?

    python -m benchmarks.speedrun.macs RECIPE [KEY=VALUE ...]

It trains nothing: a step of each stage is counted on a few images, with random weights. The data
set must be there. A run itself says the same in its result, and beside it what its calibration
takes, which is left out here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from torch import nn

from leanspike.config import Recipe
from leanspike.evaluation import Macs
from leanspike.recipes import load_recipe
from leanspike.run import Run
from leanspike.run.steps.train_ann import TrainANN
from leanspike.run.steps.train_snn import TrainSNN
from leanspike.run.steps.training import Training
from leanspike.temporal import dropout_rate
from leanspike.train import Monitor, Teacher, macs_of
from leanspike.train.counted import Counted
from leanspike.train.stage import Position, Stage


def macs_of_recipe(recipe: Recipe) -> dict[str, Macs]:
    """What each stage of a recipe computes, by the name of its phase.

    Raises:
        ValueError: if a stage cannot be counted.
    """
    with TemporaryDirectory() as folder:
        run = Run(recipe, Path(folder), Monitor(Console(stderr=True)))
        found = {}
        for training, network, teacher in _trainings(run):
            stage = training.stage(network, lambda teacher=teacher: teacher)  # type: ignore[misc]
            with dropout_rate(network, training.section.dropout):
                counted = _counted(network, stage)
            if counted is None:
                raise ValueError(f"stage {stage.name} cannot be counted")
            found[f"train {stage.name}"] = counted
    return found


def _trainings(run: Run) -> Iterator[tuple[Training, nn.Module, Teacher]]:
    """The stages, each with the network that it trains and the teacher that it may ask."""
    assembly = run.assembly
    teacher = assembly.teacher()
    ann = assembly.placed(assembly.untrained())
    for step in run.steps:
        if isinstance(step, TrainANN) and step.training is not None:
            yield step.training, ann, teacher or Teacher(ann, assembly.dtype)
        if isinstance(step, TrainSNN):
            snn = assembly.placed(assembly.spiking(assembly.untrained()))
            for training in step.stages:
                yield training, snn, teacher or Teacher(ann, assembly.dtype)


def _counted(network: nn.Module, stage: Stage) -> Macs | None:
    """What all epochs of a stage compute."""
    counted = Counted(network, stage, Console(stderr=True))
    x, labels = next(iter(stage.train.epoch(0)))
    rows = []
    for epoch in range(stage.epochs):
        seen = stage.seen(x, epoch)
        position = Position()
        for step in range(len(stage.train)):
            samples = stage.train.samples(step)
            counted.step(position, seen, labels, samples)
            position.seen += samples
        held_out = 0 if stage.val is None else len(stage.val.split)
        list(counted.watched(iter([(x, labels)])))
        rows.append({"stage": stage.name, "macs": counted.epoch(position, held_out)})
    return macs_of(rows, stage.name)


def main(arguments: Sequence[str]) -> None:
    recipe, *changes = arguments
    found = macs_of_recipe(load_recipe(recipe, changes))
    for phase, macs in {**found, "all": Macs.sum(found.values())}.items():
        parts = ", ".join(f"{name} {value:.3e}" for name, value in macs.model_dump().items())
        print(f"{phase}: {macs.total:.3e} ({parts})")


if __name__ == "__main__":
    main(sys.argv[1:])
