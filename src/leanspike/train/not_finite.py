"""Which sample or setting is to blame for a loss or a gradient that is not finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, final

import torch
from torch import Tensor

from leanspike.errors import DataError, LeanspikeError
from leanspike.train.stage import Position, Stage


@final
@dataclass(frozen=True, eq=False)
class Part:
    """What this process has of a batch: inputs, targets, and their places in the whole batch."""

    x: Tensor
    labels: Tensor
    rows: Tensor


def refuse(stage: Stage, position: Position, numbers: tuple[float, float], part: Part) -> NoReturn:
    """End the training; all processes raise the same words.

    Args:
        stage: the stage of the training.
        position: the step.
        numbers: the loss, and the norm of the gradient.
        part: this process's part of the step's batch.

    Raises:
        DataError: with the name of a sample whose input or target holds NaN or infinity.
        LeanspikeError: where all inputs and targets are finite.
    """
    where = f"stage {stage.name}, epoch {position.epoch + 1}, step {position.step + 1}"
    found = [each for each in stage.group.gathered(_wrong(stage, part)) if each is not None]
    if found:
        what, place = found[0]
        name = stage.train.name_of(stage.epoch_key(position.epoch), position.step, place)
        raise DataError(
            f"{where}: {what} {name} holds NaN or infinity; mend or remove it (no weight has "
            "changed by it)"
        )
    value, size = numbers
    raise LeanspikeError(
        f"{where}: the loss is {value:.4g} and the gradient's norm {size:.4g}; lower the learning "
        "rate, set max_gradient_norm, or try precision=float32 (the last checkpoint is from before)"
    )


def _wrong(stage: Stage, part: Part) -> tuple[str, int] | None:
    """Return the first sample, or the first target, that is not finite.

    It is named by what it is and by its place in the batch.
    """
    axis = 1 if stage.train.split.frames is not None else 0  # sequences are [T, B, ...]
    each = {"sample": part.x.movedim(axis, 0), "the target of sample": part.labels}
    for what, values in each.items():
        wrong = (~torch.isfinite(values)).reshape(len(values), -1).any(1)
        if wrong.any():
            return what, int(part.rows[int(wrong.int().argmax())])
    return None
