"""The samples kept on axis 0 where a network moves them for a moment.

Attention commonly writes ``q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)``. The samples are behind
an axis that is taken apart at once. With the samples first it is the same three tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

PERMUTES = ("permute", torch.permute)
UNBINDS = ("unbind", torch.unbind)


def keep_batch_first(graph: fx.Graph) -> None:
    """Write such calls with the samples first, in place; others stay for the checks to refuse.

    >>> graph = fx.Graph()
    >>> moved = graph.call_method("permute", (graph.placeholder("x"), 2, 0, 1))
    >>> parts = graph.call_method("unbind", (moved, 0))
    >>> moved.meta["shape"] = torch.Size([3, 1, 5])
    >>> keep_batch_first(graph)
    >>> moved.args[1:], parts.args[1:], moved.meta["shape"]
    ((0, 2, 1), (1,), torch.Size([1, 3, 5]))
    """
    for node in graph.nodes:
        order = _order(node)
        shape = node.meta.get("shape")
        if shape is None or order[1:2] != [0]:
            continue
        written = {user: _with_samples_first(user) for user in node.users}
        if None in written.values():
            continue
        kept = (0, order[0], *order[2:])
        node.args, node.kwargs = (node.args[0], *kept), {}
        node.target, node.op = "permute", "call_method"
        node.meta["shape"] = torch.Size((shape[1], shape[0], *shape[2:]))
        for user, args in written.items():
            user.args, user.kwargs = (node, *(args or ())), {}


def _order(node: fx.Node) -> list[int]:
    """The axes of a permutation; [] for another call, or for axes that are no plain numbers."""
    if not node.op.startswith("call") or node.target not in PERMUTES:
        return []
    rest = node.args[1:] or (node.kwargs.get("dims", ()),)
    axes: Any = rest[0] if isinstance(rest[0], (tuple, list)) else rest
    return [axis % len(axes) for axis in axes] if all(isinstance(a, int) for a in axes) else []


def _with_samples_first(user: fx.Node) -> tuple[Any, ...] | None:
    """The arguments of a call that takes axis 0 apart, for axis 1; None for any other call."""
    if user.target in UNBINDS:
        dim = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim", 0)
        return (1,) if dim == 0 else None
    if getattr(user.target, "__name__", None) != "getitem":
        return None
    given = user.args[1]
    items: tuple[Any, ...] = given if isinstance(given, tuple) else (given,)
    samples = items[1] if len(items) > 1 else slice(None)
    if not isinstance(items[0], int) or samples != slice(None):
        return None
    return ((slice(None), *items[:1], *items[2:]),)
