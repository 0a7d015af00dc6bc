"""The step that trains the SNN of a run through its stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from torch import nn

from leanspike.run.steps.step import Context, Rehearsal
from leanspike.run.steps.training import Training


@final
class TrainSNN:
    """The step that makes ``snn/``, trained through each stage of the recipe in turn."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.stages = tuple(self._stages())

    def done(self) -> bool:
        """Return whether the trained SNN is in the folder."""
        return self.context.workspace.has("snn")

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
        workspace = self.context.workspace
        for stage in self.stages:
            if stage.number < done:
                continue
            stage.do(snn)
            workspace.checkpoints.save(
                {
                    "stage": stage.number + 1,
                    "network": snn.state_dict(),
                    "history": workspace.history,
                }
            )
        self.context.save(snn, "snn")

    def _resume(self, snn: nn.Module) -> int:
        """Return the stage of the checkpoint, and load a checkpoint from between two stages."""
        workspace = self.context.workspace
        saved = workspace.checkpoints.load()
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
