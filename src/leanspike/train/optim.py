"""Optimisers with the right parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, final

import torch
from pydantic import Field
from torch import nn

from leanspike.graph.ops import kin
from leanspike.neuron import Neuron
from leanspike.registry import ChosenSection, Registry
from leanspike.section import section_of

Groups = list[dict[str, Any]]
"""Parameters with their learning rate and weight decay, as PyTorch's optimisers take them."""

optimizers: Registry[torch.optim.Optimizer] = Registry(
    "optimizer", "leanspike.optimizers", section_of
)
"""Functions, or classes, from :data:`Groups` to an optimiser; their keywords are the options."""


@optimizers.register("sgd")
def _sgd(
    groups: Groups,
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="The share of the last update in the next one.")
    ] = 0.9,
    nesterov: Annotated[bool, Field(description="Whether the momentum is Nesterov's.")] = True,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov and momentum > 0)


@optimizers.register("adam")
def _adam(groups: Groups) -> torch.optim.Optimizer:
    """Make AMSGrad, a kind of Adam, as in DIET-SNN's code."""
    return torch.optim.Adam(groups, amsgrad=True)


@optimizers.register("adamw")
def _adamw(groups: Groups) -> torch.optim.Optimizer:
    """Make AdamW: Adam whose weight decay is no part of the gradient."""
    return torch.optim.AdamW(groups)


@final
class OptimizerSection(ChosenSection):
    """An optimizer by its name, and its options beside it.

    >>> OptimizerSection(momentum=0.5).options
    {'momentum': 0.5, 'nesterov': True}
    """

    registry = optimizers

    name: str = "sgd"


def create_optimizer(
    network: nn.Module,
    kind: str = "sgd",
    *,
    learning_rate: float,
    neuron_learning_rate: float | None = None,
    bias_learning_rate: float | None = None,
    weight_decay: float = 0.0,
    decay_norms: bool = False,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Return an optimiser whose weight decay spares leaks, thresholds, norms and biases.

    With ``decay_norms`` the scales of the norms decay with the weights. In BNTT's code that makes γ
    fall where a timestep counts for little.

    ``options`` are those of the optimiser. "sgd" has ``momentum``, 0.9, which is Nesterov's unless
    ``nesterov`` is False (as in BNTT's code). "adam" is AMSGrad (DIET-SNN's), "adamw" decouples the
    decay. Others may have registered in :data:`optimizers`.
    Leaks and thresholds may have a learning rate of their own, and so may biases and norms
    (without their scales, if these decay). Each group remembers its rate as ``initial_lr``, for
    :func:`set_learning_rate`.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> optimizer = create_optimizer(net, learning_rate=0.1, weight_decay=5e-4)
    >>> [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups]
    [(1, 0.0005), (3, 0.0)]
    """
    decayed, plain, neurons = _split(network, decay_norms)
    neuron_rate = learning_rate if neuron_learning_rate is None else neuron_learning_rate
    bias_rate = learning_rate if bias_learning_rate is None else bias_learning_rate
    groups: Groups = [
        {"params": decayed, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": plain, "lr": bias_rate, "weight_decay": 0.0},
        {"params": neurons, "lr": neuron_rate, "weight_decay": 0.0},
    ]
    groups = [{**group, "initial_lr": group["lr"]} for group in groups if group["params"]]
    return optimizers.create(kind, options, groups)


def _split(
    network: nn.Module, decay_norms: bool
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return parameters to decay, others, and neurons' parameters.

    Each parameter is there once; frozen ones are left out.
    """
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


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's rate to ``factor`` of its initial one, and return the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
