"""The command ``leanspike train``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
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
from leanspike.environment import started_by_torchrun
from leanspike.errors import LeanspikeError


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file of your own.")],
    overrides: Overrides = None,
    out: OutOption = None,
    ann: AnnOption = None,
    snn: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the trained SNN of a run, e.g. runs/digits: the recipe has the "
            "settings and stages of that run, and more stages behind them."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the run in that folder instead of resuming it.")
    ] = False,
    untrained: UntrainedOption = False,
    trust: TrustOption = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Train in so many processes on this machine."),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=0, help="With --processes: begin again so often if one is killed.")
    ] = 0,
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

        leanspike train digits 'snn.1={epochs: 2, weights: int6}' --snn runs/digits --out runs/whole

        leanspike train digits model.name=mynet:Net 'model.options={width: 16}' --trust

        leanspike train digits data.name=image_folder data.root=~/photos --out runs/photos

        leanspike train digits --processes 2 --restarts 3
    """
    if processes is not None or restarts:
        given = {"--fresh": fresh, "--untrained": untrained, "--trust": trust}
        paths = {"--out": out, "--ann": ann, "--snn": snn}
        same = ["train", recipe, *(overrides or []), *(flag for flag, on in given.items() if on)]
        same += [word for flag, path in paths.items() if path for word in (flag, str(path))]
        _train_together(same, processes or 1, restarts)
        return
    from leanspike.distributed import joined
    from leanspike.distributed.worker import attempt
    from leanspike.evaluation import load_result
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, RESULT, Run, check_free, check_trained
    from leanspike.train import Monitor

    ann_of, ann = run_of(ann)
    settings = load_recipe(recipe, start_from(ann, recipe, overrides or []))
    if not untrained:
        check_trained(settings, "train")
    folder = out or Path("runs") / settings.name
    group = joined()
    fresh = fresh and not attempt()  # what an earlier attempt has come to stays
    if not fresh:
        check_free(folder, settings)
        if (folder / RESULT).is_file():
            people.print(f"{folder} is complete; --fresh trains it anew")
            show_answer(load_result(folder / RESULT), folder / REPORT)
            return
    monitor = Monitor(people, folder if group.first else None)
    try:
        run = Run(settings, folder, monitor, trusted(trust), ann_of, snn)
        result = run.train(fresh, "leanspike train")
    finally:
        monitor.close()
    if group.first:
        show_answer(result, folder / REPORT)


def _train_together(command: Sequence[str], processes: int, restarts: int) -> None:
    """Run the same command in several processes, and end this one with their status."""
    from leanspike.distributed.launch import launch

    if started_by_torchrun():
        raise LeanspikeError(
            "this process was started by torchrun, which says how many there are; leave "
            "--processes and --restarts out (torchrun has --nproc-per-node and --max-restarts)"
        )
    say = partial(people.print, highlight=False, soft_wrap=True, markup=False)
    status = launch(command, processes, restarts, say)
    if status:
        sys.exit(status)
