"""Names of operations, as saved models hold them. Finding one imports nothing.

A method is named as ``.relu``, and a part of PyTorch as ``torch.nn.ReLU6`` or
``torch.nn.functional.silu``. Anything else has the name of its module and its own.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from leanspike.errors import LeanspikeError
from leanspike.graph.operation import Operation

ROW = "row"
"""The text in place of a whole row, which cannot be saved."""

PLACES: dict[str, ModuleType] = {
    "torch.nn": nn,
    "torch.nn.functional": F,
    "torch": torch,
    "torch.special": torch.special,
    "operator": operator,
}


@dataclass(frozen=True)
class Declared:
    """The operations that a call of ``spike`` declared, by name.

    >>> Declared.of([nn.ReLU6], {torch.roll: "same"})
    Declared(activations=('torch.nn.ReLU6',), ops={'torch.roll': 'same'})
    """

    activations: tuple[str, ...] = ()
    ops: Mapping[str, str | None] = field(default_factory=dict)

    @staticmethod
    def of(activations: Iterable[Any], ops: Mapping[Any, Any]) -> Declared:
        """Return the declarations in the arguments of ``spike``."""
        meanings = {
            name_of_operation(op): ROW if isinstance(meaning, Operation) else meaning
            for op, meaning in ops.items()
        }
        return Declared(tuple(map(name_of_operation, activations)), meanings)


def name_of_operation(op: Any) -> str:
    """Return the name of a module type, of a function, or of a method given as a string.

    >>> name_of_operation(nn.PReLU), name_of_operation(torch.relu), name_of_operation("relu6")
    ('torch.nn.PReLU', 'torch.relu', '.relu6')
    """
    if isinstance(op, str):
        return f".{op}"
    for place, module in PLACES.items():
        known = next((name for name, value in vars(module).items() if value is op), None)
        if known is not None:
            return f"{place}.{known}"
    return f"{getattr(op, '__module__', None)}.{getattr(op, '__qualname__', repr(op))}"


def find_operation(name: str, network: nn.Module, given: Collection[Any] = ()) -> Any:
    """Return the operation of a name, among PyTorch's, the network's module types and ``given``.

    Raises LeanspikeError for any other name.

    >>> find_operation("torch.nn.ReLU6", nn.Sequential())
    <class 'torch.nn.modules.activation.ReLU6'>
    >>> find_operation("os.system", nn.Sequential())
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: operation os.system is not in the network; ...
    """
    if name.startswith("."):
        return name[1:]
    place, _, last = name.rpartition(".")
    found = vars(PLACES[place]).get(last) if place in PLACES else None
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if callable(found) and not isinstance(found, type):
        return found
    types = {kind for module in network.modules() for kind in type(module).__mro__}
    own = [kind for kind in types if issubclass(kind, nn.Module)]
    for several in ([*given], own):
        alike = [op for op in several if name_of_operation(op) == name]
        alike = alike or [op for op in several if last_name(name_of_operation(op)) == last]
        if len(alike) == 1:
            return alike[0]
    raise LeanspikeError(
        f"operation {name} is not in the network; pass it to load as it was passed to "
        f"spike, in activations=({last},) or ops={{{last}: ...}}"
    )


def last_name(name: str) -> str:
    """Return the last part of a dotted name.

    >>> last_name("torch.nn.ReLU6")
    'ReLU6'
    """
    return name.rpartition(".")[2]
