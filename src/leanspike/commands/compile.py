"""The command ``leanspike compile``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from leanspike.console import RunArgument, TrustOption, people, trusted


class Weights(StrEnum):
    """The kinds of weights in a compiled file."""

    f32 = "f32"
    int8 = "int8"
    int6 = "int6"


def compile_run(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file.", show_default="RUN/NAME.leanspike")
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="float32, or whole numbers of 8 or 6 bits.")
    ] = Weights.f32,
    timesteps: Annotated[
        int | None, typer.Option(help="Timesteps of an answer.", show_default="the run's")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each layer does for an image.")
    ] = False,
    trust: TrustOption = False,
) -> None:
    """Compile a run's SNN into one file that NumPy or a C program runs, without PyTorch.

    The file holds weights, thresholds and how pixels become input. Nothing in it is executed.
    Whole-number weights get a scale for each output channel. It is found on 128 training images,
    without their labels. The file's answers to 128 test images are compared with the SNN's.

    Examples:

        leanspike compile runs/digits

        leanspike compile runs/digits --weights int8 --out digits.leanspike --explain
    """
    from leanspike.report.engine import render_explanation
    from leanspike.run import open_run
    from leanspike.run.compiled import compile_run as compiled
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    found = compiled(opened, weights.value, timesteps)
    engine = found.engine
    file = engine.save(out or run / f"{opened.recipe.name}.leanspike")
    if explain:
        people.print(render_explanation(engine.explain(found.images)))
    size = file.stat().st_size
    people.print(
        f"{found.same} of {found.compared} test images are answered as by the SNN "
        f"({weights.value}, T = {engine.program.timesteps}; {engine.runs_in})\n"
        f"file: {file} ({size:,} bytes)",
        highlight=False,
        soft_wrap=True,
    )
    summary = {"same_answers": found.same, "of": found.compared, "weights": weights.value}
    print(json.dumps({"file": str(file), "bytes": size, **summary}))
