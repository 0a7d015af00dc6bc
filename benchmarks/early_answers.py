"""Which objective answers early, and what does it cost at the last step?

    python benchmarks/early_answers.py FOLDER                        # what the docs lack: hours
    python benchmarks/early_answers.py FOLDER --settings digits,digits_bntt
    python benchmarks/early_answers.py FOLDER --table                # what was found so far

A setting is a recipe with changes, and its repetitions: seeds, or folds. Of each repetition the
ANN, where there is one, is trained once; from it every arm trains its own SNN with the same images.
An arm is an objective. Each run has a folder of its own, FOLDER/SETTING/REPETITION/ARM: whatever
kills this, the same command goes on where it stopped. At the end, and with --table, FOLDER/table.md
has for each arm the accuracy after each step, and that of an early exit with its mean steps: by the
margin, chosen on held-out data for a loss of at most 0.2 points there. Data sets are looked for
where LEANSPIKE_DATA says.

Arms: "cross_entropy" (the last answer), "tet" (each step's output), "half_tet" (half of either),
"self_distillation" (cross-entropy, and the least sure step learns from the surest), "surest_learns"
(the other way round), "feature" (cross-entropy, and a teacher's maps against the average over all
steps), "feature_each_step" (against the average so far, at every step), "feature_tet".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from leanspike import keep_freed_memory
from leanspike.config import Recipe
from leanspike.evaluation import EarlyExit, Result, load_result
from leanspike.recipes import load_recipe
from leanspike.report.quantities import mean_and_deviation
from leanspike.run import Run
from leanspike.train import Monitor

MAPS = "{feature: {weight: 10.0}}"
ARMS = {
    "cross_entropy": "[cross_entropy]",
    "tet": "[tet]",
    "half_tet": "[{cross_entropy: {weight: 0.5}}, {tet: {weight: 0.5}}]",
    "self_distillation": "[cross_entropy, self_distillation]",
    "surest_learns": "[cross_entropy, {self_distillation: {learner: surest}}]",
    "feature": f"[cross_entropy, {MAPS}]",
    "feature_each_step": "[cross_entropy, {feature: {weight: 10.0, each_step: true}}]",
    "feature_tet": f"[tet, {MAPS}]",
}
ALONE = ("cross_entropy", "tet", "half_tet", "self_distillation", "surest_learns")
TAUGHT = ("cross_entropy", "feature", "feature_each_step", "feature_tet")
SEEDS = tuple(f"seed={seed}" for seed in range(3))
FOLDS = tuple(f"data.cross_validation=[{fold}, 5]" for fold in range(1, 6))

# A quarter of the width of recipe cifar10's network.
NARROW = "model.options.layers=[8, 16, A, 64, A, 64, 64, A, 64]"
# The neurons of BNTT's paper, which begin empty: their first step is the weak one.
FRESH = (
    "spike.neuron={threshold: 1.0, leak: 0.95, learn: [], initial: zero, height: unit}",
    *("spike.norm=bntt", "spike.start=scratch", "spike.calibrate=null"),
)
HALF = "model.options.width=0.5"
DIRECT = ("spike.encode=direct", "spike.timesteps=5")


@dataclass(frozen=True)
class Setting:
    """A recipe, what is changed in it for all its runs, and what differs between repetitions."""

    recipe: str
    changes: tuple[str, ...] = ()
    repetitions: tuple[str, ...] = SEEDS
    arms: tuple[str, ...] = ALONE


SETTINGS = {
    # Norms kept, direct input, from a trained ANN.
    "digits": Setting("digits", (HALF,)),
    "mnist": Setting("mnist", ("data.train_images=6000",)),
    "cifar10": Setting("cifar10", ("spike.timesteps=4", NARROW, "data.train_images=20000")),
    # BNTT, direct input, from scratch, alone and taught by an ANN's maps.
    "digits_bntt": Setting("digits", ("ann=null", HALF, *FRESH)),
    "mnist_bntt": Setting("bntt_mnist", (*DIRECT, "data.train_images=6000")),
    "digits_taught": Setting("digits", (HALF, *FRESH), arms=TAUGHT),
    "cifar10_bntt": Setting(
        "kdsnn_cifar10",
        (
            *FRESH,
            *("teacher.model.name=cifar_resnet20", "teacher.model.weights={teacher}"),
            *(NARROW, "data.train_images=10000", "data.validation=2000"),
        ),
        arms=(*ALONE, *TAUGHT[1:]),
    ),
    # Events. Of the recordings of four folds 110 are held out, to choose the exit on.
    "nmnist": Setting(
        "bntt_nmnist", ("data.validation=110", "snn.0.select=last", "snn.0.epochs=15"), FOLDS
    ),
}
WHOLE = "cifar10,cifar10_bntt,nmnist"


def main(
    folder: Path,
    settings: str = WHOLE,
    arms: Annotated[str, typer.Option(help="Of each setting's.", show_default="all")] = "",
    teacher: Annotated[Path, typer.Option(help="Weights for cifar10_bntt.")] = Path("resnet20.th"),
    threads: int = 2,
    table: Annotated[bool, typer.Option("--table", help="Only what the folder holds.")] = False,
) -> None:
    """Train what the folder lacks, then write what it holds."""
    names, only = settings.split(","), arms.split(",") if arms else list(ARMS)
    for given, known in ((names, SETTINGS), (only, ARMS)):
        if unknown := set(given) - set(known):
            raise typer.BadParameter(f"{', '.join(unknown)}; choose of {', '.join(known)}")
    chosen = {name: SETTINGS[name] for name in names}
    if not table:
        keep_freed_memory()
        torch.set_num_threads(threads)
        console = Console()
        for name, repetition, arm in runs(chosen, only):
            where = place(folder, name, repetition)
            if not (where / arm / "result.json").exists():
                console.rule(f"{name}, {repetition}, {arm}")
                train(chosen[name], repetition, arm, where, teacher, Monitor(console))
                write(folder)
    write(folder)


def runs(chosen: dict[str, Setting], arms: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Setting, repetition and arm of each; the first repetition of every setting comes first."""
    for number in range(max(len(setting.repetitions) for setting in chosen.values())):
        for name, setting in chosen.items():
            for repetition in setting.repetitions[number : number + 1]:
                yield from ((name, repetition, arm) for arm in setting.arms if arm in arms)


