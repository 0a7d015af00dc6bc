"""The command ``leanspike robustness``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from leanspike.console import RunArgument, TrustOption, people, progress_bar, trusted

LIMIT = 1000
"""The default number of test images."""


def robustness(
    run: RunArgument,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Another run, on the same data; may be given several times."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Test images, drawn alike from all classes.")
    ] = LIMIT,
    common: Annotated[
        bool, typer.Option("--common", help="The nineteen corruptions of ImageNet-C, too.")
    ] = False,
    corruption: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this one of the ten; may be given several times.",
            show_default="all ten",
        ),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Measure a run's networks on corrupted and attacked test images.

    It writes robustness.json and robustness.html: ten corruptions at five severities, FGSM and
    PGD, for the teacher or ANN, the SNN, and the SNNs of other runs. CIFAR-10-C takes part if it
    lies beside the data set. **--common** adds the corruptions of ImageNet-C (pip install
    'leanspike[corruptions]'; colour images of 32 pixels or more). Each of the three has a mean
    corruption error of its own. A package of yours may offer more corruptions, by entry points.

    Examples:

        leanspike robustness runs/digits

        leanspike robustness runs/taught --beside runs/plain --limit 500

        leanspike robustness runs/digits --corruption gaussian --corruption blur

        leanspike robustness runs/first --common
    """
    from leanspike.report.robustness import render_robustness
    from leanspike.run import ROBUSTNESS_PAGE, compare_robustness, open_run
    from leanspike.train import Monitor

    monitor, trust = Monitor(people), trusted(trust)
    first, *others = (open_run(folder, monitor, trust) for folder in (run, *(beside or [])))
    with progress_bar() as progress:
        task = progress.add_task("robustness", total=None)
        found = compare_robustness(
            first,
            others,
            limit,
            lambda done, total: progress.update(task, completed=done, total=total),
            common,
            corruption or (),
        )
    people.print(render_robustness(found))
    page = run / ROBUSTNESS_PAGE
    people.print(f"\npage: {page}", highlight=False, soft_wrap=True)
    print(json.dumps({**found.summary, "page": str(page)}))
