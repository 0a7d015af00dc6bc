"""Whether images are scaled as in the training, judged from a trained network.

The network's first batch norm keeps the variance of what reached it in training. Without a norm in
front of the first neurons nothing tells the scale: networks trained on 0 to 255 and on 0 to 1 have
weights and outputs of the same size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.execute.network import SpikingNetwork
from leanspike.graph.ops import is_batch_norm
from leanspike.notice import say
from leanspike.temporal.moments import Moments

OTHERWISE = 2.0
"""Images whose standard deviation differs by this factor have another scale.

It was measured as 0.75 to 1.17 for images of one class, of noise, or inverted. A normalisation
left out or put in changes it to at least 2.5, or to at most 0.31.
"""
FAR = 10
"""From this factor on the pixels' unit is at fault, and not their normalisation."""
BYTES = 20, 255
"""Whole numbers from 0 to a maximum within these bounds are taken for pixels of 8 bits."""


@final
class FirstNorm:
    """Measures what enters the first batch norm, while the network runs node by node.

    Args:
        snn: the network. Its first norm counts if it is trained and time does not reach it.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> norm = nn.BatchNorm1d(2)
    >>> _ = norm(torch.randn(1000, 2))  # trained on one batch
    >>> ann = nn.Sequential(norm, nn.ReLU(), nn.Linear(2, 3)).eval()
    >>> first = FirstNorm(spike(ann, example_input=torch.zeros(1, 2)))
    >>> assert first.node is not None
    >>> source = first.node.all_input_nodes[0]
    >>> first(first.node, {source: 255 * torch.randn(1000, 2)}, None)
    >>> assert 200 < first.ratio < 300
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        self.moments = Moments((1,))
        self.node: fx.Node | None = None
        self.variance_C: Tensor | None = None
        for node in snn.plan.graph.nodes:
            if node.op == "call_module":
                norm = snn.get_submodule(str(node.target))
                if is_batch_norm(norm):
                    if not node.meta["signal"].timed:
                        self.node, self.eps = node, norm.eps
                        self.variance_C = _variance_of_training(norm)
                    return

    def __call__(self, node: fx.Node, values: Mapping[fx.Node, Any], _value: Any) -> None:
        """Measure what enters, ``[N, C, ...]`` of a batch, as an observer of a run."""
        if node is self.node:
            self.moments.add(values[node.all_input_nodes[0]].transpose(0, 1).flatten(1))

    @property
    def ratio(self) -> float | None:
        """The standard deviation of what entered, divided by that of the training (median channel).

        It is None if there is no such norm, or nothing entered.
        """
        if self.variance_C is None or self.moments.n == 0:
            return None
        ratio_C = (self.moments.variance(0) + self.eps) / (self.variance_C + self.eps)
        return ratio_C.sqrt().median().item()


def _variance_of_training(norm: torch.nn.modules.batchnorm._BatchNorm) -> Tensor | None:
    """Return the running variance without the rest of its first value, 1; None if untrained."""
    mean_C, variance_C, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean_C is None or variance_C is None or not mean_C.any():
        return None
    seen = 0 if batches is None else int(batches)  # old files do not say
    left = 0.0 if norm.momentum is None or seen == 0 else (1 - norm.momentum) ** seen
    return None if left == 1 else ((variance_C.double() - left) / (1 - left)).clamp(min=0)


def tell_of_scale(first: FirstNorm, images: Tensor, seen: tuple[float, float]) -> None:
    """Warn if the images are not scaled as in the training; say so if that cannot be known.

    ``seen`` is the smallest and the largest value of the images.
    """
    low, high = seen
    ratio = first.ratio
    if ratio is None:
        if low >= 0 and BYTES[0] < high <= BYTES[1] and bool((images == images.round()).all()):
            say(
                f"calibrate: images of whole numbers from {low:g} to {high:g}; if the network was "
                "trained on pixels of 0 to 1, give x / 255"
            )
        return
    if 1 / OTHERWISE < ratio < OTHERWISE:
        return
    way = "(x - mean) / std"
    if not 1 / FAR < ratio < FAR:
        way = "x / 255" if ratio > 1 else "x * 255"
    assert first.node is not None
    logging.getLogger("leanspike").warning(
        "images of %.3g to %.3g: norm %s gets values that differ %.3g times as much as in its "
        "training; make the network spike again, and calibrate on images scaled as there, as %s",
        *(low, high, first.node.target, ratio, way),
    )
