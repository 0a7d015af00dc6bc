"""Optimisers with the right parameter groups, and learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.graph.ops import kin
from leanspike.neuron import Neuron

Schedule = Callable[[int], float]
"""From the step (0-based) to the factor of the learning rate."""


def create_optimizer(
    network: nn.Module,
    kind: Literal["sgd", "adam", "adamw"] = "sgd",
    *,
    learning_rate: float,
    neuron_learning_rate: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    decay_norms: bool = False,
) -> torch.optim.Optimizer:
    """An optimiser whose weight decay spares leaks, thresholds, norms and biases.

    With ``decay_norms`` the norms' scales decay with the weights: that is what makes BNTT's γ fall
    where a timestep counts for little, as in its code.

    "sgd" has momentum, Nesterov's unless ``nesterov`` is False (as in BNTT's code), "adam" is
    AMSGrad (DIET-SNN's), "adamw" decouples the decay.
    Leaks and thresholds may have a learning rate of their own. Each group remembers its rate as
    ``initial_lr``, for :func:`set_learning_rate`.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> optimizer = create_optimizer(net, learning_rate=0.1, weight_decay=5e-4)
    >>> [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups]
    [(1, 0.0005), (3, 0.0)]
    """
    decayed, plain, neurons = _split(network, decay_norms)
    rate = learning_rate if neuron_learning_rate is None else neuron_learning_rate
    groups: list[dict[str, Any]] = [
        {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": plain, "lr": learning_rate, "weight_decay": 0.0},
        {"params": neurons, "lr": rate, "weight_decay": 0.0},
    ]
    groups = [{**group, "initial_lr": group["lr"]} for group in groups if group["params"]]
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov and momentum > 0)
    if kind == "adam":
        return torch.optim.Adam(groups, amsgrad=True)
    return torch.optim.AdamW(groups)


def _split(
    network: nn.Module, decay_norms: bool
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Parameters to decay, others, and those of neurons; each once, frozen ones left out."""
    decayed: dict[nn.Parameter, None] = {}
    plain: dict[nn.Parameter, None] = {}
    neurons: dict[nn.Parameter, None] = {}
    for module in network.modules():
        norm = kin(type(module)).norm
        spared = norm is not None and not (norm.decayed or decay_norms)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, Neuron):
                neurons[parameter] = None
            elif name.endswith("bias") or spared:
                plain[parameter] = None
            else:
                decayed[parameter] = None
    return list(decayed), list(plain), list(neurons)


def create_schedule(
    kind: Literal["constant", "cosine", "linear", "step"],
    steps: int,
    warmup: float = 0.0,
    *,
    epoch_steps: int = 1,
    period_epochs: int | None = None,
    milestones: Sequence[int] | None = None,
) -> Schedule:
    """The factor of the learning rate at each of ``steps`` steps.

    A linear warm-up over the fraction ``warmup`` of the steps, then: "constant"; "cosine" or
    "linear" down to 0; "step" ÷10 at 50, 70 and 90 % of what is left.

    Two schedules go by epochs e = 0, 1, ... of ``epoch_steps`` steps, warm-up included, as those of
    the papers' code do, and keep one rate through each::

        "cosine" with period_epochs P: ½·(1 + cos(π·e/P)), torch's CosineAnnealingLR, which is
        0 at e = P and rises again after it
        "step" with milestones: ÷10 from each of these epochs on, torch's MultiStepLR

    Raises:
        LeanspikeError: for a period of a schedule other than "cosine", or milestones of one other
            than "step".

    >>> factor = create_schedule("linear", steps=10, warmup=0.2)
    >>> [round(factor(step), 3) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    >>> factor = create_schedule("cosine", steps=10, epoch_steps=2, period_epochs=2)
    >>> [round(factor(step), 3) for step in range(0, 10, 2)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    _check_schedule(kind, period_epochs, milestones)
    warm = round(warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done, epoch = (step - warm) / max(1, steps - warm), step // epoch_steps
        if kind == "cosine":
            turned = done if period_epochs is None else epoch / period_epochs
            return 0.5 * (1 + math.cos(math.pi * turned))
        if kind == "linear":
            return 1 - done
        if kind == "step":
            if milestones is None:
                return 0.1 ** sum(done >= share for share in (0.5, 0.7, 0.9))
            return 0.1 ** sum(epoch >= milestone for milestone in milestones)
        return 1.0

    return factor


def _check_schedule(kind: str, period_epochs: int | None, milestones: Sequence[int] | None) -> None:
    if period_epochs is not None and kind != "cosine":
        raise LeanspikeError(
            f"period_epochs is {period_epochs}, and the schedule is {kind}; set schedule=cosine, "
            "or leave the period out"
        )
    if milestones is not None and kind != "step":
        raise LeanspikeError(
            f"milestones are {list(milestones)}, and the schedule is {kind}; set schedule=step, "
            "or leave them out"
        )


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's rate to ``factor`` of its initial one; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
