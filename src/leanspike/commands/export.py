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

PROVED = 64
"""The number of test images for the proof of an ONNX file, unless --batch gives another."""

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
    """The readers of NIR."""

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
            help="Replace a reset, leak or first membrane that the target lacks by one that it "
            "has, and measure what that costs.",
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
    sides run on the first test images. A table shows mismatching spikes by layer and step, and
    both accuracies. **--verify** needs the target's library (pip install 'leanspike[peers]') and
    works for norse, spikingjelly and snntorch. For the others **--approximate** computes the cost
    by the target's rules, in leanspike.

    Examples:

        leanspike export nir runs/digits --target norse --verify

        leanspike export nir runs/digits --target snntorch --approximate --out digits.nir
    """
    from leanspike.export import TARGETS
    from leanspike.export.readers import READERS
    from leanspike.optional import installed
    from leanspike.run import export_run, open_run, prove_run
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    path = out or run / f"snn-{target.value}.nir"
    options = {"target": target.value, "approximate": approximate}
    export_run(opened, path, "nir", options)
    answer: dict[str, Any] = {"file": str(path), "target": target.value}
    reads = target.value in READERS and installed(target.value) is not None
    if verify or approximate:
        by_rules = approximate and not reads and not verify
        answer |= _proof(prove_run(opened, path, target.value, limit, by_rules=by_rules))
    if not verify and not (approximate and reads):
        reading = f"not read back; read it with {TARGETS[target.value].reading}"
        people.print(reading, markup=False, soft_wrap=True)
    people.print(f"file: {path}", highlight=False, soft_wrap=True)
    print(json.dumps(answer))


def _proof(proof: Any) -> dict[str, Any]:
    """Show a proof, and return its fields for programs."""
    from leanspike.report.proof import render_proof

    people.print(render_proof(proof))
    return {
        "images": proof.samples,
        "mismatches": proof.mismatches,
        "accuracy": proof.ours,
        "target_accuracy": proof.theirs,
        "by_rules": proof.by_rules,
    }


@commands.command()
def onnx(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="The file.", metavar="FILE.onnx")],
    one_step: Annotated[
        bool, typer.Option("--one-step", help="One step, with its state as inputs and outputs.")
    ] = False,
    timesteps: Annotated[
        int | None,
        typer.Option(min=1, help="T of the whole sequence.", show_default="the network's"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Fix the number of samples.", show_default="any number"),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Check the file and run it beside the network in onnxruntime.")
    ] = True,
    trust: TrustOption = False,
) -> None:
    """Write a run's SNN as an ONNX file: all timesteps in one graph, or one step.

    The whole sequence takes normalised images **input** [N, C, H, W], or frames [T, N, C, H, W].
    It gives **logits** [T, N, K], the answer after every step.

    One step takes its input, its number **step** from 0, and the states of the neurons. It gives
    its **output** and the next states. Begin with zeros.

    The file's metadata hold classes and normalisation. The file is checked, and its spikes and
    answers on test images are compared with the network's.
    It needs: pip install 'leanspike[onnx]'

    Examples:

        leanspike export onnx runs/digits --out digits.onnx

        leanspike export onnx runs/digits --out step.onnx --one-step
    """
    from leanspike.execute import SpikingNetwork
    from leanspike.export import to_onnx
    from leanspike.report.onnx import render_onnx
    from leanspike.run import about_data, first_images, open_run
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    snn = opened.load("snn").cpu()
    assert isinstance(snn, SpikingNetwork)
    file = to_onnx(
        snn,
        out,
        one_step,
        timesteps=timesteps or opened.data.frames,
        batch=batch,
        mode=opened.recipe.evaluate.readout,
        about=about_data(opened),
        images=first_images(opened, batch or PROVED) if verify else None,
        verify=verify,
    )
    people.print(render_onnx(file), highlight=False, soft_wrap=True)
    print(json.dumps({"file": str(out), **file.summary}))
