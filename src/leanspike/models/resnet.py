"""The residual networks of DIET-SNN (arXiv 2008.03658), after He et al. 2016 (arXiv 1512.03385).

A stem of three 3×3 convolutions and a 2×2 average pool comes first. Four stages of blocks follow,
with 64, 128, 256 and 512 channels. The last three stages begin with stride 2. A linear layer reads
the flattened map. The parts are::

    stem      3 × (conv → [norm] → relu → [dropout]) → pool       no dropout right before the pool
    block     relu2(conv1 → [norm] → relu1 → [dropout] → conv2 → [norm]  +  shortcut)
    shortcut  1×1 conv (→ [norm]) where the block changes the shape, else the identity

The sum comes before ``relu2``. Once that is a neuron, the shortcut feeds its membrane, as in the
authors' spiking network. No layer has a bias. Paths: ``stem.conv1``, ``stem.relu1``, ...,
``layer1.0.residual.conv1``, ``layer1.0.residual.relu1``, ``layer1.0.relu2``,
``layer2.0.shortcut.conv``, ``classifier``.

:class:`ResNet18` is He et al.'s own, of the same blocks with norms, in the form for small images.
Shapes: N images, C channels, H = W = ``image_size`` pixels, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.parts import (
    activated_convolution,
    check_counts,
    check_dropout,
    initialise_weights,
    scaled,
)

STAGES = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: ``[N, C, H, W]`` → ``[N, channels, H', W']``.

    C is ``in_channels``; H' is H / ``stride``, rounded up, and W' likewise.

    >>> tuple(BasicBlock(4, 8, stride=2)(torch.zeros(1, 4, 7, 7)).shape)
    (1, 8, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        residual = OrderedDict(
            activated_convolution(
                1, in_channels, channels, stride=stride, batch_norm=batch_norm, dropout=dropout
            )
        )
        residual["conv2"] = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        if batch_norm:
            residual["norm2"] = nn.BatchNorm2d(channels)
        self.residual = nn.Sequential(residual)
        self.shortcut = _shortcut(in_channels, channels, stride, batch_norm)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated sum of residual and shortcut."""
        out: torch.Tensor = self.relu2(self.residual(x) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """DIET-SNN's residual network: images ``[N, C, H, W]`` → logits ``[N, K]``.

    Args:
        blocks: number of blocks in each of the four stages, at least 1.
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        image_size: H = W in pixels, at least 2; the linear layer sees ceil(floor(H/2) / 8)² pixels.
        width: factor on every number of channels, above 0.
        batch_norm: a norm after every convolution; the authors have none.
        dropout_conv: probability in [0, 1) of dropping. Dropout follows the first two activations
            of the stem and the first activation of every block.
        linear_std: the standard deviation of the linear layer's first weights, see
            ``parts.initialise_weights``; the authors' code has 0.01.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = ResNet((1, 1, 1, 1), 10, width=0.125)
    >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    >>> net.classifier
    Linear(in_features=256, out_features=10, bias=False)
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout_conv: float = 0.2,
        linear_std: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        check_counts(**{f"blocks[{i}]": count for i, count in enumerate(blocks)})
        check_dropout(dropout_conv=dropout_conv)
        if image_size < 2:
            raise LeanspikeError(f"image_size is {image_size}; the stem's pool needs 2 or more")
        channels = [scaled(stage, width) for stage in STAGES]
        self.stem = _stem(in_channels, channels[0], batch_norm, dropout_conv)
        stages = _stages(channels, blocks, batch_norm, dropout_conv)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        side = -(-(image_size // 2) // 8)
        self.classifier = nn.Linear(channels[-1] * side**2, num_classes, bias=False)
        initialise_weights(self, linear_std=linear_std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        logits: torch.Tensor = self.classifier(x.flatten(1))
        return logits


class ResNet18(nn.Module):
    """He et al.'s ResNet-18 in the form for small images: ``[N, C, H, W]`` → logits ``[N, K]``.

    The stem is one 3×3 convolution with norm, and nothing is pooled after it. Four stages of two
    blocks with norms follow, then the mean over the map and a linear layer with bias. (ImageNet's
    has a 7×7 convolution of stride 2 and a max pool first: ``torchvision/resnet18``.)

    Args:
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        width: factor on every number of channels, above 0.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = ResNet18(10, width=0.125)
    >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, *, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        channels = [scaled(stage, width) for stage in STAGES]
        stem = activated_convolution(1, in_channels, channels[0], batch_norm=True)
        self.stem = nn.Sequential(OrderedDict(stem))
        stages = _stages(channels, (2, 2, 2, 2), batch_norm=True, dropout=0.0)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.classifier = nn.Linear(channels[-1], num_classes)
        initialise_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def _stem(in_channels: int, channels: int, batch_norm: bool, dropout: float) -> nn.Sequential:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number, inputs in enumerate((in_channels, channels, channels), start=1):
        modules |= activated_convolution(
            number,
            inputs,
            channels,
            batch_norm=batch_norm,
            dropout=dropout if number < 3 else 0.0,
        )
    modules["pool"] = nn.AvgPool2d(2)
    return nn.Sequential(modules)


def _stages(
    channels: Sequence[int], blocks: Sequence[int], batch_norm: bool, dropout: float
) -> list[nn.Sequential]:
    """Return the four stages. All but the first halve the map."""
    inputs = [channels[0], *channels]
    return [
        _stage(inputs[i], channels[i], blocks[i], 1 if i == 0 else 2, batch_norm, dropout)
        for i in range(4)
    ]


def _stage(
    in_channels: int, channels: int, blocks: int, stride: int, batch_norm: bool, dropout: float
) -> nn.Sequential:
    """Return a stage of ``blocks`` blocks. Only the first may change the shape."""
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride=stride, batch_norm=batch_norm, dropout=dropout),
        *(
            BasicBlock(channels, channels, batch_norm=batch_norm, dropout=dropout)
            for _ in range(blocks - 1)
        ),
    )


def _shortcut(in_channels: int, channels: int, stride: int, batch_norm: bool) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    modules["conv"] = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
    if batch_norm:
        modules["norm"] = nn.BatchNorm2d(channels)
    return nn.Sequential(modules)


resnet12 = partial(ResNet, (1, 1, 1, 1))
resnet12.__doc__ = "ResNet12 of DIET-SNN: one block in each stage. Options: :class:`ResNet`."

resnet20 = partial(ResNet, (2, 2, 2, 2))
resnet20.__doc__ = "ResNet20 of DIET-SNN: two blocks in each stage. Options: :class:`ResNet`."
