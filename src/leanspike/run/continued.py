"""Going on with the SNN of another run: this recipe has its stages, and more behind them.

The first stage that the other run lacks begins as it would after the others in one run, so both
ways end with the same bits. Time, log and counts of the others are taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from leanspike.config import Recipe
from leanspike.errors import LeanspikeError
from leanspike.run.assembly import Assembly
from leanspike.run.clock import (
    read_backends,
    read_macs,
    read_seconds,
    write_backends,
    write_macs,
    write_seconds,
)
from leanspike.run.takeover import check_content
from leanspike.run.workspace import LOG, Workspace, first_difference, read_recipe
from leanspike.train import read_log, write_log

FREE = {"name", "description", "device", "checkpoint_minutes", "evaluate", "snn"}
"""The keys of a recipe that change nothing in stages that are over."""


def check_same_stages(assembly: Assembly, source: Path) -> None:
    """Check that this recipe would train the SNN of the run in ``source``, and go on.

    Raises:
        LeanspikeError: with the first difference, or with what is missing there.
    """
    theirs, way_out = read_recipe(source), "leave --snn out to train it from the start"
    different = first_difference(_before(theirs), _before(assembly.recipe))
    if different is not None:
        raise LeanspikeError(f"{source} has not the SNN of this recipe: {different}; {way_out}")
    there, here = (
        [stage.model_dump(mode="json") for stage in recipe.snn]
        for recipe in (theirs, assembly.recipe)
    )
    one_more = f"snn.{len(there)}={{epochs: 2, weights: int6}}"
    different = first_difference({"snn": there}, {"snn": here[: len(there)]})
    if different is not None:
        raise LeanspikeError(
            f"{source} has trained another stage: {different}; give its stages first, and those to "
            f"go on with behind them, as in {one_more}"
        )
    if len(here) == len(there):
        raise LeanspikeError(
            f"{source} has trained all stages of this recipe; add one, as in {one_more}"
        )
    check_content(assembly, source, "snn", way_out)
    assembly.read(source / "snn")  # its weights have their digest


def take_over_stages(
    workspace: Workspace, assembly: Assembly, source: Path, snn: nn.Module, names: Sequence[str]
) -> int:
    """Give ``snn`` the weights of the run in ``source``; return the number of its stages.

    Args:
        names: those of all stages of this recipe. The records of the stages that are over are
            added to this run's.
    """
    done = len(read_recipe(source).snn)
    snn.load_state_dict(assembly.read(source / "snn").state_dict())
    rows = [row for row in read_log(source / LOG) if row.get("stage") in names[:done]]
    workspace.rewind(names[0])  # an attempt may have been killed in between
    if workspace.group.first:
        for read, write in (
            (read_seconds, write_seconds),
            (read_backends, write_backends),
            (read_macs, write_macs),
        ):
            _add(source, workspace.folder, names[:done], read, write)
        workspace.history += rows
        write_log(workspace.folder / LOG, workspace.history)
    return done


def _add(source: Path, folder: Path, names: Sequence[str], read: Any, write: Any) -> None:
    found, phases = read(source), [f"train {name}" for name in names]
    write(folder, {**read(folder), **{name: found[name] for name in phases if name in found}})


def _before(recipe: Recipe) -> dict[str, Any]:
    """Return the parts of a recipe that determine its SNN, but for the stages."""
    sections = recipe.model_dump(mode="json", exclude=FREE)
    sections["data"].pop("root")
    return sections
