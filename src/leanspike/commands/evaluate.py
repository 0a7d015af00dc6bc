"""The command ``leanspike evaluate``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from leanspike.console import RunArgument, TrustOption, people, show_answer, trusted
from leanspike.errors import LeanspikeError


class ExitBy(StrEnum):
    """The rules of early exit, or none."""

    gamma = "gamma"
    margin = "margin"
    entropy = "entropy"
    none = "none"


def evaluate(
    run: RunArgument,
    early_exit: Annotated[
        list[ExitBy] | None,
        typer.Option(
            help="Measure early exit by this rule, or by none; may be given several times.",
            show_default="the recipe's",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Percentage points of accuracy that early exit may lose on held-out images.",
            show_default="the recipe's, 0.2",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure this, too, as calibration_error; may be given several times.",
            show_default="the recipe's",
        ),
    ] = None,
    robustness: Annotated[bool, typer.Option("--robustness", hidden=True)] = False,
    beside: Annotated[list[Path] | None, typer.Option(hidden=True)] = None,
    limit: Annotated[int | None, typer.Option(hidden=True)] = None,
    common: Annotated[bool, typer.Option("--common", hidden=True)] = False,
    trust: TrustOption = False,
) -> None:
    """Evaluate a run's SNN on the whole test set: accuracy by step, spikes, energy, times.

    The command writes result.json and report.html anew. SNN and ANN take turns on this machine
    to show how long they take, for one image and for 64 at once. Leave it alone for these seconds.

    With early exit an image leaves as soon as its answer is good enough. **margin** and
    **entropy** ask how sure the answer is. The others leave when more steps help no more.
    **gamma** lets all images leave at the step from which the network's BNTT scales stay small.
    Each rule's threshold is chosen on held-out training images. Accuracy, mean timesteps, energy
    and time are measured on the test set.

    **--metric calibration_error** asks whether the network is as sure as it is right, after each
    step, with a figure on the page. Corrupted images are `leanspike robustness`.

    Examples:

        leanspike evaluate runs/digits

        leanspike evaluate runs/digits --early-exit margin --max-drop 0.2

        leanspike evaluate runs/digits --metric calibration_error
    """
    from leanspike.run import REPORT, open_run
    from leanspike.train import Monitor

    if robustness or beside or limit or common:
        raise LeanspikeError(_as_robustness(run, beside or [], limit, common))
    rules = [rule.value for rule in early_exit or []]
    opened = open_run(run, Monitor(people), trusted(trust))
    found = opened.evaluate("leanspike evaluate", rules, max_drop, metric or [])
    show_answer(found, run / REPORT)


def _as_robustness(run: Path, beside: Sequence[Path], limit: int | None, common: bool) -> str:
    """Return the message that robustness is a command of its own, with that command."""
    words = ["leanspike", "robustness", str(run)]
    words += [word for other in beside for word in ("--beside", str(other))]
    words += [] if limit is None else ["--limit", str(limit)]
    words += ["--common"] if common else []
    return f"robustness is a command of its own: {shlex.join(words)}"
