"""The command ``leanspike train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanspike.commands.start import (
    AnnOption,
    OutOption,
    Overrides,
    UntrainedOption,
    run_of,
    start_from,
)
from leanspike.console import TrustOption, people, show_answer, trusted


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file of your own.")],
    overrides: Overrides = None,
    out: OutOption = None,
    ann: AnnOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the run in that folder instead of resuming it.")
    ] = False,
    untrained: UntrainedOption = False,
    trust: TrustOption = False,
) -> None:
    """Train an ANN, make it spike, train the SNN, evaluate it, write the report.

    The same command resumes a run that was stopped or killed. The run ends with the same weights.

    A network of your own is **model.name=package.module:Class**. Its constructor gets
    model.options and nothing else. Importing it runs its code, so it needs **--trust**. Convert
    and evaluate need **--trust** for such a run, too.

    Images of your own are **data.name=image_folder data.root=ROOT**. They lie in ROOT/train/CLASS
    and ROOT/test/CLASS, or in ROOT/CLASS.

    Examples:

        leanspike train digits

        leanspike train cifar10 data.root=~/data seed=1 --out runs/first

        leanspike train digits --ann runs/digits/ann 'spike.neuron.learn=[]' --out runs/weights-only

        leanspike train digits --ann runs/digits spike.timesteps=3 --out runs/three-steps

        leanspike train digits model.name=mynet:Net 'model.options={width: 16}' --trust

        leanspike train digits data.name=image_folder data.root=~/photos --out runs/photos
    """
    from leanspike.evaluation import load_result
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, RESULT, Run, check_free, check_trained
    from leanspike.train import Monitor

    ann_of, ann = run_of(ann)
    settings = load_recipe(recipe, start_from(ann, recipe, overrides or []))
    if not untrained:
        check_trained(settings, "train")
    folder = out or Path("runs") / settings.name
    if not fresh:
        check_free(folder, settings)
        if (folder / RESULT).is_file():
            people.print(f"{folder} is complete; --fresh trains it anew")
            show_answer(load_result(folder / RESULT), folder / REPORT)
            return
    monitor = Monitor(people, folder)
    try:
        run = Run(settings, folder, monitor, trusted(trust), ann_of)
        result = run.train(fresh, "leanspike train")
    finally:
        monitor.close()
    show_answer(result, folder / REPORT)
