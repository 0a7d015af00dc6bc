"""What a metric is: it sees each batch that is evaluated, and shows what it found.

A metric is one file. It says what is counted, what was found as a record, and how the terminal and
the page show that. It is registered by its name, which a recipe names in `evaluate.metrics`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from leanspike.distributed import Group
from leanspike.evaluation.record import Record
from leanspike.evaluation.task import Task, TaskName
from leanspike.registry import Registry
from leanspike.section import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import fx

    from leanspike.execute import SpikingNetwork


@dataclass(frozen=True)
class About:
    """What a metric is told before the first batch.

    ``readout`` is how outputs of several steps become an answer, ``task`` what the labels are of;
    None: what those of the first batch show. ``network`` is the SNN that is evaluated, where one
    is.

    >>> About(timesteps=4).readout
    'mean'
    """

    timesteps: int
    readout: Literal["sum", "mean"] = "mean"
    task: Task | TaskName | None = None
    network: SpikingNetwork | None = None


@dataclass(frozen=True)
class StepTable:
    """Numbers after each step under a title, and the ANN's number, where there is an ANN.

    ``unit`` is "%" for shares, which are shown in hundredths, else "". A share of samples that
    were ``counted`` has the decimals that their number supports.

    >>> StepTable("accuracy", (0.5, 0.75), ann=0.8, unit="%").snn[-1]
    0.75
    """

    title: str
    snn: tuple[float, ...]
    ann: float | None = None
    unit: Literal["", "%"] = ""
    counted: bool = False


@dataclass(frozen=True)
class LayerTable:
    """A row for each layer, by its path, under a title; values are numbers or words.

    >>> LayerTable("Silent neurons", ("neurons", "silent"), {"conv1": (64, 3)}).rows["conv1"]
    (64, 3)
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | str, ...]]


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

    ``draw(figure, look)`` draws it with matplotlib. ``height`` is in px, and the width is the
    page's.

    >>> Picture("Empty", "Nothing to see.", 100, lambda figure, look: None).height
    100
    """

    title: str
    caption: str
    height: float
    draw: Callable[[Figure, Look], None]


class Metric(ABC):
    """Sees all batches of an evaluation, one after another.

    A metric that is registered has its options in ``Config``; they are keyword arguments of its
    constructor. ``Row`` is what it found. The result keeps the row as plain data, and a page that
    is written again later needs no more: ``tables`` and ``pictures`` show a row.

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
        """Get ready for the first batch."""

    @abstractmethod
    def see(self, y_TN: Any, targets: Any, ann_N: Any) -> None:
        """Take a batch: the outputs of the steps ``[T, N, ...]``, targets, and the ANN's outputs.

        The outputs are in the network's own structure. ``ann_N`` are the ANN's outputs
        ``[N, ...]``. ``targets`` and ``ann_N`` are None where there are none.
        """

    @abstractmethod
    def row(self) -> Record:
        """Return what was found, as a ``Row``."""

    @classmethod
    @abstractmethod
    def tables(cls, row: Record) -> tuple[StepTable | LayerTable, ...]:
        """Return a row as tables, for the terminal and the page."""

    @classmethod
    def pictures(cls, row: Record) -> tuple[Picture, ...]:  # noqa: ARG003
        """Return pictures that show a row on the page, where a figure says more than numbers."""
        return ()


class SharedMetric(Metric):
    """A metric that can add up. Each of several processes shows it its own batches only.

    Any other sees the batches of all processes in each of them, which are sent around for that.
    """

    @abstractmethod
    def add_others(self, group: Group) -> None:
        """Add up what the metrics of all processes have seen, after the last batch."""


class WatchingMetric(SharedMetric):
    """A metric that sees inside the network: each operation of a run, as spikes and energy do.

    >>> class Runs(WatchingMetric):
    ...     class Row(Record):
    ...         layers: int
    ...     def begin(self, about):
    ...         self.layers = 0
    ...     def observe(self, node, values, value):
    ...         self.layers += bool(node.meta.get("neuron"))
    ...     def see(self, y_TN, targets, ann_N):
    ...         pass
    ...     def add_others(self, group):
    ...         self.layers = sum(group.gathered(self.layers))
    ...     def row(self):
    ...         return self.Row(layers=self.layers)
    ...     @classmethod
    ...     def tables(cls, row):
    ...         return (LayerTable("Runs of neurons", ("runs",), {"all": (row.layers,)}),)
    >>> import torch
    >>> from leanspike import evaluate, spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
    >>> snn = spike(ann, example_input=torch.zeros(1, 1))
    >>> evaluate(snn, [(torch.rand(4, 1),)] * 2, metrics={"runs": Runs()}).measured
    {'runs': {'layers': 2}}
    """

    @abstractmethod
    def observe(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        """See an operation of the SNN's graph, its value for a batch, and all values before it.

        A value is ``[T, N, ...]`` where it depends on time, as ``node.meta["signal"]`` says, and of
        neurons where ``node.meta`` has "neuron". All operations of a batch come before ``see``.
        """


def _config(kind: type[Metric]) -> type[Section]:
    return kind.Config


metrics: Registry[Metric] = Registry("metric", "leanspike.metrics", _config, base=Metric)
