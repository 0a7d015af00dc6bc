"""A result as one self-contained HTML file, without network, scripts or other files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from leanspike.errors import LeanspikeError
from leanspike.evaluation.result import Result
from leanspike.evaluation.robustness_result import Robustness
from leanspike.files import write_text
from leanspike.optional import import_optional
from leanspike.report import (
    answer,
    cost,
    energy,
    exits,
    figures,
    frames,
    measured,
    mistakes,
    quantities,
    rivals,
    robustness,
    story,
    text,
)

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(result: Result, history: Sequence[dict[str, object]], out: str | Path) -> Path:
    """Write the report of a result to ``out``, and return its path.

    The page is self-contained: styles and figures are inline, and its security policy forbids
    scripts and requests. It can be mailed, printed and read offline. Equal input gives equal bytes.
    The page is written beside ``out`` and then renamed, so an interrupted run leaves the previous
    report whole. Missing folders are made.

    ``history`` is the run's log, which may be empty. An epoch is ``{"event": "epoch", "stage",
    "epoch", "train_loss", "train_accuracy", "val_accuracy", ...}``. Other events are skipped.

    Raises `LeanspikeError` if matplotlib or jinja2 is missing, an epoch lacks one of these fields,
    or ``out`` cannot be written. The package's docstring has an example.

    >>> write_report(Result.model_construct(), [{"event": "epoch"}], Path("report.html"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: entry 1 of the history: stage: field required; an epoch has
    stage, epoch, train_loss, train_accuracy and val_accuracy
    """
    return write_page(_page(result, history), Path(out))


SIGN = '<meta name="generator" content="leanspike'
"""A line in the head of a run's pages. Files without it must not be overwritten."""


def check_replaceable(out: Path, sign: str, what: str) -> None:
    """Check that ``out`` does not exist, or is a page with that sign in its head.

    Raises:
        LeanspikeError: if it is another file. ``what`` names the expected kind of file.

    >>> check_replaceable(Path("/dev/null/report.html"), SIGN, "a report")
    """
    if not out.is_file():
        return
    with out.open("rb") as file:
        head = file.read(2000).decode("utf-8", "replace")
    if sign not in head:
        raise LeanspikeError(
            f"{out} is not {what}; choose another --out, or give --fresh to replace it"
        )


def write_page(page: str, out: Path) -> Path:
    """Write a page to ``out``, whole or not at all, and return its path.

    >>> write_page("<!DOCTYPE html>", Path("/dev/null/report.html"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: cannot write /dev/null/report.html (...); make room or give...
    """
    write_text(out, page)
    return out


def _page(result: Result, history: Sequence[dict[str, object]]) -> str:
    """Return the whole page as text."""
    stages = story.read_epochs(history)
    environment = templates()
    example = result.example
    plots = {
        "accuracy": figures.accuracy_figure(result) if result.accuracy else "",
        "spikes": figures.spikes_figure(result.neurons),
        "neurons": figures.neurons_figure(result.neurons)
        if text.reading_names(result.neurons)
        else "",
        "energy": energy.energy_figure(
            result.operations, result.energy, quotable=not result.at_chance
        ),
        "training": story.training_figure(stages) if stages else "",
        "frames": frames.frames_figure(example.frames) if example and example.frames else "",
        "gamma": exits.gamma_figure(result.gammas) if result.gammas else "",
        "exit": exits.exit_figure(result) if result.early_exit else "",
        "leaving": [
            exits.leaving_figure(early)
            for early in result.early_exit
            if early.by != "gamma" and early.classes
        ],
        "example": story.example_figure(result, example) if example else "",
        "mistakes": mistakes.mistakes_figure(result),
    }
    recipe = result.provenance.model_dump(mode="json")["recipe"]
    return environment.get_template("report.html").render(
        result=result,
        quantities=quantities,
        text=text,
        answer=answer.answer(result),
        cost=cost,
        rivals=rivals,
        plots=plots,
        measured=measured,
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
    )


def write_robustness(found: Robustness, out: Path) -> Path:
    """Write the page of a measurement of robustness to ``out``, and return its path."""
    page = (
        templates()
        .get_template("robustness.html")
        .render(
            found=found,
            quantities=quantities,
            text=text,
            curves=robustness.robustness_figure(found),
            sheet=robustness.contact_sheet(found),
        )
    )
    return write_page(page, out)


def templates() -> Environment:
    """Return the environment of the pages' templates, which escapes all and allows no unknown name.

    >>> templates().from_string("{{ name }}").render(name="<b>")
    '&lt;b&gt;'
    """
    jinja2 = import_optional("jinja2", "report")
    environment: Environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leanspike", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capitalize_first"] = lambda words: words[:1].upper() + words[1:]
    return environment
