"""The training loop, for ANN and SNN alike.

A run that is killed at any moment and resumed ends with the same bits as one that was not. All
randomness is a function of (seed, stage, epoch, step), and a checkpoint holds the rest.
"""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import accuracy
from leanspike.execute import SpikingNetwork
from leanspike.execute.rate import check_gradient
from leanspike.synapse import convolving_faster, stepping_around
from leanspike.train.average import Trained
from leanspike.train.checkpoint import Checkpoints
from leanspike.train.counted import Counted
from leanspike.train.monitor import Monitor
from leanspike.train.objective import Objective
from leanspike.train.stage import Position, Stage
from leanspike.train.step import Stepper


def fit(
    network: nn.Module,
    stage: Stage,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
    monitor: Monitor,
) -> None:
    """Train ``network`` in place through one stage, from its checkpoint if there is one.

    ``history`` receives a row per epoch. At the end the network has the weights of the epoch with
    the best validation accuracy (``select`` is "best"), or the last epoch's. With
    ``stage.average`` these are averages, with ``stage.lookahead`` the slow weights.

    Raises:
        LeanspikeError: when the loss or a gradient is no longer finite; the last checkpoint, which
            is from before, stays. Also for rate gradients of a network that is no SpikingNetwork.
    """
    _check_gradient(network, stage)
    trained = Trained(network, stage)
    position = _resume(trained, stage, history, checkpoints)
    monitor.begin(stage.name, stage.epochs, len(stage.train), position.epoch, position.step)
    trains = network, trained.answers, stage.objective
    with stepping_around(*trains), convolving_faster(*trains):
        best = _epochs(trained, stage, position, history, checkpoints, monitor)
    trained.end(best if stage.select == "best" else {})
    monitor.end()


def _check_gradient(network: nn.Module, stage: Stage) -> None:
    """Raise for rate gradients where there is no time, or where its steps are compared."""
    check_gradient(stage.gradient)
    if stage.gradient == "bptt":
        return
    if not isinstance(network, SpikingNetwork):
        raise LeanspikeError(
            f"stage {stage.name}: gradient is {stage.gradient!r}, and a {type(network).__name__} "
            'is no SpikingNetwork; give the network that spike made, or gradient="bptt"'
        )
    for term in stage.objective.modules():
        if isinstance(term, Objective) and term.between_steps:
            raise LeanspikeError(
                f"stage {stage.name}: {type(term).__name__} draws steps to each other, and rate "
                'gradients move all of them alike; leave it out, or set gradient="bptt"'
            )


def _epochs(
    trained: Trained,
    stage: Stage,
    position: Position,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
    monitor: Monitor,
) -> dict[str, Any]:
    """Take all epochs that are left, and return the weights of the best one."""
    if position.epoch == stage.epochs:
        return position.best_weights
    stepper = Stepper(trained.network, stage)
    counted = Counted(trained.network, stage, monitor.console)
    _tell(stage, monitor)
    while position.epoch < stage.epochs:
        started = time.monotonic() - position.seconds
        batches = stage.train.epoch(stage.epoch_key(position.epoch), position.step)
        for x, labels in batches:
            seen = stage.seen(x, position.epoch)
            loss, correct, samples = stepper.take(position, seen, labels)
            position.step += 1
            trained.stepped(position.epoch * len(stage.train) + position.step)
            counted.step(position, seen, labels, samples)
            position.loss += loss * samples
            position.correct += correct
            position.seen += samples
            position.seconds = time.monotonic() - started
            monitor.step(loss, stage.optimizer.param_groups[0]["lr"])
            if checkpoints.due():
                _save(trained, stage, position, history, checkpoints)
        row = _finish_epoch(stepper, trained, position, started, counted)
        history.append(row)
        monitor.epoch(row, history)
        position = Position(
            epoch=position.epoch + 1,
            best_accuracy=position.best_accuracy,
            best_weights=position.best_weights,
        )
        if checkpoints.due():
            _save(trained, stage, position, history, checkpoints)
    return position.best_weights


def _tell(stage: Stage, monitor: Monitor) -> None:
    """Say what differs from one process with whole batches."""
    if stage.accumulate > 1:
        monitor.console.print(
            f"{stage.name}: the gradients of {stage.accumulate} micro-batches are added; norms "
            "take the statistics of each",
            highlight=False,
            soft_wrap=True,
        )
    if stage.group.size > 1:
        norms = "all of them" if stage.synchronise_norms else "each by itself"
        monitor.console.print(
            f"{stage.name}: {stage.group.size} processes; norms take the statistics of {norms}",
            highlight=False,
            soft_wrap=True,
        )


def _finish_epoch(
    stepper: Stepper, trained: Trained, position: Position, started: float, counted: Counted
) -> dict[str, Any]:
    """Validate, remember the best weights, and return the epoch as a row of the log."""
    stage, told, network = stepper.stage, stepper.told, trained.answers
    stepper.share_buffers(*dict.fromkeys((trained.network, network)))
    val_accuracy = None
    held_out = 0 if stage.val is None or told.none else len(stage.val.split)
    if stage.val is not None and held_out:
        val_accuracy = accuracy(
            network,
            counted.watched(stage.val.epoch(0)),
            stage.timesteps,
            task=told.known,
            dtype=stage.dtype,
            group=stage.group,
        )[-1]
        if stage.select == "best" and val_accuracy > position.best_accuracy:
            position.best_accuracy = val_accuracy
            position.best_weights = deepcopy(network.state_dict())
    row = {
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
        "macs": counted.epoch(position, held_out),
    }
    if stage.accumulate > 1:
        row["micro_batches"] = stage.accumulate
    if stage.group.size > 1:
        row["processes"] = stage.group.size
    return row


def _save(
    trained: Trained,
    stage: Stage,
    position: Position,
    history: list[dict[str, Any]],
    checkpoints: Checkpoints,
) -> None:
    """Save a checkpoint, unless the last step broke the weights.

    If it did, the next step stops the run.
    """
    if not all(torch.isfinite(parameter).all() for parameter in stage.trained()):
        return
    checkpoints.save(
        {
            "stage": stage.number,
            "position": asdict(position),
            **trained.state_dict(),
            "objective": stage.objective.state_dict(),
            "optimizer": stage.optimizer.state_dict(),
            "history": history,
        }
    )


def _resume(
    trained: Trained, stage: Stage, history: list[dict[str, Any]], checkpoints: Checkpoints
) -> Position:
    """Resume from a checkpoint of this stage; begin at the beginning if there is none."""
    position = _loaded(trained, stage, history, checkpoints)
    found = stage.group.gathered((position.epoch, position.step))
    if len(set(found)) > 1:
        raise LeanspikeError(
            f"the processes find different checkpoints at {checkpoints.path}; give all machines "
            "one and the same folder (--out)"
        )
    return position


def _loaded(
    trained: Trained, stage: Stage, history: list[dict[str, Any]], checkpoints: Checkpoints
) -> Position:
    saved = checkpoints.load()
    if saved is None or saved["stage"] != stage.number or "position" not in saved:
        return Position()
    with checkpoints.fitting():
        trained.load_state_dict(saved)
        stage.objective.load_state_dict(saved.get("objective", {}))
        stage.optimizer.load_state_dict(saved["optimizer"])
        history[:] = saved["history"]
        return Position(**saved["position"])
