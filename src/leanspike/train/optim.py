"""Optimisers with the right parameter groups, and learning rates by the training step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

import torch
from pydantic import Field
from torch import nn

from leanspike.graph.ops import kin
from leanspike.neuron import Neuron
from leanspike.registry import ChosenSection, Registry
from leanspike.section import Count, section_of

Schedule = Callable[[int], float]
"""From the training step (0-based) to the factor of the learning rate."""
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


class Curve(ABC):
    """How a learning rate falls after the warm-up; a frozen dataclass whose fields are options."""

    @abstractmethod
    def __call__(self, done: float, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch.

        ``done`` is the share of the steps that is done, in [0, 1).
        """


schedules: Registry[Curve] = Registry("schedule", "leanspike.schedules", section_of, base=Curve)


@final
@schedules.register("constant")
@dataclass(frozen=True)
class Constant(Curve):
    """The rate stays.

    >>> Constant()(0.9, 3)
    1.0
    """

    def __call__(self, done: float, epoch: int) -> float:  # noqa: ARG002
        return 1.0


@final
@schedules.register("cosine")
@dataclass(frozen=True)
class Cosine(Curve):
    """The rate falls along a cosine, ½·(1 + cos π·done), to 0.

    It goes by epochs where a period is given.

    >>> Cosine()(0.5, 3), Cosine(period_epochs=2)(0.5, 4)
    (0.5, 1.0)
    """

    period_epochs: Annotated[
        Count | None,
        Field(
            description="0 is reached after so many epochs, then it rises again; null: at the end."
        ),
    ] = None

    def __call__(self, done: float, epoch: int) -> float:
        turned = done if self.period_epochs is None else epoch / self.period_epochs
        return 0.5 * (1 + math.cos(math.pi * turned))


@final
@schedules.register("linear")
@dataclass(frozen=True)
class Linear(Curve):
    """The rate falls along a line, 1 − done, to 0.

    >>> Linear()(0.25, 0)
    0.75
    """

    def __call__(self, done: float, epoch: int) -> float:  # noqa: ARG002
        return 1 - done


@final
@schedules.register("step")
@dataclass(frozen=True)
class Step(Curve):
    """The rate falls tenfold at each of the milestones.

    >>> Step()(0.6, 0), Step(milestones=(2, 4))(0.6, 4) == 0.1**2
    (0.1, True)
    """

    milestones: Annotated[
        tuple[Count, ...] | None,
        Field(
            description="The epochs after which it falls; null: at 50, 70 and 90 % of the steps."
        ),
    ] = None

    def __call__(self, done: float, epoch: int) -> float:
        if self.milestones is None:
            return 0.1 ** sum(done >= share for share in (0.5, 0.7, 0.9))
        return 0.1 ** sum(epoch >= milestone for milestone in self.milestones)


@final
class ScheduleSection(ChosenSection):
    """A schedule by its name, and its options beside it.

    >>> ScheduleSection(name="step", milestones=[3, 5]).options
    {'milestones': (3, 5)}
    """

    registry = schedules

    name: str = "cosine"


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


def create_schedule(
    kind: str,
    steps: int,
    warmup: float = 0.0,
    *,
    epoch_steps: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Schedule:
    """Return a function from each of ``steps`` training steps to the factor of the learning rate.

    A linear warm-up takes the fraction ``warmup`` of the steps. Then "constant" stays, and "cosine"
    and "linear" fall to 0. "step" divides by 10 at 50, 70 and 90 % of what is left. Other schedules
    may have registered in :data:`schedules`; they take ``options``.

    Two options go by epochs e = 0, 1, ... of ``epoch_steps`` steps, warm-up included, as those of
    the papers' code do, and keep one rate through each::

        "cosine" with period_epochs P: ½·(1 + cos(π·e/P)), torch's CosineAnnealingLR, which is
        0 at e = P and rises again after it
        "step" with milestones: ÷10 from each of these epochs on, torch's MultiStepLR

    Raises:
        LeanspikeError: for an option that the schedule does not have.

    >>> factor = create_schedule("linear", steps=10, warmup=0.2)
    >>> [round(factor(step), 3) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    >>> factor = create_schedule("cosine", steps=10, epoch_steps=2, options={"period_epochs": 2})
    >>> [round(factor(step), 3) for step in range(0, 10, 2)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    curve = schedules.create(kind, options)
    warm = round(warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return curve((step - warm) / max(1, steps - warm), step // epoch_steps)

    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's rate to ``factor`` of its initial one, and return the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
