"""The command ``leanspike convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from leanspike.commands.start import (
    AnnOption,
    OutOption,
    Overrides,
    UntrainedOption,
    run_of,
    start_from,
)
from leanspike.console import TrustOption, people, show_answer, trusted


def convert(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file of your own.")],
    overrides: Overrides = None,
    out: OutOption = None,
    ann: AnnOption = None,
    untrained: UntrainedOption = False,
    trust: TrustOption = False,
) -> None:
    """Convert a recipe's ANN into an SNN with calibrated thresholds, without training it.

    The command shows what the calibration found in each layer. Then it evaluates the SNN.

    Examples:

        leanspike convert digits --ann runs/digits/ann

        leanspike convert published_resnet20 model.weights=resnet20.th data.root=~/data

        leanspike convert digits --ann mine model.name=mynet:Net --trust
    """
    from leanspike.distributed import joined
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, Run, check_trained
    from leanspike.train import Monitor

    ann_of, ann = run_of(ann)
    settings = load_recipe(recipe, [*start_from(ann, recipe, overrides or []), "snn=[]"])
    if not untrained:
        check_trained(settings, "convert")
    folder = out or Path("runs") / f"{settings.name}-converted"
    monitor = Monitor(people, folder if joined().first else None)
    try:
        run = Run(settings, folder, monitor, trusted(trust), ann_of)
        run.begin()
        run.train_ann()
        table = run.convert()
        if table is not None:
            people.print(_calibration_table(table))
        run.train_snn()
        result = run.evaluate("leanspike convert")
    finally:
        monitor.close()
    show_answer(result, folder / REPORT)


def _calibration_table(calibration: Any) -> Table:
    table = Table(title=f"thresholds (scale {calibration.scale:g})", title_justify="left", box=None)
    for column in ("neurons at", "number", "percentile", "before", "threshold"):
        table.add_column(column, justify="left" if column == "neurons at" else "right")
    for row in calibration.layers:
        table.add_row(
            row.path,
            f"{row.neurons:,}",
            f"{row.percentile_value:.4g}",
            f"{row.threshold_before:.4g}",
            f"{row.threshold:.4g}",
        )
    return table
