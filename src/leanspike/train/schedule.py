"""Learning rates by the training step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from leanspike.errors import LeanspikeError
from leanspike.registry import ChosenSection, Registry
from leanspike.section import Count, Share, section_of

Schedule = Callable[[int], float]
"""From the training step (0-based) to the factor of the learning rate."""


class Curve(ABC):
    """How a learning rate falls after the warm-up; a frozen dataclass whose fields are options.

    One that ``rises`` has its own warm-up, and takes no other.
    """

    rises: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, done: float, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch.

        ``done`` is the share of the steps that is done, in [0, 1).
        """

    @final
    def check_warmup(self, warmup: float) -> None:
        """Raise LeanspikeError for a warm-up before a schedule that rises by itself."""
        if warmup and self.rises:
            raise LeanspikeError(
                f"warmup is {warmup}, and this schedule rises by itself; set warmup to 0"
            )


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
@schedules.register("triangular")
@dataclass(frozen=True)
class Triangular(Curve):
    """The rate rises along a line from `start` to 1, then falls along a line to `end`.

    >>> curve = Triangular(start=0.2, peak=0.25, end=0.1)
    >>> [round(curve(done, 0), 3) for done in (0, 0.125, 0.25, 0.625)]
    [0.2, 0.6, 1.0, 0.55]
    """

    rises: ClassVar[bool] = True

    start: Annotated[
        Share, Field(description="The factor of the learning rate in the first step.")
    ] = 0.2
    peak: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="The share of all steps that it rises in; 0: it only falls.",
        ),
    ] = 0.23
    end: Annotated[Share, Field(description="The factor that it ends at.")] = 0.07

    def __call__(self, done: float, epoch: int) -> float:  # noqa: ARG002
        if done < self.peak:
            return self.start + (1 - self.start) * done / self.peak
        return 1 + (self.end - 1) * (done - self.peak) / (1 - self.peak)


@final
class ScheduleSection(ChosenSection):
    """A schedule by its name, and its options beside it.

    >>> ScheduleSection(name="step", milestones=[3, 5]).options
    {'milestones': (3, 5)}
    """

    registry = schedules

    name: str = "cosine"


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
    and "linear" fall to 0. "step" divides by 10 at 50, 70 and 90 % of what is left. "triangular"
    rises by itself, and takes no warm-up. Other schedules may have registered in :data:`schedules`;
    they take ``options``.

    Two options go by epochs e = 0, 1, ... of ``epoch_steps`` steps, warm-up included, as those of
    the papers' code do, and keep one rate through each::

        "cosine" with period_epochs P: ½·(1 + cos(π·e/P)), torch's CosineAnnealingLR, which is
        0 at e = P and rises again after it
        "step" with milestones: ÷10 from each of these epochs on, torch's MultiStepLR

    Raises:
        LeanspikeError: for an option that the schedule does not have, or a warm-up before one that
            rises.

    >>> factor = create_schedule("linear", steps=10, warmup=0.2)
    >>> [round(factor(step), 3) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    >>> factor = create_schedule("cosine", steps=10, epoch_steps=2, options={"period_epochs": 2})
    >>> [round(factor(step), 3) for step in range(0, 10, 2)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    curve = schedules.create(kind, options)
    curve.check_warmup(warmup)
    warm = round(warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return curve((step - warm) / max(1, steps - warm), step // epoch_steps)

    return factor
