"""The protocol of a run's steps, and what the steps share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

from torch import nn

from leanspike.distributed import Group
from leanspike.run.assembly import Assembly
from leanspike.run.workspace import Workspace
from leanspike.train import Monitor, Teacher


@final
@dataclass(frozen=True)
class Context:
    """The objects that the steps of a run share: parts, folder and progress display."""

    assembly: Assembly
    workspace: Workspace
    monitor: Monitor

    @property
    def group(self) -> Group:
        """The processes that do the steps together."""
        return self.workspace.group

    def save(self, network: nn.Module, name: str) -> None:
        """Save a network in the run's folder, where it appears whole."""
        self.workspace.put(name, lambda part: self.assembly.write(network, part))

    def read(self, name: str) -> nn.Module:
        """Return a network of the run, in eval mode, on the CPU."""
        return self.assembly.read(self.workspace.folder / name)

    def load(self, name: str) -> nn.Module:
        """Return a network of the run, on the run's device and in its memory format."""
        return self.assembly.placed(self.read(name))

    def teacher(self) -> Teacher:
        """Return the teacher: the recipe's, or the run's own ANN."""
        return self.assembly.teacher() or Teacher(self.load("ann"), self.assembly.dtype)


@final
@dataclass
class Rehearsal:
    """The networks that a rehearsal passes from step to step. They may not be trained yet.

    With ``fresh`` the content of the folder is ignored.
    """

    fresh: bool = False
    ann: nn.Module | None = None
    snn: nn.Module | None = None
    teacher: Teacher | None = None

    def finds(self, step: Step) -> bool:
        """Return whether a step is done, so that its result is loaded instead of rehearsed."""
        return not self.fresh and step.done()


class Step(Protocol):
    """A part of a run that leaves something in its folder."""

    def done(self) -> bool:
        """Return whether the result of the step is in the folder."""
        ...

    def rehearse(self, rehearsal: Rehearsal, /) -> None:
        """Try the step on a blank input, so that parts which do not fit are found. Write nothing.

        Raises:
            LeanspikeError: for parts that do not fit together, or weights that are not there.
        """
        ...

    def do(self) -> object:
        """Do the step, resumed from wherever an earlier attempt was stopped."""
        ...
