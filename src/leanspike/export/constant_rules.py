"""The rules of neurons, of constants, and of the shapes that a network asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from leanspike.export.walk import Walk
from leanspike.neuron import Neuron, Recorded


def neuron_of(node: fx.Node, walk: Walk) -> Neuron | None:
    """Return the neuron whose ``step`` is called."""
    read = node.args[0] if node.op == "call_method" and node.target == "step" else None
    found = walk.values.get(read) if isinstance(read, fx.Node) else None
    return found if isinstance(found, Neuron) else None


def spikes(node: fx.Node, walk: Walk) -> Any:
    """Return a neuron's step: spikes leave, and its state stays with the parts."""
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
    """States, and inputs beside the image: no part reads them."""
    return None


def constant(node: fx.Node, walk: Walk) -> Any:
    """Return what does not depend on the input is computed now."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), walk.values.__getitem__)
    if node.op == "call_module":
        return walk.module(node)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def sizes(node: fx.Node, walk: Walk) -> Any:
    """Return the shape of one sample, or a number of it."""
    wire = walk.wire(node.args[0])
    assert wire is not None
    shape = torch.Size((1, *wire.shape))
    if node.target == "dim":
        return len(shape)
    if node.target == "size" and node.args[1:]:
        return shape[node.args[1]]  # type: ignore[index]
    return shape
