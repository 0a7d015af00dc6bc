"""How many spikes lie under the entries of a signal: of spikes themselves, of pools and of sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from leanspike.graph.modules import called
from leanspike.graph.ops import Kind, Signal, row_of


def is_kind(node: fx.Node, kind: Kind) -> bool:
    """Return whether a node's value is a signal of that kind.

    >>> is_kind(fx.Graph().placeholder("x"), "spike")
    False
    """
    signal: Signal | None = node.meta.get("signal")
    return signal is not None and signal.kind == kind


def of_spikes(node: fx.Node) -> bool:
    """Return whether a node's value is spikes, or a sum of spikes.

    >>> of_spikes(fx.Graph().placeholder("x"))
    False
    """
    return is_kind(node, "spike") or is_kind(node, "graded")


def spikes_of(value: Tensor, kind: Kind | None) -> Tensor:
    """Return how many spikes each entry is; a count of events is as many as it says.

    >>> import torch
    >>> spikes_of(torch.tensor([2.0, -1.0]), "spike"), spikes_of(torch.tensor([2.0]), "graded")
    (tensor([1., 1.]), tensor([2.]))
    """
    return (value != 0).float() if kind == "spike" else value.abs()


def followed(
    node: fx.Node,
    root: nn.Module,
    counts: Mapping[fx.Node, Tensor],
    values: Mapping[fx.Node, Any],
) -> Tensor | None:
    """Return the spikes under each entry of a node's value, from those of the nodes that it reads.

    It is linear in ``counts``. None: a source is no sum of spikes that was followed.

    >>> import torch
    >>> graph = fx.Graph()
    >>> x = graph.placeholder("x")
    >>> pooled = graph.call_function(torch.mean, (x, 1))
    >>> for node in (x, pooled):
    ...     node.meta["signal"] = Signal(timed=True, kind="graded")
    >>> followed(pooled, nn.Module(), {x: torch.ones(1, 2)}, {})
    tensor([2.])
    """
    sources = [source for source in node.all_input_nodes if of_spikes(source)]
    follow = row_of(node, root).follow
    if follow is None or not sources or any(source not in counts for source in sources):
        return None
    args, named = fx.node.map_arg(
        (node.args, node.kwargs), lambda n: counts[n] if n in counts else _fixed(n, values)
    )
    return follow(called(node, root), args, named)


def _fixed(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Return what a graded signal is combined with: for weights, whether they are there."""
    value = values.get(node)
    if isinstance(value, Tensor) and value.is_floating_point():
        return (value != 0).to(value.dtype)
    return value
