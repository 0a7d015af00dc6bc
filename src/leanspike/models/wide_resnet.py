"""Wide residual networks for small images: Zagoruyko & Komodakis 2016 (arXiv 1605.07146).

WRN-d-k has d = 6n+4 convolutions, three of them in shortcuts. The first has 16 channels. Three
groups of n blocks follow, with 16k, 32k and 64k channels. The last two groups begin with stride 2.
A norm, an activation, the mean over the map and a linear layer come last. Convolutions are 3×3 and
have no bias. The parts are::

    block     a = relu1(norm1(x)),   conv2([dropout](relu2(norm2(conv1(a)))))  +  shortcut
    shortcut  x itself; where the block changes the shape, a 1×1 convolution of a

Norm and activation stand before their convolution ("pre-activation", He et al. 2016, arXiv
1603.05027). When the activations are neurons, all convolutions but the first read spikes. The
signal from block to block is an analog sum.
Shapes: N images, C channels, H × W pixels of any size, K classes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from leanspike.errors import LeanspikeError
from leanspike.models.parts import check_counts, check_dropout, initialise_weights, scaled

GROUPS = (16, 32, 64)


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each after its norm and activation, beside a shortcut.

    ``[N, in_channels, H, W]`` → ``[N, channels, H', W']`` with H' = H / ``stride`` rounded up, and
    W' likewise. Nothing comes after the sum.

    >>> tuple(PreActivationBlock(4, 8, stride=2)(torch.zeros(2, 4, 7, 7)).shape)
    (2, 8, 4, 4)
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of residual and shortcut, not activated."""
        activated = self.relu1(self.norm1(x))
        hidden = self.relu2(self.norm2(self.conv1(activated)))
        residual: torch.Tensor = self.conv2(self.dropout(hidden))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-``depth``-``widening``: images ``[N, C, H, W]`` → logits ``[N, K]``.

    Args:
        depth: convolutions, 6n+4: 10, 16, 22, 28, 34, 40, ...
        widening: the papers' k, at least 1.
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        width: factor on every number of channels, the stem's too, above 0.
        dropout_conv: probability in [0, 1) of dropping between the convolutions of a block.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = WideResNet(10, 2, num_classes=5, in_channels=1)
    >>> tuple(net(torch.zeros(2, 1, 8, 8)).shape)
    (2, 5)
    """

    def __init__(
        self,
        depth: int,
        widening: int,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        dropout_conv: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(widening=widening, num_classes=num_classes, in_channels=in_channels)
        check_dropout(dropout_conv=dropout_conv)
        if depth < 10 or depth % 6 != 4:
            raise LeanspikeError(
                f"depth is {depth}; give 6n+4 convolutions: 10, 16, 22, 28, 34, ..."
            )
        blocks = (depth - 4) // 6
        stem = scaled(GROUPS[0], width)
        first, second, third = (scaled(group * widening, width) for group in GROUPS)
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.layer1 = _group(stem, first, blocks, 1, dropout_conv)
        self.layer2 = _group(first, second, blocks, 2, dropout_conv)
        self.layer3 = _group(second, third, blocks, 2, dropout_conv)
        self.norm = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(third, num_classes)
        initialise_weights(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: torch.Tensor = self.classifier(self.relu(self.norm(x)).mean((2, 3)))
        return logits


def _group(
    in_channels: int, channels: int, blocks: int, stride: int, dropout: float
) -> nn.Sequential:
    """Return a group of ``blocks`` blocks. Only the first may change the shape."""
    return nn.Sequential(
        PreActivationBlock(in_channels, channels, stride=stride, dropout=dropout),
        *(PreActivationBlock(channels, channels, dropout=dropout) for _ in range(blocks - 1)),
    )


wrn16_2 = partial(WideResNet, 16, 2)
wrn16_2.__doc__ = "WRN-16-2: 0.69 M parameters. Options: :class:`WideResNet`."

wrn28_4 = partial(WideResNet, 28, 4)
wrn28_4.__doc__ = "WRN-28-4: 5.8 M parameters. Options: :class:`WideResNet`."
