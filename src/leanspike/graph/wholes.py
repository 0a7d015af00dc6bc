"""The user's modules that compute a function of entries as a whole, and the use of its result.

An activation may be written in several calls. A neuron replaces all of these calls together. A
refusal must name the module around them, if there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal

from torch import fx, nn

from leanspike.graph.disguise import multiplies
from leanspike.graph.ops import UNKNOWN, Operations
from leanspike.graph.signal import Whole, name_of

MOVES = ("view", "reshape", "expand", "expand_as", "unsqueeze", "flatten", "squeeze", "float")
"""The names of operations through which a gate may pass before it multiplies."""


def note_wholes(nodes: list[fx.Node], operations: Operations, root: nn.Module) -> None:
    """Note at each call the outermost such module around it (``whole``), and its ``use``."""
    groups: dict[str, list[fx.Node]] = {}
    for node in nodes:
        for key in _owners(node, operations):
            groups.setdefault(key, []).append(node)
    for key, calls in groups.items():  # outer modules come first
        if not _of_entries(calls, operations, root):
            continue
        kind = calls[0].meta["nn_module_stack"][key][1]
        found = Whole(str(getattr(kind, "__name__", kind)).rsplit(".", 1)[-1], len(calls) == 1)
        leaving = None if any(map(_is_product, calls)) else _first_use(calls)
        for call in calls:
            call.meta.setdefault("whole", found)
            call.meta.setdefault("use", leaving)
    for node in nodes:
        node.meta.setdefault("use", use_of(node))


def use_of(node: fx.Node, within: Collection[fx.Node] = ()) -> Literal["gate", "output"] | None:
    """Return "gate" if a call's result multiplies something, "output" if it leaves, else None.

    Moves in between do not matter. Uses by the calls ``within`` do not count.

    >>> graph = fx.Graph()
    >>> gate = graph.call_method("sigmoid", (graph.placeholder("x"),))
    >>> _ = graph.call_method("mul", (graph.call_method("view", (gate, -1, 1)), gate))
    >>> use_of(gate)
    'gate'
    """
    for user in [user for user in node.users if user not in within]:
        if user.op == "output":
            return "output"
        if multiplies(user):
            return "gate"
        if name_of(user) in MOVES and (use := use_of(user)) is not None:
            return use
    return None


def _first_use(calls: list[fx.Node]) -> Literal["gate", "output"] | None:
    return next((use for call in calls if (use := use_of(call, calls)) is not None), None)


def _is_product(call: fx.Node) -> bool:
    """Whether a call multiplies two signals, as a self-gating activation does."""
    return multiplies(call) and sum(n.op != "get_attr" for n in call.all_input_nodes) > 1


def _owners(node: fx.Node, operations: Operations) -> Iterator[str]:
    """Yield the user's modules around a call, outer ones first, by their keys in its stack.

    A layer is not around its own call, unless it is a subclass that computes more and is opened.
    """
    if not node.op.startswith("call"):
        return
    stack = list(node.meta.get("nn_module_stack", {}).items())
    if node.op == "call_module" and operations.row(stack[-1][1][1]) is not UNKNOWN:
        stack = stack[:-1]
    for key, (path, kind) in stack:
        if path and not str(getattr(kind, "__module__", kind)).startswith("torch."):
            yield key


def _of_entries(calls: list[fx.Node], operations: Operations, root: nn.Module) -> bool:
    """Whether these calls compute a function of one tensor, entry by entry."""
    inside = set(calls)
    reached: set[fx.Node] = set()
    entering: set[fx.Node] = set()
    for call in calls:
        signals = [n for n in call.all_input_nodes if _is_signal(n, inside, reached)]
        if not signals:
            continue
        reached.add(call)
        entering |= set(signals) - inside
        row = operations.row_of(call, root)
        if row.synapses or row.norm or row.dropout or row.max_pool:
            return False
    shapes = {call.meta.get("shape") for call in [*reached, *entering]} - {None}
    return len(entering) == 1 and len(shapes) == 1


def _is_signal(node: fx.Node, inside: set[fx.Node], reached: Collection[fx.Node]) -> bool:
    return node in reached or (node not in inside and node.op != "get_attr")
