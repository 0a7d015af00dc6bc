"""Joining the refusals of a network's activations and gates into one message."""

from __future__ import annotations

import re
from typing import final

from torch import fx

from leanspike.errors import SurgeryError

DECLARED = re.compile(r"activations=\(([^(),]+),\)|ops=\{([^{}:]+): 'analog'\}")
"""The advice in a refusal: a further activation, or an operation to be kept as it is."""
NO_ACTIVATION = (
    "the network has no activation to replace; use nn.ReLU, or write your own as a module, "
    "as class Act, and name it: activations=(Act,)"
)


@final
class Advice:
    """Collects the refusals that a declaration would lift, so that the user sees all at once.

    >>> advice = Advice()
    >>> graph = fx.Graph()
    >>> node = graph.call_method("x")
    >>> advice.note(node, SurgeryError("a: SiLU is no ReLU; say activations=(nn.SiLU,)"))
    True
    >>> advice.note(node, SurgeryError("b: a gate; say ops={nn.Sigmoid: 'analog'}"))
    True
    >>> advice.give()
    Traceback (most recent call last):
    leanspike.errors.SurgeryError: a: ...; for all that this network has, say \
activations=(nn.SiLU,), ops={nn.Sigmoid: 'analog'}
    """

    def __init__(self) -> None:
        self.first: SurgeryError | None = None
        self.activations: dict[str, None] = {}
        self.kept: dict[str, str | None] = {}  # operation to the activation that it may also be

    def note(self, node: fx.Node, error: SurgeryError) -> bool:
        """Remember a refusal; return False if no declaration would lift it.

        An operation may be an activation or a gate. The advice is to keep it if it multiplies
        something else or is an output.
        """
        spelled = [found.groups() for found in DECLARED.finditer(str(error))]
        activations = [activation for activation, _ in spelled if activation]
        kept = [op for _, op in spelled if op]
        if not spelled:
            return False
        self.first = self.first or error
        if kept and (not activations or node.meta.get("use") is not None):
            self.kept[kept[0]] = next(iter(activations), None)
        else:
            self.activations[activations[0]] = None
        return True

    def give(self, *, fires: bool = True) -> None:
        """Raise the first refusal, if there is one, with advice that lifts all of them.

        ``fires`` tells whether the network has an activation that is replaced by default.
        """
        if self.first is None:
            return
        if not (fires or self.activations):
            op = next((op for op, activation in self.kept.items() if activation), None)
            if op is not None:
                self.activations[str(self.kept.pop(op))] = None
        lacking = "" if fires or self.activations else f"; besides, {NO_ACTIVATION}"
        if len(self.activations) + len(self.kept) == 1:
            raise SurgeryError(f"{self.first}{lacking}")
        both = [op for op in self.kept if op in self.activations]
        kept = [op for op in self.kept if op not in both] + ["Kept"] * bool(both)
        listed = ", ".join(self.activations) + "," * (len(self.activations) == 1)
        named = f"activations=({listed})" if self.activations else ""
        entries = ", ".join(f"{op}: 'analog'" for op in kept)
        said = ", ".join(filter(None, [named, f"ops={{{entries}}}" if entries else ""]))
        own = f"write a kept {' or '.join(both)} as a module of your own, class Kept, and "
        raise SurgeryError(
            f"{self.first}; for all that this network has, {own * bool(both)}say {said}{lacking}"
        )
