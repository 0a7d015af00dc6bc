"""The command ``leanspike neurobench``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from leanspike.console import RunArgument, TrustOption, people, trusted


def neurobench(
    run: RunArgument,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The first test images alone.", show_default="all of them"),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Measure a run's SNN with NeuroBench, beside leanspike's own counts.

    NeuroBench's own metrics run on the test images: accuracy, activation sparsity, synaptic
    operations, membrane updates, footprint and connection sparsity. Where its figures and
    leanspike's differ, the table says why. It needs: pip install 'leanspike[neurobench]'

    Examples:

        leanspike neurobench runs/digits

        leanspike neurobench runs/digits --limit 1000
    """
    from leanspike.evaluation import neurobench as measure
    from leanspike.execute import SpikingNetwork
    from leanspike.report.neurobench import render_neurobench
    from leanspike.run import labelled_tests, open_run
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    snn = opened.load("snn")
    assert isinstance(snn, SpikingNetwork)
    found = measure(snn, labelled_tests(opened, limit))
    people.print(render_neurobench(found))
    print(json.dumps(found.summary))
