"""What norms cost that measure each sample, and what a cost is of: a call as it ran.

Each function gives the arithmetic of the whole call. Roots, and divisions that many entries share,
are left out.
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
    """A call as it ran: its node, the module that it called, the values it read, what it gave."""

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
        """The tensors with a batch that entered, in order, each as often as it stands there."""
        return [self.values[node] for node in signal_nodes(self.node)]

    @property
    def entries(self) -> int:
        """How many numbers came out."""
        assert isinstance(self.result, Tensor)
        return self.result.numel()


CostRule = Callable[[Work], Cost]


def signal_nodes(node: fx.Node) -> list[fx.Node]:
    """The signals that a call takes, in order, each as often as it stands in the arguments."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return [source for source in found if source.meta["signal"].kind not in (None, "constant")]


# -- norms -------------------------------------------------------------------------------------


def scale_and_shift(work: Work) -> Cost:
    """Return a multiply-accumulate for each entry."""
    return Cost(macs=work.entries)


def group_norm(work: Work) -> Cost:
    """Mean and mean square of each group, then one scale and shift per group and channel.

    Each entry costs an addition (mean) and two multiply-accumulates. The first is that of the mean
    square, from which the variance follows. The second scales and shifts, with γ and β of the
    channel taken in.
    """
    return Cost(macs=2 * work.entries, acs=work.entries)


def instance_norm(work: Work) -> Cost:
    """As a group norm; with running statistics, in eval mode, a scale and shift alone."""
    module = work.module
    kept = module is not None and bool(module.track_running_stats) and not module.training
    return scale_and_shift(work) if kept else group_norm(work)


def layer_norm(work: Work) -> Cost:
    """As a group norm, and another multiply-accumulate where each entry has a γ of its own."""
    own = work.argument(2, "weight") is not None
    return Cost(macs=(2 + own) * work.entries, acs=work.entries)


def rms_norm(work: Work) -> Cost:
    """Mean square and scale, and another multiplication where each entry has a γ of its own."""
    own = work.argument(2, "weight") is not None
    return Cost(macs=(2 + own) * work.entries)


def normalised(work: Work) -> Cost:
    """Division by a length along an axis: a sum of squares, and a scale."""
    return Cost(macs=2 * work.entries)


def squares(work: Work) -> Cost:
    """A deviation, a length or a cosine: a multiply-accumulate for each entry of each signal."""
    return Cost(macs=sum(signal.numel() for signal in work.signals))


def local_response(work: Work) -> Cost:
    """y = x·(k + α/n·Σ x²)^-β: square, factor of the sum and product; n additions of the window."""
    return Cost(macs=3 * work.entries, acs=int(work.argument(1, "size")) * work.entries)
