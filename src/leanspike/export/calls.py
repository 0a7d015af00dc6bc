"""What the export rules need of a call: its name, inputs and options; and its refusal."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from leanspike.errors import LeanspikeError
from leanspike.export.walk import Walk
from leanspike.export.wires import Wire
from leanspike.graph.ops import OPERATIONS, op_of

HOLDS = "NIR holds convolutions, linear layers, average pools, flatten, sums and neurons"


def path_of(node: fx.Node) -> str:
    """Return a node's name in messages and files: a module's path, or the place of a call."""
    return str(node.target) if node.op == "call_module" else str(node.meta.get("place", node.name))


def read(node: fx.Node, walk: Walk) -> Wire:
    """Return the only wire that a node reads, its first argument."""
    wire = walk.wire(node.args[0] if node.args else None)
    if wire is None or any(walk.wire(other) for other in node.args[1:]):
        refused(node, walk)
    assert wire is not None
    return wire


def options(node: fx.Node, walk: Walk, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call after its first, or the module's attributes of these names."""
    if node.op == "call_module":
        module = walk.module(node)
        return {name: getattr(module, name) for name in defaults}
    given = dict(zip(defaults, node.args[1:], strict=False))
    return {**defaults, **given, **node.kwargs}


def kept(value: Tensor | None) -> Any:
    """Return a copy of a tensor for a file, on the CPU, or None for None."""
    return None if value is None else value.detach().cpu().clone()


def refused(node: fx.Node, walk: Walk) -> Any:
    """Raise LeanspikeError for an operation that parts cannot hold, with its path and a way out."""
    name = getattr(node.target, "__name__", str(node.target))
    op, path = op_of(node, walk.root), path_of(node)
    name = op.__name__ if isinstance(op, type) else name
    if OPERATIONS.row(op).max_pool:
        raise LeanspikeError(
            f"module {path}: {name} takes maxima, but {HOLDS}; train with average pools "
            "(model.options.pool=avg, or nn.AvgPool2d)"
        )
    raise LeanspikeError(
        f"module {path}: {name} cannot be exported, since {HOLDS}; train a network without it"
    )
