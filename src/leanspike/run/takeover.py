"""Taking over the ANN of another run if this run would train the same one.

The files of the other run tell whether it is the same: its recipe, its record of the data, and the
digest of its weights. Its training time and the rows of its log are taken over, too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from leanspike.config import Recipe
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Macs
from leanspike.files import write_text
from leanspike.run.assembly import Assembly
from leanspike.run.build import model_spec
from leanspike.run.clock import (
    read_backends,
    read_macs,
    read_seconds,
    write_backends,
    write_macs,
    write_seconds,
)
from leanspike.run.seen import DATA, changes_since
from leanspike.run.workspace import CHECKPOINT, LOG, Workspace, first_difference, read_recipe
from leanspike.saved import SPEC, WEIGHTS, read_model, weights_digest
from leanspike.train import read_log, write_log

TAKEN_OVER = "taken_over.json"
SECTIONS = ("seed", "precision", "data", "model", "ann")
"""The parts of a recipe that determine the ANN."""


class TakenOver(BaseModel):
    """The record beside an ANN of another run: which run, and how the ANN was trained there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    weights_sha256: str
    seconds: float | None
    backend: str | None
    macs: Macs | None = None
    rows: tuple[dict[str, Any], ...]


def check_same_ann(assembly: Assembly, source: Path) -> None:
    """Check that the ANN of the run in ``source`` is the one that this recipe would train.

    Raises:
        LeanspikeError: with the first difference, or with what cannot be known.
    """
    way_out = f"give --ann {source / 'ann'} to begin with its weights as they are"
    theirs = read_recipe(source)
    if assembly.recipe.ann is None:
        raise LeanspikeError(f"ann is null, so there is no training to take over; {way_out}")
    different = first_difference(trained_by(theirs), trained_by(assembly.recipe))
    if different is not None:
        raise LeanspikeError(f"{source} has not the ANN of this recipe: {different}; {way_out}")
    unknown = _unknown(assembly.recipe)
    if unknown is not None:
        raise LeanspikeError(
            f"the training of the ANN depends on {unknown}, but {source} does not record that "
            f"file's content; {way_out}"
        )
    check_content(assembly, source, "ann", way_out)
    if read_model(source / "ann") != model_spec(assembly.recipe.model, assembly.data):
        raise LeanspikeError(
            f"{source / 'ann' / SPEC} describes another network than its recipe; {way_out}"
        )
    assembly.read(source / "ann")  # its weights have their digest, and fit


def check_content(assembly: Assembly, source: Path, name: str, way_out: str) -> None:
    """Check that a run holds its network ``name``, and the data that taught it are these.

    Raises:
        LeanspikeError: if it does not, with ``way_out``.
    """
    network, spec = name.upper(), source / name / SPEC
    if not spec.is_file():
        raise LeanspikeError(
            f"{source} holds no trained {network} yet; finish it with leanspike train, or leave "
            f"--{name} out"
        )
    if not (source / DATA).is_file():
        raise LeanspikeError(f"{source} does not record which data it read ({DATA}); {way_out}")
    changes = changes_since(source, assembly.data)
    if changes:
        raise LeanspikeError(f"the {network} of {source} has seen other data: {changes}; {way_out}")
    if weights_digest(spec.parent) is None:
        raise LeanspikeError(f"{spec} holds no digest of its weights; {way_out}")


def check_same_weights(folder: Path, source: Path) -> None:
    """Check that the run in ``folder`` holds the same ANN as ``source``."""
    if weights_digest(folder / "ann") != weights_digest(source / "ann"):
        raise LeanspikeError(
            f"{folder} holds another ANN than {source}; leave --ann out to resume with it, or "
            "choose another --out"
        )


def check_not_begun(folder: Path, source: Path) -> None:
    """Check that ``folder`` has no record of training an ANN of its own, which would remain."""
    epochs = any(row.get("stage") == "ann" for row in read_log(folder / LOG))
    if epochs or (folder / CHECKPOINT).is_file() or "train ann" in read_seconds(folder):
        raise LeanspikeError(
            f"{folder} has begun to train an ANN of its own; leave --ann out to resume it, or "
            f"give --fresh to take over that of {source}"
        )


def take_over(workspace: Workspace, assembly: Assembly, source: Path) -> None:
    """Make ``ann/`` a copy of that in ``source``, with its time and its rows of the log."""
    check_same_ann(assembly, source)
    digest = weights_digest(source / "ann")
    assert digest is not None
    rows = tuple(row for row in read_log(source / LOG) if row.get("stage") == "ann")
    taken = TakenOver(
        run=str(source),
        weights_sha256=digest,
        seconds=read_seconds(source).get("train ann"),
        backend=read_backends(source).get("train ann"),
        macs=read_macs(source).get("train ann"),
        rows=rows,
    )

    def write(part: Path) -> None:
        for name in (SPEC, WEIGHTS):
            shutil.copyfile(source / "ann" / name, part / name)
        write_text(part / TAKEN_OVER, taken.model_dump_json(indent=1))
        assembly.read(part)  # the copy, too

    workspace.put("ann", write)
    settle(workspace)


def settle(workspace: Workspace) -> None:
    """Add the records of an ANN that was taken over to the run's own records.

    They are written after the ANN, so this repairs an attempt that was killed in between.
    """
    taken = read_taken_over(workspace.folder)
    if taken is None or not workspace.group.first:
        return
    seconds, backends = read_seconds(workspace.folder), read_backends(workspace.folder)
    if taken.seconds is not None and "train ann" not in seconds:
        write_seconds(workspace.folder, {"train ann": taken.seconds, **seconds})
    if taken.backend is not None and "train ann" not in backends:
        write_backends(workspace.folder, {"train ann": taken.backend, **backends})
    macs = read_macs(workspace.folder)
    if taken.macs is not None and "train ann" not in macs:
        write_macs(workspace.folder, {"train ann": taken.macs, **macs})
    if taken.rows and not any(row.get("stage") == "ann" for row in workspace.history):
        workspace.history[:0] = taken.rows
        write_log(workspace.folder / LOG, workspace.history)


def read_taken_over(folder: Path) -> TakenOver | None:
    """Return the record of the ANN that a run took over, or None."""
    path = folder / "ann" / TAKEN_OVER
    if not path.is_file():
        return None
    try:
        return TakenOver.model_validate_json(path.read_text(errors="replace"))
    except ValidationError:
        raise LeanspikeError(
            f"{path} is damaged; remove it (the record of the ANN's run is lost)"
        ) from None


def trained_by(recipe: Recipe) -> dict[str, Any]:
    """Return the parts of a recipe that determine its ANN, without the folder of the data."""
    sections = recipe.model_dump(mode="json", include=set(SECTIONS))
    sections["data"].pop("root")
    return {name: sections[name] for name in SECTIONS}


def _unknown(recipe: Recipe) -> str | None:
    """Return a file, besides the data, that the training of the ANN reads, or None."""
    if recipe.model.weights is not None:
        return f"model.weights={recipe.model.weights}"
    if recipe.ann is not None and recipe.ann.objective.is_taught and recipe.teacher is not None:
        return f"teacher.model.weights={recipe.teacher.model.weights}"
    return None
