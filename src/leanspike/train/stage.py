"""One stage of training, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from leanspike.data.loader import Loader
from leanspike.distributed import ALONE, Group
from leanspike.evaluation.task import Task, TaskName
from leanspike.execute import Gradient
from leanspike.train.lookahead import Lookahead
from leanspike.train.objective import Objective
from leanspike.train.resolution import Resolution
from leanspike.train.schedule import Schedule


@dataclass(frozen=True)
class Stage:
    """One stage of training with one optimiser: what the loop needs besides the network.

    ``number`` counts the stages of a run; ``timesteps`` is None for an ANN. ``max_gradient_norm``
    bounds the norm over all that the optimiser trains, the objective's adapters too. ``gradient``
    is "bptt" or, for a spiking network, "rate": see :meth:`leanspike.SpikingNetwork.forward`.
    ``task`` says what the labels are of, see :func:`leanspike.evaluation.accuracy`; by default the
    labels of the first batch show it. For targets that are no labels no accuracy is measured:
    select the "last".

    ``group`` are the processes that take the steps together; the loaders are of the same group.
    ``accumulate`` is the number of micro-batches into which a batch is cut; their gradients are
    added. So norms, and all else that looks at a whole batch, see a micro-batch. With
    ``synchronise_norms`` batch norms take their statistics over all processes, without it each over
    its own part.

    ``average`` is the decay of an average of the weights over the steps, see
    :func:`leanspike.train.averaging`. Validation sees the average, and the stage ends with it. With
    None the stage ends with the weights themselves. ``lookahead`` are slow weights, see
    :class:`leanspike.train.Lookahead`, which the stage is validated with and ends with. A stage has
    one of the two. ``resolution`` are smaller images in the first epochs, see
    :class:`leanspike.train.Resolution`.
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
    average: float | None = None
    lookahead: Lookahead | None = None
    resolution: Resolution | None = None
    gradient: Gradient = "bptt"
    task: Task | TaskName | None = None
    group: Group = ALONE
    accumulate: int = 1
    synchronise_norms: bool = True

    @property
    def is_shared(self) -> bool:
        """Whether a network is given a part of a batch at a time."""
        return self.group.size > 1 or self.accumulate > 1

    def epoch_key(self, epoch: int) -> int:
        """Return a number for an epoch that no other stage has.

        So epochs of different stages see different orders and augmentations.
        """
        return 100_000 * self.number + epoch

    def seen(self, x: Tensor, epoch: int) -> Tensor:
        """Return images as an epoch of this stage sees them."""
        return x if self.resolution is None else self.resolution.seen(x, epoch, self.epochs)

    def trained(self) -> list[nn.Parameter]:
        """Return what the optimiser changes in the network, and in an objective that learns."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass
class Position:
    """Where a stage stands: the next step to take, the epoch's sums so far, the best epoch.

    ``macs`` are the multiply-accumulates of the epoch's ``counted`` samples so far.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0
    seen: int = 0
    seconds: float = 0.0
    macs: dict[str, int] = field(default_factory=dict)
    counted: int = 0
    best_accuracy: float = -1.0
    best_weights: dict[str, Any] = field(default_factory=dict)
