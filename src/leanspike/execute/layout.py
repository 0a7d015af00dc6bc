"""The memory layout of images inside a network: channels_last, where that is faster.

PyTorch's images are contiguous, ``[N, C, H, W]``. Convolutions of spikes are faster if the channels
of a pixel lie together. So a network converts its input once, and its output back. Parameters keep
their layout.
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
    """The layout of images inside a network.

    Attributes:
        turns: whether the network converts contiguous input to channels_last.

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
        """Return the layout of a plan.

        It is channels_last if the plan has event-driven convolutions and no code of the user's.
        Such code may need contiguous input, as ``view`` does.
        """
        calls = [node for node in plan.graph.nodes if node.op.startswith("call")]
        events = any(isinstance(plan.submodule(node), EventConv2d) for node in calls)
        return Layout(events and all(_takes_any_layout(node, plan.module) for node in calls))

    def enter(self, x: Tensor) -> tuple[Tensor, bool]:
        """Return the input in the inner layout, and whether it was converted."""
        if not self.turns or torch.compiler.is_compiling() or is_transforming():
            return x, False
        if type(x) is not Tensor or x.dim() != 4 or x.dtype not in FASTER or not x.is_cpu:
            return x, False
        turned = x.to(memory_format=torch.channels_last)
        return turned, turned is not x


def leave(y: Any) -> Any:
    """Return the outputs of a network with converted input as contiguous tensors."""
    return pytree.tree_map_only(Tensor, Tensor.contiguous, y)


def _takes_any_layout(node: fx.Node, root: nn.Module) -> bool:
    """Whether the called operation is leanspike's or PyTorch's, with a row of leanspike's own."""
    row, module = row_of(node, root), submodule(root, node)
    if "row" in node.meta:
        return False
    if module is not None and (node.meta.get("neuron") or row.family):
        return type(module).__module__.partition(".")[0] in ("leanspike", "torch")
    return any(row is known for known in ROWS.values())
