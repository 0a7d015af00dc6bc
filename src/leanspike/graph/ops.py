"""The operations that may run on time stacked into the batch, each described by one row.

    >>> import torch
    >>> row(nn.MaxPool2d).max_pool, row(torch.relu).activation, row("flatten").norm
    (True, True, None)

An operation without a row is refused: it might mix timesteps or samples. leanspike's rows are in
:mod:`leanspike.graph.table`; :func:`register` adds others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache, partial
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, final

from torch import fx, nn

from leanspike.errors import LeanspikeError
from leanspike.graph import rules
from leanspike.graph.operation import (
    UNKNOWN,
    Norm,
    Operation,
    Synapses,
    at_inputs,
    at_outputs,
    at_rows,
)
from leanspike.graph.signal import Call, Kind, Signal
from leanspike.graph.table import FOREIGN, ROWS

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "OPERATIONS",
    "UNKNOWN",
    "Call",
    "Kind",
    "Meaning",
    "Norm",
    "Operation",
    "Operations",
    "Signal",
    "Synapses",
    "at_inputs",
    "at_outputs",
    "at_rows",
    "base",
    "is_batch_norm",
    "kin",
    "knows",
    "op_of",
    "register",
    "row",
    "row_of",
]

Meaning = Kind | Literal["same"] | None | Operation
"""What a user may declare of an operation for one call: the kind of its output, or a whole row."""


@final
class Operations:
    """A table of rows by module type, function and method name.

    A subclass of a layer has the layer's row if it overrides nothing that the layer's forward
    reads.

    >>> class Mine(nn.Conv2d): pass
    >>> class Other(nn.Conv2d):
    ...     def forward(self, x): return super().forward(x) ** 2
    >>> row(Mine) is row(nn.Conv2d), row(Other) is UNKNOWN, kin(Other) is row(nn.Conv2d)
    (True, True, True)
    """

    def __init__(self, rows: Mapping[Any, Operation]) -> None:
        self.rows: dict[Any, Operation] = dict(rows)

    def row(self, op: Any) -> Operation:
        """Return the row of a module type, a function or a method's name, or UNKNOWN."""
        found: Operation | None = self.rows.get(op)
        if found is not None:
            return found
        for base in _bases(op):
            found = self.rows.get(base, FOREIGN.get(f"{base.__module__}.{base.__qualname__}"))
            if found is not None and (found.family or _computes_as(op, base)):
                return found
        return UNKNOWN

    def row_of(self, node: fx.Node, root: nn.Module) -> Operation:
        """Return the row of the operation that a node of ``root``'s graph calls, or UNKNOWN.

        Neurons have the row UNKNOWN. A row that was given for one call of ``spike`` is stored at
        its node.
        """
        given: Operation | None = node.meta.get("row")
        return given or self.row(op_of(node, root))

    def knows(self, row: Operation) -> bool:
        """Return whether a row is leanspike's own, so that it holds all costs of its operation."""
        return any(row is known for known in ROWS.values()) or row is UNKNOWN

    def base(self, layer: type[nn.Module]) -> type:
        """Return the nearest base that has a row, or the layer itself."""
        return next((base for base in _bases(layer) if base in self.rows), layer)

    def kin(self, layer: type[nn.Module]) -> Operation:
        """Return the row of the nearest base that has one, whatever the layer computes."""
        return next((self.rows[base] for base in _bases(layer) if base in self.rows), UNKNOWN)

    def register(self, op: Any, operation: Operation) -> None:
        """Add the row of an operation: a module type, a function, or the name of a method.

        Raises:
            LeanspikeError: for anything else, for an operation that has a row, and for a row
                without a rule for the kind of the output.

        >>> register(nn.ReLU, Operation(rules.same))
        Traceback (most recent call last):
        leanspike.errors.LeanspikeError: ReLU has a row in the table already; for one call say ...
        """
        name = _name(op)
        if (not isinstance(op, str) and not callable(op)) or isinstance(op, nn.Module):
            raise LeanspikeError(
                f"{name} is no operation; give a module type, a function or the name of a method"
            )
        if op in self.rows:
            raise LeanspikeError(
                f"{name} has a row in the table already; for one call say what it means with "
                f"spike(..., ops={{{name}: ...}})"
            )
        fate = operation.activation or operation.refused or operation.twin
        if operation.kind is None and not fate:
            raise LeanspikeError(
                f"the row of {name} has no rule for the kind of its output; give one, as in "
                "Operation(kind=rules.analog)"
            )
        self.rows[op] = operation

    def for_call(self, meanings: Mapping[Any, Meaning], activations: Collection[Any]) -> Operations:
        """Return these rows together with the user's own for one call of ``spike``."""
        rows = {op: self._given(op, meaning) for op, meaning in meanings.items()}
        for op in activations:
            rows[op] = replace(rows.get(op, self.row(op)), activation=True, refused=None)
        return Operations({**self.rows, **rows})

    def _given(self, op: Any, meaning: Meaning) -> Operation:
        if isinstance(meaning, Operation):
            return meaning
        if meaning not in ("analog", "graded", "spike", "same", None):
            raise LeanspikeError(
                f"ops declares the kind {meaning!r}; choose one of analog, graded, spike, same, or "
                "None if the output is no tensor"
            )
        kind = rules.same if meaning == "same" else partial(rules.declared, kind=meaning)
        known = self.row(op)
        if known is UNKNOWN:  # its costs are those of its kin
            kin = self.kin(op)
            norm = kin.norm and replace(kin.norm, batch=False)  # no other norm takes its place
            known = Operation(synapses=kin.synapses, cost=kin.cost, norm=norm)
        return replace(known, kind=kind, check=None, refused=None)


