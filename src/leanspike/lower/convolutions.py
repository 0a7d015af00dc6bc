"""Convolutions that work where there are spikes, in the place of dense ones that spikes enter."""

from __future__ import annotations

from collections import defaultdict

from torch import nn

from leanspike.graph.ops import Signal
from leanspike.graph.plan import Plan
from leanspike.synapse import EventConv2d


def event_driven(plan: Plan) -> Plan:
    """Event-driven convolutions wherever spikes enter, or their sums, and nothing else.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    >>> plan = spike(ann, example_input=torch.zeros(1, 1, 8, 8), lower=()).plan
    >>> [type(event_driven(plan).module.get_submodule(path)).__name__ for path in ("0", "2")]
    ['Conv2d', 'EventConv2d']
    """
    entering: dict[str, list[Signal]] = defaultdict(list)
    for node in plan.graph.nodes:
        if node.op == "call_module":
            entering[str(node.target)].append(node.all_input_nodes[0].meta["signal"])
    lowered = plan.copied()
    for path, signals in entering.items():
        module = lowered.module.get_submodule(path)
        if type(module) is nn.Conv2d and all(
            signal.timed and signal.kind in ("spike", "graded") for signal in signals
        ):
            lowered.module.set_submodule(path, EventConv2d.of(module))
    return lowered.after("event_driven")
