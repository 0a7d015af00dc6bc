"""How many spikes lie under a graded signal: averages of spikes become sums over their windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from leanspike.execute import SpikingNetwork
from leanspike.graph import ops
from leanspike.synapse import TiledAvgPool2d
from leanspike.temporal import TemporalDropout, broadcast, fold, repeat, unfold


def spikes_under(snn: SpikingNetwork, node: fx.Node, args: tuple[Any, ...]) -> Tensor | None:
    """Apply ``node`` to numbers of spikes, which ``args`` holds in place of its tensors.

    Averages become sums; what only moves, repeats or adds is applied as it is. None for an
    operation of which neither is known (its readers are then charged multiplications).
    """
    op: Any
    call: Any
    if node.op == "call_module":
        module = snn.get_submodule(str(node.target))
        op, call = type(module), module
    elif node.op == "call_method":
        name = str(node.target)
        op, call = name, lambda x, *rest, **named: getattr(x, name)(*rest, **named)
    else:
        op = call = node.target
    if op in SUMS:
        return SUMS[op](call, args, node.kwargs)
    if op in MOVES or _rule(op) in MOVING_RULES:
        counts: Tensor = call(*args, **node.kwargs)
        return counts
    return None


def _rule(op: Any) -> ops.Rule | None:
    tables: tuple[Mapping[Any, ops.Rule], ...] = (ops.MODULES, ops.FUNCTIONS, ops.METHODS)
    return next((table[op] for table in tables if op in table), None)


def _average_pool(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    if isinstance(call, nn.AvgPool2d):
        named = {
            name: getattr(call, name) for name in ("kernel_size", "stride", "padding", "ceil_mode")
        }
    return F.avg_pool2d(*args[:5], **{**named, "divisor_override": 1})


def _adaptive_pool(call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """Averages times the sizes of their windows, which differ where the sides do not divide."""
    averages: Tensor = call(*args, **named)
    sizes = []
    for length, parts in zip(args[0].shape[-2:], averages.shape[-2:], strict=True):
        begin = [index * length // parts for index in range(parts)]
        end = [-(-(index + 1) * length // parts) for index in range(parts)]
        sizes.append(torch.tensor(end) - torch.tensor(begin))
    return averages * (sizes[0][:, None] * sizes[1][None, :]).to(averages.device)


def _mean(_call: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    total: Tensor = torch.sum(*args, **named)
    return total


SUMS: dict[Any, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Tensor]] = {
    **dict.fromkeys((nn.AvgPool2d, TiledAvgPool2d, F.avg_pool2d), _average_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), _adaptive_pool),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.sum, "sum"), _mean),
}

MOVES = frozenset((TemporalDropout, fold, unfold, repeat, broadcast))
MOVING_RULES = frozenset(
    (
        *(ops.same, ops.add, ops.concatenate, ops.keeps_batch, ops.squeeze, ops.flatten),
        *(ops.permute, ops.transpose, ops.split, ops.reshape, ops.index, ops.pad),
    )
)
