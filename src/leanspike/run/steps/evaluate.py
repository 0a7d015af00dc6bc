"""The step that measures a run's SNN on the whole test set, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from leanspike.backends import watch_backends
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    Result,
    evaluate,
    measure_times,
    provenance,
    readings,
)
from leanspike.evaluation.origin import computed_by
from leanspike.evaluation.times import BATCH, Times
from leanspike.execute import SpikingNetwork
from leanspike.memory import release_freed_memory
from leanspike.metrics import metrics
from leanspike.report import write_report
from leanspike.run.clock import read_backends, read_macs, read_seconds
from leanspike.run.exits import measure_exits, with_exits
from leanspike.run.pictures import with_pictures
from leanspike.run.steps.step import Context, Rehearsal
from leanspike.run.takeover import read_taken_over
from leanspike.run.trained import untrained
from leanspike.run.workspace import REPORT, RESULT
from leanspike.train.squared_error import mean_squared_error


@final
class Evaluate:
    """The step that writes ``result.json`` and ``report.html``.

    Args:
        context: the context of the run.
        command: the user's command, for the result.
        early_exit, max_drop_points: values to replace the recipe's; ["none"] is no early exit.
        more: names of metrics in addition to the recipe's.
    """

    def __init__(
        self,
        context: Context,
        command: str | None = None,
        early_exit: Sequence[str] = (),
        max_drop_points: float | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self.context = context
        self.command = command
        self.section = with_exits(context.assembly.recipe, early_exit, max_drop_points, more)

    def done(self) -> bool:
        """Return whether a result is in the folder."""
        return self.context.workspace.has(RESULT)

    def rehearse(self, _: Rehearsal) -> None:
        """Check that there are held-out images by which early exits are chosen."""
        data, rules = self.context.assembly.data, self.section.early_exit
        if rules and not len(data.val):
            tenth = max(1, len(data.train) // 10)
            raise LeanspikeError(
                f"early exit by {', '.join(rules)} is chosen on held-out images, but {data.name} "
                f"holds out none; set data.validation={tenth}, or evaluate.early_exit=[]"
            )

    def do(self) -> Result:
        """Measure, and write the result and its page."""
        release_freed_memory()
        recipe, workspace = self.context.assembly.recipe, self.context.workspace
        with watch_backends() as ran:
            result = self._measure()
        origin = provenance(
            command=self.command,
            seed=recipe.seed,
            recipe=recipe.model_dump(mode="json"),
            seconds=read_seconds(workspace.folder),
            macs=read_macs(workspace.folder),
            device=self.context.assembly.device,
            backends=read_backends(workspace.folder),
        )
        taken = read_taken_over(workspace.folder)
        origin = origin.model_copy(update={"ann_from": taken.run if taken is not None else None})
        result = result.model_copy(update={"provenance": computed_by(origin, ran)})
        if self.context.group.first:
            workspace.write(RESULT, result.model_dump_json(indent=1))
            write_report(result, workspace.history, workspace.folder / REPORT)
        return result

    def _measure(self) -> Result:
        """Measure the whole test set with SNN and ANN, early exits and times; add images to show.

        Several processes measure the test set together. The first one alone does the rest.
        """
        assembly = self.context.assembly
        why = untrained(assembly.recipe)
        if why is not None:
            self._say(f"nothing was trained ({why}): the weights are random")
        snn = self.context.load("snn")
        assert isinstance(snn, SpikingNetwork)
        ann = self.context.load("ann") if self.context.workspace.has("ann") else None
        result = self._whole(snn, ann)
        if not self.context.group.first:
            return result
        if self.section.early_exit:
            result = self._with_exits(result, snn)
        shown = with_pictures(result, snn, assembly.data)
        return shown.model_copy(update={"times": self._times(snn, ann)})

    def _whole(self, snn: SpikingNetwork, ann: nn.Module | None) -> Result:
        assembly, group = self.context.assembly, self.context.group
        recipe, data = assembly.recipe, assembly.data
        start = self.context.load("start")
        assert isinstance(start, SpikingNetwork)
        self._say(f"evaluating on {len(data.test)} test images ...")
        with self.context.workspace.clock("evaluate"):
            return evaluate(
                snn,
                assembly.loader(data.test, self.section.batch_size, group=group),
                ann=ann,
                name=recipe.name,
                data=data.name,
                split="test",
                classes=data.classes,
                start=readings(start) if recipe.snn else None,
                readout=self.section.readout,
                task=data.task,
                metric=mean_squared_error if data.task == "none" else None,
                metrics={
                    name: metrics.create(name, how) for name, how in self.section.metrics.items()
                },
                group=group,
            )

    def _with_exits(self, result: Result, snn: SpikingNetwork) -> Result:
        assembly, rules = self.context.assembly, ", ".join(self.section.early_exit)
        self._say(f"choosing when to leave by {rules} ...")
        held_out = assembly.loader(assembly.data.val, self.section.batch_size)
        test = assembly.loader(assembly.data.test, self.section.batch_size)
        with self.context.workspace.clock("early exit"):
            exits = measure_exits(snn, self.section, held_out, test, result)
        return result.model_copy(update={"early_exit": exits})

    def _times(self, snn: SpikingNetwork, ann: nn.Module | None) -> Times:
        """Measure the SNN's time beside its ANN's, or an untrained ANN's if the run has none."""
        assembly = self.context.assembly
        if ann is None:
            ann = assembly.placed(assembly.untrained())
        self._say("timing SNN and ANN on this machine ...")
        x, _ = next(assembly.loader(assembly.data.test, BATCH).epoch(0))
        with self.context.workspace.clock("times"):
            return measure_times(snn, ann, x)

    def _say(self, words: str) -> None:
        self.context.monitor.console.print(words)
