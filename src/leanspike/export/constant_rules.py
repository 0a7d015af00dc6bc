"""The export rules of neurons, of constants, and of shapes that a network reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from leanspike.export.walk import Walk
from leanspike.neuron import Neuron, Recorded


def neuron_of(node: fx.Node, walk: Walk) -> Neuron | None:
    """Return the neuron whose ``step`` a node calls, or None."""
    read = node.args[0] if node.op == "call_method" and node.target == "step" else None
    found = walk.values.get(read) if isinstance(read, fx.Node) else None
    return found if isinstance(found, Neuron) else None


def spikes(node: fx.Node, walk: Walk) -> Any:
    """Return the spikes of a neuron's step. The parts keep the state themselves."""
    neuron, wire = walk.values[node.args[0]], walk.wire(node.args[1])  # type: ignore[index]
    assert wire is not None
    assert isinstance(neuron, Recorded)
    path = str(node.args[0].target)  # type: ignore[union-attr]
    return walk.spiking(path, neuron.record(), wire), None


def attribute(node: fx.Node, walk: Walk) -> Any:
    """Return a parameter, a buffer or a module of the network."""
    found: Any = walk.root
    for name in str(node.target).split("."):
        found = getattr(found, name)
    return found


def nothing(node: fx.Node, walk: Walk) -> Any:  # noqa: ARG001
    """Return None, for states and inputs beside the image, which no part reads."""
    return None


def constant(node: fx.Node, walk: Walk) -> Any:
    """Return the value of a call that does not depend on the input."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), walk.values.__getitem__)
    if node.op == "call_module":
        return walk.module(node)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def sizes(node: fx.Node, walk: Walk) -> Any:
    """Return the shape of one sample, or one size of it."""
    wire = walk.wire(node.args[0])
    assert wire is not None
    shape = torch.Size((1, *wire.shape))
    if node.target == "dim":
        return len(shape)
    if node.target == "size" and node.args[1:]:
        return shape[node.args[1]]  # type: ignore[index]
    return shape
