"""How images lie in memory while a network computes: in channels_last, where that is faster.

PyTorch's images lie contiguous, ``[N, C, H, W]``. Convolutions of spikes are faster where the
channels of a pixel lie together. So a network turns what it is given once, at its entry, and its
answer back. Parameters stay as they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from leanspike.graph.modules import submodule
from leanspike.graph.ops import row_of
from leanspike.graph.plan import Plan
from leanspike.graph.table import ROWS
from leanspike.synapse import EventConv2d
from leanspike.transforms import is_transforming

FASTER = (torch.float32, torch.bfloat16)
"""The types in which convolutions are event-driven."""


@final
@dataclass(frozen=True)
class Layout:
    """How a network's images lie inside.

    Attributes:
        turns: whether it computes in channels_last what it is given contiguous.

    >>> from leanspike import spike
    >>> conv = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)
    >>> snn = spike(nn.Sequential(*conv), example_input=torch.zeros(1, 3, 8, 8))
    >>> layout = Layout.of(snn.plan)
    >>> x, turned = layout.enter(torch.zeros(2, 3, 8, 8))
    >>> turned, x.is_contiguous(memory_format=torch.channels_last)
    (True, True)
    """

    turns: bool

    @staticmethod
    def of(plan: Plan) -> Layout:
        """The layout of a plan: turned where it has event-driven convolutions and no user's code.

        Such code may want its input contiguous, as ``view`` does.
        """
        calls = [node for node in plan.graph.nodes if node.op.startswith("call")]
        events = any(isinstance(plan.submodule(node), EventConv2d) for node in calls)
        return Layout(events and all(_takes_any_layout(node, plan.module) for node in calls))

    def enter(self, x: Tensor) -> tuple[Tensor, bool]:
        """Return the input as it lies inside, and whether it was turned."""
        if not self.turns or torch.compiler.is_compiling() or is_transforming():
            return x, False
        if type(x) is not Tensor or x.dim() != 4 or x.dtype not in FASTER or not x.is_cpu:
            return x, False
        turned = x.to(memory_format=torch.channels_last)
        return turned, turned is not x


def leave(y: Any) -> Any:
    """Return the outputs of a network whose input was turned: contiguous, as PyTorch's would be."""
    return pytree.tree_map_only(Tensor, Tensor.contiguous, y)


def _takes_any_layout(node: fx.Node, root: nn.Module) -> bool:
    """Whether it is leanspike's or PyTorch's, by a row of leanspike's own table."""
    row, module = row_of(node, root), submodule(root, node)
    if "row" in node.meta:
        return False
    if module is not None and (node.meta.get("neuron") or row.family):
        return type(module).__module__.partition(".")[0] in ("leanspike", "torch")
    return any(row is known for known in ROWS.values())
