"""What a step of a run is, and what the steps share."""

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
    """What the steps of a run share: what is made, where it goes, who is told."""

    assembly: Assembly
    workspace: Workspace
    monitor: Monitor

    @property
    def group(self) -> Group:
        """The processes that do the steps together."""
        return self.workspace.group

    def save(self, network: nn.Module, name: str) -> None:
        """A network of the run's appears in its folder, whole."""
        self.workspace.put(name, lambda part: self.assembly.write(network, part))

    def read(self, name: str) -> nn.Module:
        """One of the run's networks, in eval mode, on the CPU."""
        return self.assembly.read(self.workspace.folder / name)

    def load(self, name: str) -> nn.Module:
        """Return the same on the run's device, in its memory format."""
        return self.assembly.placed(self.read(name))

    def teacher(self) -> Teacher:
        """Return the network that teaches, by the recipe or the run's own ANN."""
        return self.assembly.teacher() or Teacher(self.load("ann"), self.assembly.dtype)


@final
@dataclass
class Rehearsal:
    """What a rehearsal hands from step to step: networks that may not be trained yet.

    With ``fresh`` what the folder holds is as if it were not there.
    """

    fresh: bool = False
    ann: nn.Module | None = None
    snn: nn.Module | None = None
    teacher: Teacher | None = None

    def finds(self, step: Step) -> bool:
        """Whether a step is done, so that what it left is taken instead of a rehearsal of it."""
        return not self.fresh and step.done()


class Step(Protocol):
    """A part of a run that leaves something in its folder."""

    def done(self) -> bool:
        """Return whether the folder holds what the step leaves."""
        ...

    def rehearse(self, rehearsal: Rehearsal, /) -> None:
        """Try it on a blank input, so that what does not fit is found first; nothing is written.

        Raises:
            LeanspikeError: for parts that do not fit together, or weights that are not there.
        """
        ...

    def do(self) -> object:
        """Do it, from wherever an earlier attempt was stopped."""
        ...