def place(folder: Path, name: str, repetition: str) -> Path:
    """The folder of a repetition, as ``digits/seed=0`` or ``nmnist/fold=1``."""
    fold = repetition.removeprefix("data.cross_validation=[")
    return folder / name / (repetition if fold == repetition else f"fold={fold[0]}")


def train(
    setting: Setting, repetition: str, arm: str, where: Path, teacher: Path, monitor: Monitor
) -> None:
    """One SNN, and its ANN if that is not there yet."""
    recipe, ann = recipe_of(setting, repetition, arm, teacher), where / "whole" / "ann"
    if recipe.ann is not None:
        if not ann.exists():
            first = recipe_of(setting, repetition, setting.arms[0], teacher)  # whatever the arm
            whole = Run(first, where / "whole", monitor)
            whole.begin()
            whole.train_ann()
        recipe = recipe_of(setting, repetition, arm, teacher, ann)
    Run(recipe, where / arm, monitor).train()


def recipe_of(
    setting: Setting, repetition: str, arm: str, teacher: Path, ann: Path | None = None
) -> Recipe:
    """The recipe of a run; with the weights of an ANN it trains none."""
    changes = [change.replace("{teacher}", str(teacher)) for change in setting.changes]
    for number in range(len(load_recipe(setting.recipe).snn)):
        stage = f"snn.{number}"
        changes += [f"{stage}.objective={ARMS[arm]}", f"{stage}.readout=mean"]
    changes += [repetition, "evaluate.readout=mean", "evaluate.early_exit=[margin]"]
    if ann is not None:
        changes += ["ann=null", f"model.weights={ann}"]
    return load_recipe(setting.recipe, changes)


# What came out.


def write(folder: Path) -> None:
    """FOLDER/table.md, a table for each setting that has results."""
    parts = []
    for name, setting in SETTINGS.items():
        found = {arm: results(folder, name, setting, arm) for arm in setting.arms}
        if any(found.values()):
            parts.append(f"## {name}\n\n{table_of(found)}")
    text = "\n\n".join(parts)
    if text:
        (folder / "table.md").write_text(text + "\n")
    print(text or f"{folder} holds no results yet")


def results(folder: Path, name: str, setting: Setting, arm: str) -> list[Result]:
    """Those that an arm has."""
    files = [place(folder, name, each) / arm / "result.json" for each in setting.repetitions]
    return [load_result(file) for file in files if file.exists()]


def table_of(found: dict[str, list[Result]]) -> str:
    """A row for each arm: mean ± standard deviation over its repetitions."""
    steps = max(r.timesteps for each in found.values() for r in each)
    columns: dict[str, Callable[[Result], float]] = {
        **{f"step {t + 1}": lambda r, t=t: 100 * r.accuracy[t] for t in range(steps)},
        "early": lambda r: 100 * margin(r).accuracy,
        "mean steps": lambda r: margin(r).mean_steps,
        "spikes per neuron": lambda r: r.energy.spikes_per_neuron,
    }
    lines = [("arm", "n", *columns), ("---",) * (len(columns) + 2)]
    for arm, each in found.items():
        if each:
            cells = (
                mean_and_deviation([value(r) for r in each], ".2f") for value in columns.values()
            )
            lines.append((arm, str(len(each)), *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def margin(result: Result) -> EarlyExit:
    """What leaving by the margin came to."""
    (found,) = (exit_ for exit_ in result.early_exit if exit_.by == "margin")
    return found


if __name__ == "__main__":
    typer.run(main)
