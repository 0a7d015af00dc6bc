"""The pass that replaces dense convolutions by event-driven ones where spikes enter."""

from __future__ import annotations

from collections import defaultdict

from leanspike.graph.ops import Signal, row_of
from leanspike.graph.plan import Plan


def event_driven(plan: Plan) -> Plan:
    """Put in event-driven convolutions wherever only spikes, or sums of spikes, enter.

    >>> import torch
    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    >>> plan = spike(ann, example_input=torch.zeros(1, 1, 8, 8), lower=()).plan
    >>> [type(event_driven(plan).module.get_submodule(path)).__name__ for path in ("0", "2")]
    ['Conv2d', 'EventConv2d']
    """
    entering: dict[str, list[Signal]] = defaultdict(list)
    kinds = {}
    for node in plan.graph.nodes:
        kind = row_of(node, plan.module).event_driven
        if kind is not None:
            kinds[str(node.target)] = kind
            entering[str(node.target)].append(node.all_input_nodes[0].meta["signal"])
    layers = {
        path: kind.of(plan.module.get_submodule(path))
        for path, kind in kinds.items()
        if all(signal.timed and signal.kind in ("spike", "graded") for signal in entering[path])
    }
    return plan.with_layers(layers, "event_driven")
