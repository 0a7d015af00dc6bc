"""The training loop, for ANN and SNN alike.

A run that is killed at any moment and started again ends with the same bits as one that was not:
all randomness is a function of (seed, stage, epoch, step), and a checkpoint holds the rest.
"""

from __future__ import annotations

import logging
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from leanspike.data.loader import Loader, generator_for
from leanspike.errors import DataError, LeanspikeError, one_line
from leanspike.evaluation.answers import accuracy, outputs
from leanspike.evaluation.score import Labels
from leanspike.evaluation.task import UNKNOWN, Task, TaskName
from leanspike.execute import Gradient, SpikingNetwork, readout
from leanspike.execute.rate import check_gradient
from leanspike.synapse import stepping_around
from leanspike.train.checkpoint import Checkpoints
from leanspike.train.monitor import Monitor
from leanspike.train.objective import Objective
from leanspike.train.optim import Schedule, set_learning_rate


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one optimiser: what the loop needs besides the network.

    ``number`` counts the stages of a run; ``timesteps`` is None for an ANN. ``max_gradient_norm``
    bounds the norm over all that the optimiser trains, the objective's adapters too. ``gradient``:
    "bptt" or, of a spiking network, "rate", see :meth:`leanspike.SpikingNetwork.forward`. ``task``
    says what the labels are of, see :func:`leanspike.evaluation.accuracy`; default: what those of
    the first batch show. Of targets that are no labels no accuracy is measured: select the "last".
    """

    name: str
    number: int
    epochs: int
    timesteps: int | None
    train: Loader
    val: Loader | None
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    seed: int
    dtype: torch.dtype = torch.float32
    select: Literal["best", "last"] = "best"
    max_gradient_norm: float | None = None
    gradient: Gradient = "bptt"
    task: Task | TaskName | None = None


@dataclass
class Position:
    """Where a stage stands: the next step to take, the epoch's sums so far, the best epoch."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0
    seen: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_weights: dict[str, Any] = field(default_factory=dict)


def fit(
    network: nn.Module,
    stage: Stage,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
    monitor: Monitor,
) -> None:
    """Train ``network`` in place through one stage, from its checkpoint if there is one.

    ``history`` receives a row per epoch. After the last epoch the network has the best epoch's
    weights by validation accuracy ("best"), or the last's.

    Raises:
        LeanspikeError: when the loss or a gradient is no longer finite; the last checkpoint,
            which is from before, stays. For rate gradients of a network that has none.
    """
    check_gradient(stage.gradient)
    if stage.gradient != "bptt" and not isinstance(network, SpikingNetwork):
        raise LeanspikeError(
            f"stage {stage.name}: gradient is {stage.gradient!r}, and a {type(network).__name__} "
            'is no SpikingNetwork; give the network that spike made, or gradient="bptt"'
        )
    position = _resume(network, stage, history, checkpoints)
    monitor.begin(stage.name, stage.epochs, len(stage.train), position.epoch, position.step)
    with stepping_around(network, stage.objective):
        best = _epochs(network, stage, position, history, checkpoints, monitor)
    if stage.select == "best" and best:
        network.load_state_dict(best)
    monitor.end()


def _epochs(
    network: nn.Module,
    stage: Stage,
    position: Position,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
    monitor: Monitor,
) -> dict[str, Any]:
    """All that are left; returns the best one's weights."""
    told = Labels(stage.task)
    while position.epoch < stage.epochs:
        started = time.monotonic() - position.seconds
        batches = stage.train.epoch(_epoch_key(stage, position.epoch), position.step)
        for x, labels in batches:
            loss, correct = _train_step(network, stage, position, told, x, labels)
            position.step += 1
            position.loss += loss * len(labels)
            position.correct += correct
            position.seen += len(labels)
            position.seconds = time.monotonic() - started
            monitor.step(loss, stage.optimizer.param_groups[0]["lr"])
            if checkpoints.due():
                _save(network, stage, position, history, checkpoints)
        row = _finish_epoch(network, stage, position, told, started)
        history.append(row)
        monitor.epoch(row, history)
        position = Position(
            epoch=position.epoch + 1,
            best_accuracy=position.best_accuracy,
            best_weights=position.best_weights,
        )
        if checkpoints.due():
            _save(network, stage, position, history, checkpoints)
    return position.best_weights


def _train_step(
    network: nn.Module,
    stage: Stage,
    position: Position,
    told: Labels,
    x: torch.Tensor,
    labels: torch.Tensor,
) -> tuple[float, float]:
    network.train(True)
    key = (stage.number, position.epoch, position.step)
    torch.manual_seed(generator_for(stage.seed, *key).initial_seed())
    step = position.epoch * len(stage.train) + position.step
    set_learning_rate(stage.optimizer, stage.schedule(step))
    mixed = stage.dtype != torch.float32
    with stage.objective.watch(network), torch.autocast(x.device.type, stage.dtype, enabled=mixed):
        try:
            y_TNK = outputs(network, x, stage.timesteps, stage.gradient)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # what batch norms say
                raise
            raise LeanspikeError(f"stage {stage.name}: {one_line(error)}") from error
    loss = stage.objective(y_TNK, labels, x)
    stage.optimizer.zero_grad()
    loss.backward()
    bound = stage.max_gradient_norm or float("inf")
    norm = nn.utils.clip_grad_norm_(_trained(stage), bound)
    right = _right(stage, told, y_TNK, labels).to(loss.device)
    # Together: a GPU finishes all its work before it hands a number over.
    wide = torch.promote_types(loss.dtype, torch.float32)
    numbers = torch.stack([each.detach().to(wide) for each in (loss, norm, right)])
    value, size, correct = numbers.tolist()
    if not math.isfinite(value + size):
        _check_samples(stage, position, x, labels)
        raise LeanspikeError(
            f"stage {stage.name}, epoch {position.epoch + 1}, step {position.step + 1}: the loss "
            f"is {value:.4g} and the gradient's norm {size:.4g}; lower the learning rate, "
            "set max_gradient_norm, or try precision=float32 (the last checkpoint is from before)"
        )
    stage.optimizer.step()
    if isinstance(network, SpikingNetwork):
        network.keep_in_range()
    return value, correct


