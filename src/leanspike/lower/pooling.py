"""Average pools whose gradient is a copy, in the place of PyTorch's."""

from __future__ import annotations

from torch import nn

from leanspike.graph.plan import Plan
from leanspike.synapse import TiledAvgPool2d


def tiled_pooling(plan: Plan) -> Plan:
    """Average pools that know when their windows tile the input.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))
    >>> plan = spike(ann, example_input=torch.zeros(1, 1, 8, 8), lower=()).plan
    >>> type(tiled_pooling(plan).module.get_submodule("1")).__name__
    'TiledAvgPool2d'
    """
    lowered = plan.copied()
    for path in {str(node.target) for node in plan.graph.nodes if node.op == "call_module"}:
        module = lowered.module.get_submodule(path)
        if type(module) is nn.AvgPool2d:
            lowered.module.set_submodule(path, TiledAvgPool2d.of(module))
    return lowered.after("tiled_pooling")