def op_of(node: fx.Node, root: nn.Module) -> Any:
    """Return the key of a node's row: the called module's type, a function, or a method's name."""
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target)))
    return node.target if node.op in ("call_function", "call_method") else None


def is_batch_norm(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Return whether a module is a batch norm or a subclass of one, whatever its forward.

    >>> is_batch_norm(nn.BatchNorm2d(3)), is_batch_norm(nn.GroupNorm(1, 3))
    (True, False)
    """
    norm = kin(type(module)).norm
    return norm is not None and norm.batch


def _name(op: Any) -> str:
    return repr(op) if isinstance(op, str) else str(getattr(op, "__name__", repr(op)))


def _bases(op: Any) -> tuple[type, ...]:
    return op.__mro__ if isinstance(op, type) else ()


def _computes_as(layer: type, base: type) -> bool:
    """Whether a subclass overrides nothing that the forward of its base reads."""
    below = layer.__mro__[: layer.__mro__.index(base)]
    return not any(_read_by(base).intersection(vars(kind)) for kind in below)


@cache
def _read_by(layer: type) -> frozenset[str]:
    """Return the names in the code of a layer's forward, and of its methods called from there."""
    found = {"forward", "train", "__call__", "_call_impl", "__getattr__", "__getattribute__"}
    waiting = ["forward"]
    while waiting:
        code = getattr(getattr(layer, waiting.pop(), None), "__code__", None)
        new = set(_names(code)) - found if code is not None else set()
        found |= new
        waiting += new
    return frozenset(found)


def _names(code: CodeType) -> tuple[str, ...]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return code.co_names + tuple(name for part in inner for name in _names(part))


OPERATIONS = Operations(ROWS)

row: Callable[[Any], Operation] = OPERATIONS.row
base: Callable[[type[nn.Module]], type] = OPERATIONS.base
knows: Callable[[Operation], bool] = OPERATIONS.knows
row_of: Callable[[fx.Node, nn.Module], Operation] = OPERATIONS.row_of
kin: Callable[[type[nn.Module]], Operation] = OPERATIONS.kin
register: Callable[[Any, Operation], None] = OPERATIONS.register