def _check_samples(stage: Stage, position: Position, x: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise DataError, by its name, for a sample or a target that holds what is no number."""
    axis = 1 if stage.train.split.frames is not None else 0  # of sequences [T, B, ...]
    for what, values in (("sample", x.movedim(axis, 0)), ("the target of sample", labels)):
        wrong = (~torch.isfinite(values)).reshape(len(values), -1).any(1)
        if wrong.any():
            place = int(wrong.int().argmax())
            name = stage.train.name_of(_epoch_key(stage, position.epoch), position.step, place)
            raise DataError(
                f"stage {stage.name}, epoch {position.epoch + 1}, step {position.step + 1}: {what} "
                f"{name} holds NaN or infinity; mend or remove it (no weight has changed by it)"
            )


def _right(stage: Stage, told: Labels, y_TN: Any, labels: torch.Tensor) -> torch.Tensor:
    """How many samples are answered correctly; of those with several answers, the share of each."""
    known = told.none
    task = told.task(y_TN, labels) if isinstance(y_TN, torch.Tensor) else None
    if task is not None:
        targets = task.targets(labels, y_TN)
        right = (task.answers(readout(y_TN.detach(), "sum")[-1:])[0] == targets).sum()
        if targets.dim() == 1:
            return right
        return right * len(labels) / (targets != UNKNOWN).sum().clamp(min=1)
    if stage.select == "best" and stage.val is not None and len(stage.val.split):
        raise LeanspikeError(
            f'stage {stage.name}: select is "best", by the accuracy on held-out data, and the '
            'targets are no labels; give select="last"'
        )
    if not known:
        logging.getLogger("leanspike").warning(
            f"stage {stage.name}: the targets are no labels, so no accuracy is measured"
        )
    return torch.zeros(())


def _finish_epoch(
    network: nn.Module, stage: Stage, position: Position, told: Labels, started: float
) -> dict[str, Any]:
    """Validate, remember the best weights, and tell the epoch as a row of the log."""
    val_accuracy = None
    if stage.val is not None and len(stage.val.split) and not told.none:
        val_accuracy = accuracy(
            network, stage.val.epoch(0), stage.timesteps, task=told.known, dtype=stage.dtype
        )[-1]
        if stage.select == "best" and val_accuracy > position.best_accuracy:
            position.best_accuracy = val_accuracy
            position.best_weights = deepcopy(network.state_dict())
    return {
        "event": "epoch",
        "stage": stage.name,
        "timesteps": stage.timesteps or 0,
        "epoch": position.epoch + 1,
        "epochs": stage.epochs,
        "train_loss": position.loss / max(1, position.seen),
        "train_accuracy": None if told.none else position.correct / max(1, position.seen),
        "val_accuracy": val_accuracy,
        "learning_rate": stage.optimizer.param_groups[0]["lr"],
        "seconds": round(time.monotonic() - started, 3),
    }


def _trained(stage: Stage) -> list[nn.Parameter]:
    """What the optimiser changes: of the network, and of an objective that learns."""
    return [p for group in stage.optimizer.param_groups for p in group["params"]]


def _epoch_key(stage: Stage, epoch: int) -> int:
    """Epochs of different stages see different orders and augmentations."""
    return 100_000 * stage.number + epoch


def _save(
    network: nn.Module,
    stage: Stage,
    position: Position,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
) -> None:
    """Save, unless the last step broke the weights: then the next one stops the run."""
    if not all(torch.isfinite(parameter).all() for parameter in _trained(stage)):
        return
    checkpoints.save(
        {
            "stage": stage.number,
            "position": asdict(position),
            "network": network.state_dict(),
            "objective": stage.objective.state_dict(),
            "optimizer": stage.optimizer.state_dict(),
            "history": history,
        }
    )


def _resume(
    network: nn.Module, stage: Stage, history: list[dict[str, Any]], checkpoints: Checkpoints
) -> Position:
    """Take up a checkpoint of this stage; begin at the beginning if there is none."""
    saved = checkpoints.load()
    if saved is None or saved["stage"] != stage.number or "position" not in saved:
        return Position()
    with checkpoints.fitting():
        network.load_state_dict(saved["network"])
        stage.objective.load_state_dict(saved.get("objective", {}))
        stage.optimizer.load_state_dict(saved["optimizer"])
        history[:] = saved["history"]
        return Position(**saved["position"])
