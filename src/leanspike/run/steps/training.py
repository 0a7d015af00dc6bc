"""A stage of training, of the ANN or the SNN, which can be rehearsed and done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from rich.table import Table
from torch import Tensor, nn

from leanspike.config import TrainSection
from leanspike.engine import train_whole, whole_layers
from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation.answers import outputs
from leanspike.memory import release_freed_memory
from leanspike.modes import eval_mode
from leanspike.run.build import build_objective
from leanspike.run.steps.step import Context
from leanspike.temporal import dropout_rate
from leanspike.train import (
    Feature,
    Objective,
    Pair,
    Resolution,
    Stage,
    Teacher,
    create_optimizer,
    create_schedule,
    fit,
    macs_of,
)
from leanspike.train.schedule import Schedule


@final
@dataclass(frozen=True)
class Training:
    """A stage of training, described by a section of the recipe.

    ``key`` is the section's place in the recipe. ``name`` is the stage's name in the log.
    """

    context: Context
    section: TrainSection
    key: str
    name: str
    number: int
    timesteps: int | None

    def rehearse(self, network: nn.Module, teacher: Teacher) -> None:
        """Compute a loss of a blank input, and check that there is data to choose epochs by."""
        self._check_select()
        _schedule(self.section, epoch_steps=1)
        self._check_lookahead()
        if self.section.weights != "f32":
            whole_layers(network, self.section.weights)
        assembly = self.context.assembly
        network.to(assembly.device)
        teacher.network.to(assembly.device)
        x = assembly.blank()
        objective = build_objective(self.section, network, lambda: teacher, x, assembly.data.task)
        self._try(network, objective, x)
        if self.section.resolution is not None:
            self._try_small(network, objective, x, self.section.resolution)

    def _try_small(
        self, network: nn.Module, objective: Objective, x: Tensor, resolution: Resolution
    ) -> None:
        """Check that the smaller images of a stage suit data and network."""
        try:
            small = resolution.shrunk(x)
        except LeanspikeError as error:
            raise LeanspikeError(f"{self.key}.{error}") from None
        try:
            self._try(network, objective, small)
        except (RuntimeError, ValueError, LeanspikeError) as error:
            raise LeanspikeError(
                f"{self.key}.resolution.size is {resolution.size}, and smaller images fail "
                f"({one_line(error)}); leave resolution out, or take a network that pools over "
                "whole images before its head"
            ) from error

    def _try(self, network: nn.Module, objective: Objective, x: Tensor) -> None:
        """Compute the loss of an input."""
        with torch.no_grad(), eval_mode(network):
            with dropout_rate(network, self.section.dropout), objective.watch(network):
                y_TNK = outputs(network, x, self.timesteps)
            labels = torch.zeros_like(self.context.assembly.data.train.labels[:1]).to(x.device)
            objective(y_TNK, labels, x)

    def do(self, network: nn.Module) -> None:
        """Train the network in place, resumed from the stage's checkpoint if there is one."""
        context = self.context
        context.workspace.rewind(self.name)  # a checkpoint of the stage holds its own rows
        phase = f"train {self.name}"
        context.workspace.keep_macs(phase, None)
        with context.workspace.clock(phase, context.assembly.dtype):
            release_freed_memory()
            network.to(device=context.assembly.device)
            network.to(memory_format=context.assembly.memory_format)
            stage = self.stage(network, context.teacher)
            with dropout_rate(network, self.section.dropout):
                workspace = context.workspace
                fit(network, stage, workspace.history, workspace.checkpoints, context.monitor)
        workspace.keep_macs(phase, macs_of(workspace.history, self.name))

    def _check_select(self) -> None:
        data = self.context.assembly.data
        if self.section.select == "best" and self.section.epochs and not len(data.val):
            tenth = max(1, len(data.train) // 10)
            raise LeanspikeError(
                f"{self.key}.select is 'best', by the accuracy on held-out images, but {data.name} "
                f"holds out none; set {self.key}.select=last, or data.validation={tenth}"
            )

    def _check_lookahead(self) -> None:
        section, assembly = self.section, self.context.assembly
        if section.lookahead is not None:
            steps = len(assembly.loader(assembly.data.train, section.batch_size, train=True))
            section.lookahead.check(self.name, section.epochs * steps)

    def stage(self, network: nn.Module, teacher: Callable[[], Teacher]) -> Stage:
        """Return all that trains the network, with the teacher that its objective may ask."""
        assembly, section = self.context.assembly, self.section
        data, recipe = assembly.data, assembly.recipe
        group, accumulate = self.context.group, section.accumulate
        train = assembly.loader(data.train, section.batch_size, True, group, accumulate)
        objective = self._objective(network, teacher)
        return Stage(
            name=self.name,
            number=self.number,
            epochs=section.epochs,
            timesteps=self.timesteps,
            train=train,
            val=assembly.loader(data.val, recipe.evaluate.batch_size, group=group),
            objective=objective,
            optimizer=_optimizer(section, network, objective),
            schedule=_schedule(section, len(train)),
            seed=recipe.seed,
            dtype=assembly.dtype,
            select=section.select,
            max_gradient_norm=section.max_gradient_norm,
            average=section.average,
            lookahead=section.lookahead,
            resolution=section.resolution,
            gradient=section.gradient,
            task=data.task,
            group=group,
            accumulate=accumulate,
            synchronise_norms=section.synchronise_norms,
        )

    def _objective(self, network: nn.Module, teacher: Callable[[], Teacher]) -> Objective:
        assembly = self.context.assembly
        torch.manual_seed(assembly.recipe.seed)  # adapters of features begin at random
        x, task = assembly.blank(), assembly.data.task
        objective = build_objective(self.section, network, teacher, x, task)
        for part in objective.modules():
            if isinstance(part, Feature):
                self.context.monitor.console.print(_pairs_table(part.pairs))
        return objective


def _optimizer(
    section: TrainSection, network: nn.Module, objective: Objective
) -> torch.optim.Optimizer:
    optimizer = create_optimizer(
        nn.ModuleList([network, objective]),
        section.optimizer.name,
        learning_rate=section.learning_rate,
        neuron_learning_rate=section.neuron_learning_rate,
        bias_learning_rate=section.bias_learning_rate,
        weight_decay=section.weight_decay,
        decay_norms=section.decay_norms,
        options=section.optimizer.options,
    )
    if section.weights != "f32":
        train_whole(network, optimizer, section.weights)
    return optimizer


def _schedule(section: TrainSection, epoch_steps: int) -> Schedule:
    """Return the schedule of a stage whose epochs have ``epoch_steps`` training steps."""
    return create_schedule(
        section.schedule.name,
        section.epochs * epoch_steps,
        section.warmup,
        epoch_steps=epoch_steps,
        options=section.schedule.options,
    )


def _pairs_table(pairs: Sequence[Pair]) -> Table:
    """Return a table of the student's modules and the teacher's modules they learn from."""
    table = Table(title="feature maps", title_justify="left", box=None)
    for column in ("student", "C, H, W", "teacher", "C, H, W"):
        table.add_column(column)
    for pair in pairs:
        ours, theirs = (", ".join(map(str, s)) for s in (pair.student_shape, pair.teacher_shape))
        table.add_row(pair.student, ours, pair.teacher, theirs)
    return table
