"""The costs of norms that measure each sample, and the record of a call from which costs follow.

Each function returns the arithmetic of the whole call. Roots, and divisions that many entries
share, are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from leanspike.graph.signal import argument
from leanspike.neuron import Cost


@dataclass(frozen=True)
class Work:
    """A call as it ran: its node, the called module, the values it read, and its result."""

    node: fx.Node
    module: nn.Module | None
    values: Mapping[fx.Node, Any]
    result: Any

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return the value of an argument, or the attribute of that name of the called module."""
        given = argument(self.node, self.module, position, name, default)
        return fx.node.map_arg(given, self.values.__getitem__)

    @property
    def signals(self) -> list[Tensor]:
        """The input tensors with a batch axis, in order; one that is given twice counts twice."""
        return [self.values[node] for node in signal_nodes(self.node)]

    @property
    def entries(self) -> int:
        """The number of entries of the result."""
        assert isinstance(self.result, Tensor)
        return self.result.numel()


CostRule = Callable[[Work], Cost]


def signal_nodes(node: fx.Node) -> list[fx.Node]:
    """Return the signals among a call's arguments, in order; one given twice counts twice."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return [source for source in found if source.meta["signal"].kind not in (None, "constant")]


# -- norms -------------------------------------------------------------------------------------


def scale_and_shift(work: Work) -> Cost:
    """Count a multiply-accumulate for each entry."""
    return Cost(macs=work.entries)


def group_norm(work: Work) -> Cost:
    """Count mean and mean square of each group, then a scale and a shift per group and channel.

    Each entry costs an accumulate (mean) and two multiply-accumulates. The first is for the mean
    square, from which the variance follows. The second scales and shifts. It includes γ and β of
    the channel.
    """
    return Cost(macs=2 * work.entries, acs=work.entries)


def instance_norm(work: Work) -> Cost:
    """Count the cost of a group norm, or of a scale and shift where running statistics are used."""
    module = work.module
    kept = module is not None and bool(module.track_running_stats) and not module.training
    return scale_and_shift(work) if kept else group_norm(work)


def layer_norm(work: Work) -> Cost:
    """Count a group norm, plus a multiply-accumulate per entry if entries have their own γ."""
    own = work.argument(2, "weight") is not None
    return Cost(macs=(2 + own) * work.entries, acs=work.entries)


def rms_norm(work: Work) -> Cost:
    """Count mean square and scale, plus a multiplication per entry if entries have their own γ."""
    own = work.argument(2, "weight") is not None
    return Cost(macs=(2 + own) * work.entries)


def normalised(work: Work) -> Cost:
    """Count a division by the length along an axis: a sum of squares, and a scale."""
    return Cost(macs=2 * work.entries)


def squares(work: Work) -> Cost:
    """Count a deviation, length or cosine: a multiply-accumulate per entry of each signal."""
    return Cost(macs=sum(signal.numel() for signal in work.signals))


def local_response(work: Work) -> Cost:
    """Count y = x·(k + α/n·Σ x²)^-β: square, factor, product, and n additions of the window."""
    return Cost(macs=3 * work.entries, acs=int(work.argument(1, "size")) * work.entries)
