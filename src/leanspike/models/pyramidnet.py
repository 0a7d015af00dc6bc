"""PyramidNets for small images: Han, Kim & Kim 2017 (arXiv 1610.02915), widened by addition.

Every block is a little wider than the block before it, instead of every stage much wider. The
number of channels after the k-th of N blocks is, rounded::

    D_k = 16 + k·α/N        (eq. 2, without accumulating rounding errors)

The parts are::

    stem      conv → norm
    block     norm1 → conv1 → norm2 → relu → conv2 → norm3    +    shortcut        (fig. 6 d)
    shortcut  x, averaged over 2×2 pixels where the map is halved, the new channels zero
    head      norm → relu → the mean over the map → linear

A block has one activation and none after the sum. When that activation is a neuron, the second
convolution reads spikes, and the first an analog sum. Convolutions are 3×3 without bias.

The paper's networks have 6n+2 layers in three stages. Eighteen layers are not of that form, so
`pyramidnet18` has the stages of ResNet-18: four of two blocks. Its default α = 270 is the paper's
largest for these blocks (16 → 286 channels, 4.5 M parameters).
Shapes: N images, C channels, H × W pixels of any size, K classes.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.parts import check_counts, initialise_weights, scaled

STEM = 16


class PyramidBlock(nn.Module):
    """Two 3×3 convolutions between norms, one activation, and a shortcut without parameters.

    ``[N, in_channels, H, W]`` → ``[N, channels, H', W']`` with H' = H / ``stride`` rounded up, and
    W' likewise. ``channels`` is at least ``in_channels``.

    >>> tuple(PyramidBlock(4, 6, stride=2)(torch.zeros(2, 4, 7, 7)).shape)
    (2, 6, 4, 4)
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.new_channels = channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of residual and shortcut, not activated."""
        hidden = self.relu(self.norm2(self.conv1(self.norm1(x))))
        residual: torch.Tensor = self.norm3(self.conv2(hidden))
        return residual + F.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))


class PyramidNet(nn.Module):
    """A PyramidNet of basic blocks: images ``[N, C, H, W]`` → logits ``[N, K]``.

    Args:
        blocks: number of blocks in each stage, at least 1; all stages but the first halve the map.
        num_classes: K, at least 1.
        alpha: α ≥ 0, the channels that all blocks together add to the stem's 16.
        in_channels: C, at least 1.
        width: factor on every number of channels, above 0.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = PyramidNet((1, 1), 10, alpha=8)
    >>> [block.conv1.out_channels for block in net.blocks]
    [20, 24]
    >>> tuple(net(torch.zeros(2, 3, 8, 8)).shape)
    (2, 10)
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        num_classes: int = 10,
        *,
        alpha: float = 270.0,
        in_channels: int = 3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(stages=len(blocks), num_classes=num_classes, in_channels=in_channels)
        check_counts(**{f"blocks[{i}]": count for i, count in enumerate(blocks)})
        if not (math.isfinite(alpha) and alpha >= 0):
            raise LeanspikeError(f"alpha is {alpha}; give the channels to add, 0 or more")
        total = sum(blocks)
        channels = [scaled(round(STEM + k * alpha / total), width) for k in range(total + 1)]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels[0])
        halving = set(accumulate(blocks[:-1]))
        self.blocks = nn.Sequential(
            *(
                PyramidBlock(before, after, stride=2 if k in halving else 1)
                for k, (before, after) in enumerate(pairwise(channels))
            )
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(channels[-1], num_classes)
        initialise_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        x = self.blocks(self.norm1(self.conv1(x)))
        logits: torch.Tensor = self.classifier(self.relu(self.norm(x)).mean((2, 3)))
        return logits


pyramidnet18 = partial(PyramidNet, (2, 2, 2, 2))
pyramidnet18.__doc__ = "PyramidNet of 18 layers, α = 270. Options: :class:`PyramidNet`."
