"""The CIFAR ResNets of He et al. 2016 (arXiv 1512.03385, §4.2): 6n+2 layers, few parameters.

A 3×3 convolution comes first. Three stages of n blocks follow, with 16, 32 and 64 channels. The
last two stages begin with stride 2. The mean over the map and a linear layer come last. A batch
norm follows each convolution, which has no bias. A block that changes the shape has the
parameter-free shortcut "A": every second pixel, the missing channels filled with zeros.

The modules bear the names under which trained weights of these networks are published: ``conv1``,
``bn1``, ``layer1.0.conv1``, ..., ``linear``. :func:`leanspike.models.load_published` loads such
weights strictly.
Shapes: N images, C channels, H × W pixels of any size, K classes.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.parts import check_counts, initialise_weights, scaled

STAGES = (16, 32, 64)


class CifarBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), the shortcut without parameters.

    ``[N, in_channels, H, W]`` → ``[N, channels, H', W']`` with H' = H / ``stride`` rounded up, and
    W' likewise. ``channels`` is at least ``in_channels``.

    >>> block = CifarBlock(4, 8, stride=2)
    >>> tuple(block(torch.zeros(1, 4, 7, 7)).shape)
    (1, 8, 4, 4)
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated sum of residual and shortcut."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self._shortcut(x))

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels > 0:  # half before and half after, as the published weights expect
            before = self.new_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))
        return x


class CifarResNet(nn.Module):
    """He et al.'s network for small images: ``[N, C, H, W]`` → logits ``[N, K]``.

    Args:
        depth: layers with weights, 6n+2: 8, 14, 20, 26, 32, ...
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        width: factor on every number of channels, above 0.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = CifarResNet(8, 10, in_channels=1)
    >>> tuple(net(torch.zeros(2, 1, 8, 8)).shape)
    (2, 10)
    """

    def __init__(
        self, depth: int, num_classes: int = 10, *, in_channels: int = 3, width: float = 1.0
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        if depth < 8 or depth % 6 != 2:
            raise LeanspikeError(f"depth is {depth}; give 6n+2 layers: 8, 14, 20, 26, 32, ...")
        first, second, third = (scaled(stage, width) for stage in STAGES)
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(first, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.linear = nn.Linear(third, num_classes)
        initialise_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Return a stage of ``blocks`` blocks. Only the first may change the shape."""
    first = CifarBlock(in_channels, channels, stride=stride)
    return nn.Sequential(first, *(CifarBlock(channels, channels) for _ in range(blocks - 1)))


cifar_resnet20 = partial(CifarResNet, 20)
cifar_resnet20.__doc__ = "He et al.'s ResNet-20 for CIFAR. Options: :class:`CifarResNet`."

cifar_resnet32 = partial(CifarResNet, 32)
cifar_resnet32.__doc__ = "He et al.'s ResNet-32 for CIFAR. Options: :class:`CifarResNet`."

cifar_resnet44 = partial(CifarResNet, 44)
cifar_resnet44.__doc__ = "He et al.'s ResNet-44 for CIFAR. Options: :class:`CifarResNet`."

cifar_resnet56 = partial(CifarResNet, 56)
cifar_resnet56.__doc__ = "He et al.'s ResNet-56 for CIFAR. Options: :class:`CifarResNet`."
