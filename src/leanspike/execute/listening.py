"""Listening to a network: what some of its operations give, with gradients, while it trains.

Unlike a hook of a module, this hears operations that are functions. Norms and neurons stay fused
meanwhile, and with rate gradients the means are heard, which carry the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from leanspike.execute.network import SpikingNetwork

Listener = Callable[[str, Tensor, Tensor], None]
"""A function called with the name of a node of the plan's graph, the node's value, and what carries
the value's gradient: the value itself, or with rate gradients the mean over its steps."""


@dataclass(frozen=True, eq=False)
class Listening:
    """One who listens to some nodes, by their names in the plan's graph."""

    network: SpikingNetwork
    names: Collection[str]
    listener: Listener


_listening: ContextVar[tuple[Listening, ...]] = ContextVar("leanspike_listening", default=())


@contextmanager
def listening(
    network: SpikingNetwork, names: Collection[str], listener: Listener
) -> Iterator[None]:
    """Tell ``listener`` the values of these nodes, while ``network`` runs in this context.

    A value has the shape that it has in the graph: ``[T, N, ...]`` for neurons, ``[T*N, ...]`` for
    what follows. A compiled network tells nothing.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> snn, heard = spike(ann, example_input=torch.zeros(1, 2), timesteps=3), []
    >>> with listening(snn, ["_1_1"], lambda name, value, by: heard.append((name, value.shape))):
    ...     _ = snn(torch.rand(5, 2))
    >>> heard
    [('_1_1', torch.Size([3, 5, 4]))]
    """
    before = _listening.set((*_listening.get(), Listening(network, names, listener)))
    try:
        yield
    finally:
        _listening.reset(before)


def listeners_of(network: SpikingNetwork) -> tuple[Listening, ...]:
    """Return those who listen to a network now."""
    if torch.compiler.is_compiling():
        return ()
    return tuple(one for one in _listening.get() if one.network is network)


def name_in_plan(node: fx.Node) -> str:
    """Return the name that a node of the graph of a training step has in the plan's graph.

    >>> name_in_plan(fx.Graph().placeholder("x"))
    'x'
    """
    return str(node.meta.get("name", node.name))
