"""What is declared of an edge of the graph, and a call as the rules of the table see it.

- ``timed``: it depends on the timestep;
- ``kind`` ``spike``: every entry is 0 or one known height;
- ``graded``: a sum of spikes with fixed weights (averages, sums of branches), whose cost is that
  of the spikes underneath;
- ``analog``: anything else;
- ``constant``: a parameter or buffer, which has no batch axis;
- ``None``: not a tensor (a size, a number).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import fx, nn

from leanspike.errors import SurgeryError

Kind = Literal["spike", "graded", "analog", "constant"]


@dataclass(frozen=True)
class Signal:
    """What is declared of an edge: does it depend on the timestep, and what does it carry."""

    timed: bool
    kind: Kind | None


@dataclass(frozen=True)
class Call:
    """One operation of the traced network, as the rules see it.

    ``shapes`` are those of the tensor inputs for the example input, ``inputs`` their facts.
    """

    node: fx.Node
    where: str
    module: nn.Module | None
    inputs: tuple[Signal, ...]
    shapes: tuple[torch.Size, ...]
    out_shape: torch.Size | None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of the call, or the attribute of that name of the called module."""
        if self.module is not None:
            return getattr(self.module, name, default)
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def refuse(self, why: str, fix: str) -> NoReturn:
        """Stop the surgery: where, why, and the way out."""
        raise SurgeryError(f"{self.where}: {why}; {fix}")

    def check_axes(self, axes: Any) -> None:
        """Refuse an operation along axis 0, where time and samples are stacked together."""
        if axes is None:
            self.refuse("works on all axes, samples included", "name the axes, without 0")
        rank = len(self.shapes[0])
        for axis in axes if isinstance(axes, (tuple, list)) else (axes,):
            if not isinstance(axis, int):
                self.refuse("works on an axis that it computes", "write the axis as a number")
            if axis in (0, -rank):
                self.refuse(
                    f"works on axis {axis}, which holds the samples (and timesteps)",
                    "use the other axes only",
                )

    @property
    def kinds(self) -> set[Kind | None]:
        """The kinds of the tensor inputs."""
        return {signal.kind for signal in self.inputs if signal.kind is not None}
