"""The pass that replaces PyTorch's average pools by pools whose gradient is a copy."""

from __future__ import annotations

from leanspike.graph.ops import row_of
from leanspike.graph.plan import Plan


def tiled_pooling(plan: Plan) -> Plan:
    """Put in average pools that use it when their windows tile the input.

    >>> import torch
    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))
    >>> plan = spike(ann, example_input=torch.zeros(1, 1, 8, 8), lower=()).plan
    >>> type(tiled_pooling(plan).module.get_submodule("1")).__name__
    'TiledAvgPool2d'
    """
    kinds = {str(node.target): row_of(node, plan.module).tiled for node in plan.graph.nodes}
    layers = {
        path: kind.of(plan.module.get_submodule(path))
        for path, kind in kinds.items()
        if kind is not None
    }
    return plan.with_layers(layers, "tiled_pooling")
