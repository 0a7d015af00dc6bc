"""Keeping the samples on axis 0 where a network moves them away for a moment.

Attention commonly writes ``q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)``, and several heads end
in ``torch.stack(logits).mean(0)``. There the samples lie behind an axis that the next call takes
apart or sums. With the samples first the results are the same tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

PERMUTES = ("permute", torch.permute)
UNBINDS = ("unbind", torch.unbind)
REDUCES = ("sum", "mean", "amax", torch.sum, torch.mean, torch.amax)


def keep_batch_first(graph: fx.Graph) -> None:
    """Rewrite such calls in place with the samples first. The checks refuse all others later.

    >>> graph = fx.Graph()
    >>> moved = graph.call_method("permute", (graph.placeholder("x"), 2, 0, 1))
    >>> parts = graph.call_method("unbind", (moved, 0))
    >>> keep_batch_first(graph)
    >>> moved.args[1:], parts.args[1:]
    ((0, 2, 1), (1,))
    """
    signals = _made_of_input(graph)
    for node in graph.nodes:
        order = _order(node)
        stacks = node.target is torch.stack and _dim(node) == 0
        stacks = stacks and signals.issuperset(node.all_input_nodes)
        if order[1:2] != [0] and not stacks:
            continue
        written = {user: _with_samples_first(user) for user in node.users}
        if None in written.values():
            continue
        if stacks:
            node.args, node.kwargs = (_argument(node, 0, "tensors"), 1), {}
        else:
            node.args, node.kwargs = (node.args[0], 0, order[0], *order[2:]), {}
            node.target, node.op = "permute", "call_method"
        for user, args in written.items():
            user.args, user.kwargs = (node, *(args or ())), {}


def _made_of_input(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that depend on the network's input, unlike constants."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _order(node: fx.Node) -> list[int]:
    """Return the axes of a permutation; [] for another call, or if axes are no plain numbers."""
    if not node.op.startswith("call") or node.target not in PERMUTES:
        return []
    rest = node.args[1:] or (node.kwargs.get("dims", ()),)
    axes: Any = rest[0] if isinstance(rest[0], (tuple, list)) else rest
    return [axis % len(axes) for axis in axes] if all(isinstance(a, int) for a in axes) else []


def _with_samples_first(user: fx.Node) -> tuple[Any, ...] | None:
    """Return a call's arguments for axis 1 if it takes axis 0 apart; None for any other call."""
    if user.target in UNBINDS:
        return (1,) if _dim(user) == 0 else None
    if user.target in REDUCES:
        alone = len(user.args) + len(user.kwargs) == 2
        return (1,) if alone and _dim(user, default=None) in (0, (0,), [0]) else None
    if getattr(user.target, "__name__", None) != "getitem":
        return None
    given = user.args[1]
    items: tuple[Any, ...] = given if isinstance(given, tuple) else (given,)
    samples = items[1] if len(items) > 1 else slice(None)
    if not isinstance(items[0], int) or samples != slice(None):
        return None
    return ((slice(None), *items[:1], *items[2:]),)


def _argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _dim(node: fx.Node, default: Any = 0) -> Any:
    return _argument(node, 1, "dim", default)
