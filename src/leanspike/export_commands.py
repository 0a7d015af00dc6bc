"""``leanspike export ...``: a command for each kind of file.

Everything for people goes to stderr; the last line of stdout is JSON.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from leanspike.console import RunArgument, TrustOption, people, trusted

commands = typer.Typer(
    name="export",
    help="Write a run's SNN into a file that others read.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@commands.callback()
def about() -> None:
    """Write a run's SNN into a file that others read."""


class NIRTarget(StrEnum):
    """Who reads NIR."""

    norse = "norse"
    spikingjelly = "spikingjelly"
    snntorch = "snntorch"
    sinabs = "sinabs"
    speck = "speck"
    spinnaker2 = "spinnaker2"
    lava = "lava"
    xylo = "xylo"


FileOption = Annotated[
    Path | None, typer.Option("--out", help="The file.", show_default="RUN/snn-TARGET.nir")
]


@commands.command()
def nir(
    run: RunArgument,
    target: Annotated[NIRTarget, typer.Option(help="Who will read it.")] = NIRTarget.norse,
    out: FileOption = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Write what the target has instead of a reset, leak or first membrane that it "
            "has not, and measure what that costs.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read the file back with the target's own reader."),
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, help="Test images for --verify and --approximate.")
    ] = 256,
    trust: TrustOption = False,
) -> None:
    """Write NIR, the Neuromorphic Intermediate Representation, for one reader.

    What the target cannot hold is refused by its path, with a way out. With **--verify** both
    sides run on the first test images: mismatching spikes by layer and step, accuracies. That
    needs the target's library (pip install 'leanspike[peers]') and is there for norse,
    spikingjelly and snntorch.

    Examples:

        leanspike export nir runs/digits --target norse --verify

        leanspike export nir runs/digits --target snntorch --approximate --out digits.nir
    """
    from leanspike.export import TARGETS
    from leanspike.export.readers import READERS
    from leanspike.run import export_run, open_run, prove_run
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    path = out or run / f"snn-{target.value}.nir"
    options = {"target": target.value, "approximate": approximate}
    export_run(opened, path, "nir", options)
    answer: dict[str, Any] = {"file": str(path), "target": target.value}
    if verify or (approximate and target.value in READERS):
        answer |= _proof(prove_run(opened, path, target.value, limit))
    else:
        people.print(f"not read back; read it with {TARGETS[target.value].reading}", markup=False)
    people.print(f"file: {path}", highlight=False, soft_wrap=True)
    print(json.dumps(answer))


def _proof(proof: Any) -> dict[str, Any]:
    """Show a proof; what programs read of it."""
    from leanspike.report.proof import render_proof

    people.print(render_proof(proof))
    return {
        "images": proof.samples,
        "mismatches": proof.mismatches,
        "accuracy": proof.ours,
        "target_accuracy": proof.theirs,
    }
