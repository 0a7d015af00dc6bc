"""The declared facts of an edge of the graph, and a call as the rules of the table see it.

- ``timed``: the edge depends on the timestep;
- ``kind`` ``spike``: every entry is 0 or one known height;
- ``graded``: a sum of spikes with fixed weights (averages, sums of branches), whose cost is that
  of the spikes underneath;
- ``analog``: anything else;
- ``constant``: a parameter or buffer, which has no batch axis;
- ``None``: not a tensor (a size, a number).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import fx, nn
from torch.nn import functional

from leanspike.errors import SurgeryError

Kind = Literal["spike", "graded", "analog", "constant"]


@dataclass(frozen=True)
class Signal:
    """The declared facts of an edge: whether it depends on the timestep, and its kind."""

    timed: bool
    kind: Kind | None


@dataclass(frozen=True)
class Whole:
    """A module that may be an activation: its class name, and whether it makes a single call."""

    name: str
    alone: bool


def name_of(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, or the path of the module."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def argument(
    node: fx.Node, module: nn.Module | None, position: int, name: str, default: Any = None
) -> Any:
    """Return an argument of the call at a node, or the called module's attribute of that name."""
    if module is not None:
        return getattr(module, name, default)
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


@dataclass(frozen=True)
class Call:
    """A call of the traced network, as the rules see it.

    ``inputs`` are the facts of the tensor inputs, ``shapes`` their shapes for the example input.
    """

    node: fx.Node
    where: str
    module: nn.Module | None
    inputs: tuple[Signal, ...]
    shapes: tuple[torch.Size, ...]
    out_shape: torch.Size | None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument of the call, or the attribute of that name of the called module."""
        return argument(self.node, self.module, position, name, default)

    @property
    def name_of_op(self) -> tuple[str, str]:
        """The name of the operation in words, and as code for ``ops`` or ``activations``."""
        target = self.node.target
        op = type(self.module) if self.module is not None else target
        if isinstance(op, str):
            return op, repr(op)
        name = str(getattr(op, "__name__", op))
        spaces = (("nn", nn), ("torch", torch), ("F", functional), ("operator", operator))
        for space, holder in spaces:
            if vars(holder).get(name) is op and not name.startswith("_"):
                return name, f"{space}.{name}"
        found = (
            (other, f"{space}.{other}")  # F.threshold, which calls itself _threshold
            for space, holder in spaces
            for other, value in vars(holder).items()
            if value is op and not other.startswith("_")
        )
        return next(found, (name, name))

    @property
    def whole(self) -> Whole | None:
        """The user's module around this call, if it computes a function of entries as a whole.

        It is None if the module only wraps a single module, which is named itself.
        """
        whole: Whole | None = self.node.meta.get("whole")
        return None if whole is None or (whole.alone and self.module is not None) else whole

    def refuse(self, why: str, fix: str) -> NoReturn:
        """Raise SurgeryError with the place, the reason and the way out."""
        raise SurgeryError(f"{self.where}: {why}; {fix}")

    def check_axes(self, axes: Any) -> None:
        """Refuse an operation along axis 0, where time and samples are stacked."""
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

    def operands(self) -> list[Any]:
        """Return the operands of a call of two operands, in order. One given twice counts twice."""
        named = [self.node.kwargs[name] for name in ("input", "other") if name in self.node.kwargs]
        return [*self.node.args[:2], *named]

    @property
    def kinds(self) -> set[Kind | None]:
        """The kinds of the tensor inputs."""
        return {signal.kind for signal in self.inputs if signal.kind is not None}
