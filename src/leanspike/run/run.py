"""A run: a recipe carried out in a folder, from start to finish, resumed where it was stopped.

The folder holds ``recipe.yaml``, ``data.json``, ``log.jsonl``, ``tensorboard/``,
``checkpoint.pt``, the models ``ann/``, ``start/`` (converted, before training) and ``snn/``,
``result.json`` and ``report.html``. Each appears whole or not at all. A part that is there is not
computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from leanspike.config import Recipe
from leanspike.data import describe
from leanspike.distributed import joined
from leanspike.evaluation import Result
from leanspike.run.assembly import Assembly
from leanspike.run.seen import check_seen
from leanspike.run.steps.convert import Convert
from leanspike.run.steps.evaluate import Evaluate
from leanspike.run.steps.step import Context, Rehearsal, Step
from leanspike.run.steps.train_ann import TrainANN
from leanspike.run.steps.train_snn import TrainSNN
from leanspike.run.takeover import settle
from leanspike.run.workspace import Workspace, read_recipe
from leanspike.surgery import Calibration
from leanspike.train import Monitor, Teacher


@final
class Run:
    """A recipe in a folder: four steps, each of which leaves something there.

    If this process has joined others, all of them do the steps together.

    Args:
        recipe: the recipe.
        folder: the run's folder. :meth:`begin` makes it, or checks that it holds this recipe.
        monitor: the object that shows the progress.
        trust: whether networks of the user's own, ``package.module:Class``, may be imported.
        ann_of: the folder of another run, whose ANN is taken over instead of training one. It must
            be the ANN that this recipe trains: the same data, model, training, seed and precision.
        snn_of: the folder of another run, whose SNN is trained further. Its ANN is taken over, too.
            This recipe must have its settings and begin with its stages.

    Raises:
        LeanspikeError: if the recipe names such a network without ``trust``.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        monitor: Monitor,
        trust: bool = False,
        ann_of: str | Path | None = None,
        snn_of: str | Path | None = None,
    ) -> None:
        snn_of = None if snn_of is None else Path(snn_of)
        if snn_of is not None and ann_of is None and recipe.ann is not None:
            ann_of = snn_of
        ann_of = None if ann_of is None else Path(ann_of)
        folder = Path(folder)
        self.recipe, self.folder, self.monitor, self.trust = recipe, folder, monitor, trust
        self.assembly = Assembly(recipe, monitor.console, trust)
        self.workspace = Workspace(folder, recipe.checkpoint_minutes, joined())
        self.context = Context(self.assembly, self.workspace, monitor)
        self.data = self.assembly.data
        self.device, self.dtype = self.assembly.device, self.assembly.dtype
        self._ann = TrainANN(self.context, ann_of)
        self._start = Convert(self.context)
        self._snn = TrainSNN(self.context, snn_of)
        self._result = Evaluate(self.context)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the run, in order."""
        return self._ann, self._start, self._snn, self._result

    def train(self, fresh: bool = False, command: str | None = None) -> Result:
        """Do all steps of the recipe, resumed from wherever an earlier attempt was stopped.

        With ``fresh`` the run in the folder is removed first, after the check that this one fits.
        ``command`` is the user's command, for the result.
        """
        self.begin(fresh)
        self.train_ann()
        self.convert()
        self.train_snn()
        return self.evaluate(command)

    def begin(self, fresh: bool = False) -> None:
        """Claim the folder for this run, or resume the run that it holds.

        No other process may begin in the folder until the end of the run.

        Raises:
            LeanspikeError: for a folder of another recipe or of other images, or one in which
                another process trains. Also for a recipe whose parts do not fit, and for an ANN to
                be taken over that this recipe would not train.
        """
        source = self._snn.snn_of or self._ann.ann_of
        self.workspace.check(self.recipe, self.data, fresh, source)
        self.rehearse(fresh)
        for line in (describe(self.data), *self.data.notes):
            self.monitor.console.print(line, highlight=False, soft_wrap=True, markup=False)
        self.workspace.take(self.recipe, self.data, fresh)
        settle(self.workspace)

    def rehearse(self, fresh: bool = False) -> None:
        """Build all parts of the recipe and run them once on a blank input, untrained.

        So parts that do not fit are found before anything is trained or written. Parts that are in
        the folder are taken as they are, unless the run is to be ``fresh``.

        Raises:
            LeanspikeError: for parts that do not fit together, or weights that are not there.
        """
        rehearsal = Rehearsal(fresh)
        self._snn.check_source()
        self._ann.check_source(rehearsal)
        if rehearsal.finds(self._snn):
            return
        self.assembly.check_data()
        for step in self.steps:
            step.rehearse(rehearsal)

    def train_ann(self) -> None:
        """Make ``ann/``: train it, take it over or use published weights; nothing if not needed."""
        if not self._ann.done():
            self._ann.do()

    def convert(self) -> Calibration | None:
        """Make ``start/``, the network with its neurons, and calibrate it."""
        return None if self._start.done() else self._start.do()

    def train_snn(self) -> None:
        """Make ``snn/``: train the network through each stage of the recipe in turn."""
        if not self._snn.done():
            self._snn.do()

    def evaluate(
        self,
        command: str | None = None,
        early_exit: Sequence[str] = (),
        max_drop_points: float | None = None,
        more: Sequence[str] = (),
    ) -> Result:
        """Write ``result.json`` and ``report.html``, on the whole test set, in float32.

        ``early_exit`` and ``max_drop_points`` replace the recipe's; ["none"] is no early exit.
        ``more`` are names of metrics in addition to the recipe's.
        """
        return Evaluate(self.context, command, early_exit, max_drop_points, more).do()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of the log so far."""
        return self.workspace.history

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout channels_last, which is fast, unless a user's network cannot take it."""
        return self.assembly.memory_format

    def load(self, name: str) -> nn.Module:
        """Return a network of the run, "ann", "start" or "snn", on its device, in eval mode."""
        return self.context.load(name)

    def teacher(self) -> Teacher:
        """Return the teacher: the recipe's, or the run's own ANN."""
        return self.context.teacher()


def open_run(folder: str | Path, monitor: Monitor, trust: bool = False) -> Run:
    """Open the run in a folder, by the recipe it was made with.

    Raises:
        LeanspikeError: if there is none, or if its images have changed.
    """
    folder = Path(folder)
    run = Run(read_recipe(folder), folder, monitor, trust)
    check_seen(folder, run.data)
    return run
