"""What a metric is: it sees each batch that is evaluated, and shows what it found.

A metric is one file: what it counts, what it found as a record, how the terminal shows that, and
how the page does. It is registered by its name, which a recipe names in `evaluate.metrics`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from leanspike.evaluation.record import Record
from leanspike.evaluation.task import Task, TaskName
from leanspike.registry import Registry
from leanspike.section import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class About:
    """What a metric is told before the first batch.

    ``readout`` is how outputs of several steps become an answer, ``task`` what the labels are of;
    None: what those of the first batch show.

    >>> About(timesteps=4).readout
    'mean'
    """

    timesteps: int
    readout: Literal["sum", "mean"] = "mean"
    task: Task | TaskName | None = None


@dataclass(frozen=True)
class StepTable:
    """Numbers after each step, and the ANN's, where there is one, under a title.

    ``unit`` is "%" for shares, which are shown in hundredths, else "".

    >>> StepTable("accuracy", (0.5, 0.75), ann=0.8, unit="%").snn[-1]
    0.75
    """

    title: str
    snn: tuple[float, ...]
    ann: float | None = None
    unit: Literal["", "%"] = ""


@dataclass(frozen=True)
class Look:
    """The colours of the page, as matplotlib takes them.

    >>> Look(snn="blue", snn_light="lightblue", snn_dark="navy", ann="grey", accent="red").ann
    'grey'
    """

    snn: str
    snn_light: str
    snn_dark: str
    ann: str
    accent: str


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its title, what it shows in a sentence or two, and how it is drawn.

    ``draw(figure, look)`` draws it with matplotlib; ``height`` is in px, the width the page's.

    >>> Picture("Empty", "Nothing to see.", 100, lambda figure, look: None).height
    100
    """

    title: str
    caption: str
    height: float
    draw: Callable[[Figure, Look], None]


class Metric(ABC):
    """Sees all batches of an evaluation, one after another.

    The options of one that is registered are in ``Config``: keyword arguments of its constructor.
    ``Row`` is what it found. The result keeps that as plain data, and a page that is written again
    later needs no more: ``tables`` and ``pictures`` show a row.

    >>> class Silent(Metric):
    ...     class Row(Record):
    ...         batches: int
    ...     def begin(self, about):
    ...         self.batches = 0
    ...     def see(self, y_TN, targets, ann_N):
    ...         self.batches += 1
    ...     def row(self):
    ...         return self.Row(batches=self.batches)
    ...     @classmethod
    ...     def tables(cls, row):
    ...         return (StepTable("batches", (row.batches,)),)
    >>> metric = Silent()
    >>> metric.begin(About(timesteps=1))
    >>> metric.see(None, None, None)
    >>> Silent.tables(metric.row())[0].snn, Silent.pictures(metric.row())
    ((1,), ())
    """

    Config: ClassVar[type[Section]] = Section
    Row: ClassVar[type[Record]]

    @abstractmethod
    def begin(self, about: About) -> None:
        """Before the first batch."""

    @abstractmethod
    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """A batch: outputs of the steps ``[T, N, ...]`` in the network's own structure, targets.

        ``ann_N`` are the ANN's outputs ``[N, ...]``. Targets and these are None where there are
        none.
        """

    @abstractmethod
    def row(self) -> Record:
        """What it found, a ``Row``."""

    @classmethod
    @abstractmethod
    def tables(cls, row: Record) -> tuple[StepTable, ...]:
        """A row for the terminal."""

    @classmethod
    def pictures(cls, row: Record) -> tuple[Picture, ...]:  # noqa: ARG003
        """A row for the page, where a figure says more than numbers."""
        return ()


def _config(kind: type[Metric]) -> type[Section]:
    return kind.Config


metrics: Registry[Metric] = Registry("metric", "leanspike.metrics", _config, base=Metric)
