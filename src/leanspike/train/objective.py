"""What training minimises: objects from the outputs of all steps and the labels to a scalar.

Each objective is a module. It may learn something itself, such as the adapters of a feature
distillation. Such parameters are trained and saved with the network, but are no part of it.
:class:`Weighted` adds objectives up.

Shapes: T timesteps (1 for an ANN), N samples, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.evaluation.score import Labels, no_labels
from leanspike.evaluation.task import Task, TaskName
from leanspike.registry import Registry, values_of
from leanspike.section import NonNegative, Section
from leanspike.train.teacher import Teacher

Readout = Literal["sum", "mean"]


class Term(Section):
    """The options of an objective as one term of several: its own options, and its weight.

    >>> Term().weight
    1.0
    """

    weight: NonNegative = 1.0
    """The factor of this term."""


@dataclass(frozen=True)
class Around:
    """What is around an objective in a stage of training, for objectives that ask for it.

    ``x`` is an input of the network, of which only the shape matters. ``teacher`` gives the stage's
    teacher, the same one each time. ``task`` says what the labels are of; with None the labels of
    the first batch show it.

    >>> around = Around(nn.Identity(), torch.zeros(1, 3), Teacher)
    >>> around.readout, around.task
    ('sum', None)
    """

    network: nn.Module
    x: Tensor
    teacher: Callable[[], Teacher]
    readout: Readout = "sum"
    label_smoothing: float = 0.0
    task: TaskName | None = None


class Objective(nn.Module, ABC):
    """A loss: a scalar from the outputs ``y_TNK`` ``[T, N, K]``, the ``labels`` and the input.

    An objective that a recipe may name is registered, and has its options in ``Config``. The
    options are keyword arguments of its constructor. An objective that needs more overrides
    :meth:`within`. Labels have a shape such as ``[N]``.

    >>> @objectives.register("last_square")
    ... class LastSquare(Objective):
    ...     class Config(Term):
    ...         "The square of the last output."
    ...         scale: float = 1.0
    ...     def __init__(self, scale: float = 1.0) -> None:
    ...         super().__init__()
    ...         self.scale = scale
    ...     def forward(self, y_TNK, labels, x):
    ...         return self.scale * y_TNK[-1].square().mean()
    >>> around = Around(nn.Identity(), torch.zeros(1), Teacher)
    >>> loss = create_objective({"last_square": LastSquare.Config(weight=0.5, scale=2.0)}, around)
    >>> loss(torch.ones(3, 1, 2), torch.zeros(1), torch.zeros(1)).item()
    1.0
    >>> objectives.unregister("last_square")
    """

    Config: ClassVar[type[Term]] = Term
    taught: ClassVar[bool] = False
    """Whether it asks a teacher."""
    between_steps: ClassVar[bool] = False
    """Whether it compares the steps of an SNN, and so needs two or more."""

    @classmethod
    def within(cls, options: Mapping[str, Any], around: Around) -> Objective:  # noqa: ARG003
        """Make an objective with these options, without the weight, for a stage of training."""
        return cls(**options)

    @abstractmethod
    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        """Return the loss, as a mean over the batch, in float32."""

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:  # noqa: ARG002
        """See what the loss needs besides the outputs, while ``network`` runs in this context."""
        yield


def _config(kind: type[Objective]) -> type[Section]:
    return kind.Config


objectives: Registry[Objective] = Registry(
    "objective", "leanspike.objectives", _config, base=Objective
)


def objective_kind(name: str) -> type[Objective]:
    """Return the class of that name; LeanspikeError for an unknown name.

    >>> objective_kind("response").taught
    True
    """
    return cast(type[Objective], objectives.find(name))


def create_objective(terms: Mapping[str, Section], around: Around) -> Weighted:
    """Return the sum of terms, each by its name with its options and weight.

    >>> from leanspike.train import TET
    >>> around = Around(nn.Identity(), torch.zeros(1), Teacher)
    >>> create_objective({"tet": TET.Config(weight=0.5, target=2.0)}, around).weights
    (0.5,)
    """
    made = []
    for name, config in terms.items():
        options = values_of(config)
        weight = options.pop("weight")
        made.append((weight, objective_kind(name).within(options, around)))
    return Weighted(made)


@final
class Weighted(Objective):
    """A sum of objectives, each with its weight.

    >>> from leanspike.train import CrossEntropy
    >>> loss = Weighted(((0.25, CrossEntropy()), (0.75, CrossEntropy())))
    >>> round(loss(torch.zeros(1, 1, 2), torch.tensor([0]), torch.zeros(1)).item(), 4)  # log 2
    0.6931
    """

    def __init__(self, terms: Sequence[tuple[float, Objective]]) -> None:
        super().__init__()
        for term in terms:
            if not (isinstance(term, tuple) and len(term) == 2 and isinstance(term[1], Objective)):
                raise LeanspikeError(f"a term is {term!r}; give pairs (weight, objective)")
            if not math.isfinite(term[0]):
                raise LeanspikeError(f"a weight is {term[0]}; give a finite number")
        if not terms:
            raise LeanspikeError("no objectives; give at least one pair (weight, objective)")
        self.weights = tuple(weight for weight, _ in terms)
        self.objectives = nn.ModuleList(objective for _, objective in terms)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        with ExitStack() as stack:
            for objective in self.objectives:
                assert isinstance(objective, Objective)
                stack.enter_context(objective.watch(network))
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        losses = [objective(y_TNK, labels, x) for objective in self.objectives]
        return torch.stack([w * loss for w, loss in zip(self.weights, losses, strict=True)]).sum()


def task_of(told: Labels, y_TN: Tensor, labels: Tensor) -> Task:
    """Return what the labels are of; LeanspikeError for targets that are no labels.

    >>> task_of(Labels(), torch.zeros(5, 2, 3), torch.tensor([0, 2])).name
    'multiclass'
    """
    task = told.task(y_TN, labels)
    if task is None:
        raise LeanspikeError(
            f"{no_labels(y_TN, labels)}; take squared_error (SquaredError) for numbers, or write "
            "an Objective of your own, with their loss"
        )
    return task


def widened(y_TNK: Tensor) -> Tensor:
    """Return the outputs in float32 at least.

    >>> widened(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return y_TNK.to(torch.promote_types(y_TNK.dtype, torch.float32))


def check_smoothing(label_smoothing: float) -> None:
    """Raise LeanspikeError unless ``label_smoothing`` is in [0, 1).

    >>> check_smoothing(1.0)
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: label_smoothing is 1.0; give a number in [0, 1)
    """
    if not 0 <= label_smoothing < 1:
        raise LeanspikeError(f"label_smoothing is {label_smoothing}; give a number in [0, 1)")
