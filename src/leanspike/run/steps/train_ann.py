"""The step that makes the ANN of a run, trained or with published weights."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import nn

from leanspike.graph.ops import is_batch_norm
from leanspike.run.own import ask_own, check_answers
from leanspike.run.steps.step import Context, Rehearsal
from leanspike.run.steps.training import Training
from leanspike.run.takeover import (
    check_not_begun,
    check_same_ann,
    check_same_weights,
    take_over,
)
from leanspike.run.taught import check_teacher, is_taught
from leanspike.train import Teacher


@final
class TrainANN:
    """The step that makes ``ann/``, trained or with published weights, if the SNN needs one.

    Args:
        context: the context of the run.
        ann_of: the folder of another run, whose ANN is taken over if it is the same.
    """

    def __init__(self, context: Context, ann_of: Path | None = None) -> None:
        self.context = context
        self.ann_of = ann_of
        section = context.assembly.recipe.ann
        self.training = (
            None
            if section is None
            else Training(context, section, key="ann", name="ann", number=0, timesteps=None)
        )

    def done(self) -> bool:
        """Return whether the ANN is in the folder."""
        return self.context.workspace.has("ann")

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Run the ANN and the teacher, and compute one loss."""
        assembly, done = self.context.assembly, rehearsal.finds(self)
        ann = self._network(done)
        check_answers(ann, assembly.recipe.model.name, assembly.data, assembly.blank())
        rehearsal.ann, rehearsal.teacher = ann, self._teacher(ann)
        if self.training is not None and not done and self.ann_of is None:
            self.training.rehearse(ann, rehearsal.teacher)
            if self.training.section.epochs:
                shift_norms(ann)  # as training does

    def do(self) -> None:
        """Train the ANN, resumed from its checkpoint if there is one, or take it over."""
        if self.ann_of is not None:
            take_over(self.context.workspace, self.context.assembly, self.ann_of)
            self.context.monitor.console.print(f"the ANN is that of {self.ann_of}", highlight=False)
            return
        recipe = self.context.assembly.recipe
        torch.manual_seed(recipe.seed)
        ann = self.context.assembly.ann()
        if recipe.model.weights is None:
            ann = self.context.assembly.begun(ann)
        if self.training is not None:
            self.training.do(ann)
        if self.training is not None or recipe.model.weights is not None:
            self.context.save(ann, "ann")

    def check_source(self, rehearsal: Rehearsal) -> None:
        """Check that the ANN of the other run, if one is named, may be this run's.

        Raises:
            LeanspikeError: if this run trains another ANN, or holds another one already.
        """
        if self.ann_of is None:
            return
        check_same_ann(self.context.assembly, self.ann_of)
        folder = self.context.workspace.folder
        if rehearsal.finds(self):
            check_same_weights(folder, self.ann_of)
        elif not rehearsal.fresh:
            check_not_begun(folder, self.ann_of)

    def _network(self, done: bool) -> nn.Module:
        """Return the ANN of the folder, of the other run, or a new one."""
        if done:
            return self.context.load("ann")
        assembly = self.context.assembly
        if self.ann_of is not None:
            return assembly.placed(assembly.read(self.ann_of / "ann"))
        return assembly.ann()

    def _teacher(self, ann: nn.Module) -> Teacher:
        """Return the teacher: the recipe's, after trying it, or this ANN."""
        assembly = self.context.assembly
        recipe = assembly.recipe
        if recipe.ann is None and not recipe.snn:  # nothing is trained
            return Teacher(ann)
        check_teacher(recipe)
        teacher = assembly.teacher()
        if recipe.teacher is None or teacher is None:
            return Teacher(ann)
        ask_own(teacher.network, recipe.teacher.model.name, assembly.blank())
        teacher.logits(assembly.blank())
        if not is_taught(recipe.ann, *recipe.snn):
            console = self.context.monitor.console
            console.print("the recipe's teacher is not used: no objective needs one")
        return teacher


def shift_norms(network: nn.Module) -> None:
    """Add a shift to every batch norm, as training does.

    >>> norm = nn.BatchNorm1d(2)
    >>> shift_norms(norm)
    >>> norm.bias.detach().ne(0).all().item()
    True
    """
    for module in network.modules():
        if is_batch_norm(module) and module.bias is not None:
            with torch.no_grad():
                module.bias.add_(0.1)
