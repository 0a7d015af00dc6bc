"""Running a traced network with one sample more, to see which sizes grow with the samples."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import check_memory, one_line
from leanspike.graph.sizes import Sizes
from leanspike.modes import buffers_kept


def grow(ann: nn.Module, graph: fx.Graph, example_input: Tensor, sizes: Sizes) -> None:
    """Note at each node how its result changes with one sample more.

    ``more`` is the new shape of a tensor. ``fails`` says why the network fails at a node. ``grows``
    stands at a number that changes with the number of samples: the factor between both, or None.
    Sizes that begin with such a number have ``grows`` and ``several``.
    """
    try:
        with torch.no_grad(), buffers_kept(ann):
            _Growth(ann, graph).run(torch.cat([example_input, example_input[:1]]))
    except Exception as error:  # the node's ``fails`` says where, unless memory ended
        check_memory(error, example_input.shape)
    for node in graph.nodes:
        if node.op.startswith("call") and node.meta["shape"] is None:
            number = sizes.per_sample(node)
            if number != 0:
                node.meta["grows"] = number


@final
class _Growth(fx.Interpreter):
    def __init__(self, ann: nn.Module, graph: fx.Graph) -> None:
        super().__init__(ann, graph=graph)
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        """Run a node as usual; note the shape of its result, or the error."""
        try:
            value = super().run_node(n)
        except Exception as error:
            n.meta["fails"] = one_line(error)[:160]
            raise
        n.meta["more"] = value.shape if isinstance(value, Tensor) else None
        n.meta["several"] = isinstance(value, tuple | list)
        return value
