"""The table of export rules, one for each operation.

A rule takes a node of the graph and the walk. It returns a wire, or a constant that others read.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from leanspike.export import arithmetic_rules, constant_rules, layer_rules, shape_rules
from leanspike.export.calls import refused
from leanspike.export.walk import Walk
from leanspike.graph.ops import OPERATIONS, op_of
from leanspike.synapse import plain
from leanspike.temporal import ChannelAffine

Rule = Callable[[fx.Node, Walk], Any]


def rule_of(node: fx.Node, walk: Walk) -> Rule:
    """Return the rule of a node's operation, or that of constants if it reads no wire."""
    if node.op == "get_attr":
        return constant_rules.attribute
    if node.op == "placeholder" or node.meta.get("state_of"):
        return constant_rules.nothing
    neuron = constant_rules.neuron_of(node, walk)
    if neuron is not None:
        return constant_rules.spikes
    if not any(walk.wire(argument) for argument in node.all_input_nodes):
        return constant_rules.constant
    op = op_of(node, walk.root)
    op = OPERATIONS.base(type(plain(walk.module(node)))) if isinstance(op, type) else op
    return RULES.get(op, refused)


RULES: dict[Any, Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), layer_rules.convolution),
    nn.Linear: layer_rules.linear,
    ChannelAffine: layer_rules.scaled,
    **dict.fromkeys((nn.AvgPool2d, F.avg_pool2d), shape_rules.average),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), shape_rules.adaptive),
    **dict.fromkeys((torch.mean, "mean"), shape_rules.mean),
    **dict.fromkeys((nn.Flatten, torch.flatten, "flatten", torch.reshape), shape_rules.flattened),
    **dict.fromkeys(("reshape", "view", "squeeze", torch.squeeze), shape_rules.flattened),
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, F.dropout), shape_rules.same
    ),
    **dict.fromkeys(("contiguous", "detach", "clone", "to", "type_as", "float"), shape_rules.same),
    **dict.fromkeys((operator.add, torch.add, "add"), arithmetic_rules.summed),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), arithmetic_rules.difference),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), arithmetic_rules.product),
    **dict.fromkeys((operator.truediv, torch.div, "div"), arithmetic_rules.quotient),
    operator.getitem: shape_rules.strided,
    F.pad: shape_rules.padded,
    **dict.fromkeys(("size", "dim", getattr), constant_rules.sizes),
}
