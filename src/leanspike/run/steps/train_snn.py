"""The step that trains the SNN of a run through its stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

from torch import nn

from leanspike.run.continued import check_same_stages, take_over_stages
from leanspike.run.steps.step import Context, Rehearsal
from leanspike.run.steps.training import Training


@final
class TrainSNN:
    """The step that makes ``snn/``, trained through each stage of the recipe in turn.

    Args:
        context: the context of the run.
        snn_of: the folder of another run, which has trained the first stages.
    """

    def __init__(self, context: Context, snn_of: Path | None = None) -> None:
        self.context, self.snn_of = context, snn_of
        self.stages = tuple(self._stages())

    def done(self) -> bool:
        """Return whether the trained SNN is in the folder."""
        return self.context.workspace.has("snn")

    def check_source(self) -> None:
        """Check that the SNN of the other run, if one is named, may be gone on with.

        Raises:
            LeanspikeError: if this recipe does not begin with its stages, or has no more of them.
        """
        if self.snn_of is not None:
            check_same_stages(self.context.assembly, self.snn_of)

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Compute one loss of each stage."""
        assert rehearsal.snn is not None
        assert rehearsal.teacher is not None
        for stage in self.stages:
            stage.rehearse(rehearsal.snn, rehearsal.teacher)

    def do(self) -> None:
        """Train the SNN, resumed from the checkpoint if there is one."""
        snn = self.context.load("start")
        done = self._resume(snn)
        for stage in self.stages:
            if stage.number < done:
                continue
            stage.do(snn)
            self._keep(snn, stage.number + 1)
        self.context.save(snn, "snn")

    def _keep(self, snn: nn.Module, stage: int) -> None:
        """Save a checkpoint from which this stage begins."""
        workspace = self.context.workspace
        workspace.checkpoints.save(
            {"stage": stage, "network": snn.state_dict(), "history": workspace.history}
        )

    def _resume(self, snn: nn.Module) -> int:
        """Return the stage of the checkpoint, and load a checkpoint from between two stages."""
        workspace = self.context.workspace
        saved = workspace.checkpoints.load()
        if saved is None and self.snn_of is not None:
            names = [stage.name for stage in self.stages]
            over = take_over_stages(workspace, self.context.assembly, self.snn_of, snn, names)
            self._keep(snn, over + 1)
            self.context.monitor.console.print(
                f"the SNN goes on from {self.snn_of}", highlight=False
            )
            return over + 1
        done = int(saved["stage"]) if saved is not None else 0
        if saved is not None and done > 0 and "position" not in saved:
            with workspace.checkpoints.fitting():
                snn.load_state_dict(saved["network"])
                workspace.history[:] = saved["history"]
        return done

    def _stages(self) -> Iterator[Training]:
        recipe = self.context.assembly.recipe
        steps = [section.timesteps or recipe.spike.timesteps for section in recipe.snn]
        for number, (section, timesteps) in enumerate(zip(recipe.snn, steps, strict=True), 1):
            before = steps[: number - 1].count(timesteps)
            name = f"snn T={timesteps}" + (f" ({before + 1})" if before else "")
            key = f"snn.{number - 1}"
            yield Training(self.context, section, key, name, number, timesteps)
