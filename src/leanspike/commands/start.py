"""The beginning of a run for ``train`` and ``convert``: their common options, and --ann."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

AnnOption = Annotated[
    Path | None,
    typer.Option(
        help="Begin with a trained ANN saved by leanspike, e.g. runs/digits/ann; or take over that "
        "of a run with the same data, model and training, e.g. runs/digits."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/NAME")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as in seed=1 snn.0.epochs=2."),
]
UntrainedOption = Annotated[
    bool, typer.Option("--untrained", help="Measure a network in which nothing is trained.")
]


def run_of(ann: Path | None) -> tuple[Path | None, Path | None]:
    """Return the run whose ANN --ann takes over, or else the weights that it names."""
    is_run = ann is not None and (ann / "recipe.yaml").is_file()
    return (ann, None) if is_run else (None, ann)


def start_from(ann: Path | None, recipe: str, overrides: list[str]) -> list[str]:
    """Return the overrides of a recipe, with those that --ann adds: network and fixed weights."""
    if ann is None:
        return overrides
    named = any(override.startswith("model.name=") for override in overrides)
    says = (ann / "spec.json").is_file() and not named and not _names_it(recipe, overrides, ann)
    saved = ["model.name=null", "model.options={}"] if says else []
    return [*saved, *overrides, f"model.weights={json.dumps(str(ann))}", "ann=null"]


def _names_it(recipe: str, overrides: list[str], ann: Path) -> bool:
    """Whether the recipe itself names the user's own network that was saved there."""
    from leanspike.models.own import is_own
    from leanspike.recipes import load_recipe
    from leanspike.saved import read_model

    saved = read_model(ann)
    own = saved is None or is_own(saved.name)
    return own and is_own(load_recipe(recipe, overrides).model.name)
