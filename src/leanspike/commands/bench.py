"""The command ``leanspike bench``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from leanspike.console import people, progress_bar
from leanspike.errors import LeanspikeError


def bench(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for race.json, race.md and race.svg.")
    ] = Path("runs/bench"),
    rounds: Annotated[
        int, typer.Option(help="Rounds that are timed, after three that are not.")
    ] = 7,
    contenders: Annotated[
        str | None,
        typer.Option(help="Who takes part, separated by commas.", show_default="all installed"),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="What is raced, separated by commas.")
    ] = "race,curve,profile",
    width: Annotated[float, typer.Option(help="Width of the network; 1 is VGG9's.")] = 1.0,
    run: Annotated[
        Path | None, typer.Option("--run", help="A run whose networks part engine races.")
    ] = None,
    batches: Annotated[
        str, typer.Option(help="Batches of part engine, separated by commas.")
    ] = "1,64,256",
    limit: Annotated[
        int, typer.Option(help="Test images that part engine measures accuracy and energy on.")
    ] = 1000,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the race in that folder.")
    ] = False,
) -> None:
    """Race leanspike against the ANN, other SNN libraries and a plain time loop, on this CPU.

    All have one network (VGG9), the same weights and the same neuron. The race measures training
    and inference at T = 5 in float32 and bfloat16, time and memory over T = 1 to 32, and where the
    time goes. Each contender has a process of its own, and they take turns. Leave the machine
    alone meanwhile, a quarter of an hour on 2 cores. The others come with:
    pip install 'leanspike[peers]'

    Part engine is about a run of yours. It races the run's ANN in float32 and int8, its SNN, and
    the engine that `leanspike compile` makes of the SNN. Each answers 1, 64 and 256 test images.
    What is found is written after each batch. The int8 rivals come with:
    pip install 'leanspike[rivals]'

    Examples:

        leanspike bench

        leanspike bench --parts engine --run runs/cifar10_t5 --out runs/engine --limit 10000

        leanspike bench --parts race --contenders ann,leanspike,loop --rounds 3 --out runs/short
    """
    from leanspike.bench import CONTENDERS, RIVALS, Plan, figure, markdown, render_race
    from leanspike.files import write_text

    if (out / "race.json").exists() and not fresh:
        raise LeanspikeError(f"{out} holds a race; give --fresh to replace it, or another --out")
    names = contenders.split(",") if contenders else list(CONTENDERS)
    plan = Plan(tuple(names), rounds, tuple(parts.split(",")), width, run, _numbers(batches), limit)
    versions = {name: row.version for rows in (CONTENDERS, RIVALS) for name, row in rows.items()}
    missing = [name for name in plan.contenders if versions[name] is None]
    if missing:
        people.print(f"not installed: {', '.join(missing)}; pip install 'leanspike[peers]'")
        plan = replace(plan, contenders=tuple(n for n in plan.contenders if n not in missing))
    with progress_bar() as progress:
        task = progress.add_task("", total=len(plan))
        race = plan.run(
            plan.command,
            lambda what: progress.update(task, advance=1, description=what),
            lambda found: write_text(out / "race.json", found.model_dump_json(indent=1)),
        )
    write_text(out / "race.svg", figure(race))
    write_text(out / "race.md", markdown(race))
    people.print(render_race(race))
    people.print(f"page: {out / 'race.md'}", highlight=False, soft_wrap=True)
    print(json.dumps({"page": str(out / "race.md"), "figure": str(out / "race.svg")}))


def _numbers(text: str) -> tuple[int, ...]:
    """Return whole numbers that are separated by commas."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise LeanspikeError(
            f"batches is {text!r}; give whole numbers, separated by commas, as 1,64,256"
        ) from None
