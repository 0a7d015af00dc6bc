"""A network that learns CIFAR-10 fast: Jordan 2024 (arXiv 2404.00498), with ReLU for GELU.

::

    conv1   2×2, no padding, 2·4·C filters, with bias; its weights whiten patches and are frozen
    relu1
    group   conv 3×3 → max pool 2 → norm → relu → conv 3×3 → norm → relu, three times
    pool4   max pool 3
    answer  linear without bias, times ``answer_scale``

A 3×3 convolution begins as the identity (Dirac) in as many filters as it has inputs. The others are
drawn at random, as PyTorch draws them. The norms' scales stay 1, and their shifts learn. The
answer's scale is a factor and not in the weights. There it would change the weights' learning rate
by its square.

It departs from the paper in three things. A spiking neuron stands for a ReLU, so there are ReLUs.
The norms' ε is PyTorch's 1e-5 unless given, where the paper's code has 1e-12. A channel that no
spike reaches has the variance 0, and ε = 1e-12 would multiply its gradients by 1/√ε = 10⁶. A batch
counts for a tenth in the norms' running statistics, as PyTorch has it, where the code has 0.4: an
SNN learns from smaller batches.

Shapes: N images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.models.parts import check_counts, scaled
from leanspike.models.whitening import whitening_filters

PATCH = 2
LAST_POOL = 3
GROUPS = 3


class Airbench94(nn.Module):
    """The network of airbench94: images ``[N, C, H, W]`` → logits ``[N, K]``.

    A run gives it training images to begin with (:meth:`start_from`). Without them the first layer
    is drawn at random, as PyTorch draws it. It trains then, too, but learns less in the same time.

    Args:
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        image_size: H = W in pixels, at least 25.
        widths: the channels of the three groups.
        width: factor on these, above 0.
        frozen_first: whether the weights of the first convolution stay as they begin.
        answer_scale: the factor of the logits, above 0.
        norm_eps: the ε of the norms, above 0.

    Raises:
        LeanspikeError: for a value outside these ranges.

    >>> net = Airbench94(10)
    >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    >>> [name for name, _ in net.features.named_children()][:9]
    ['conv1', 'relu1', 'conv2', 'pool1', 'norm2', 'relu2', 'conv3', 'norm3', 'relu3']
    >>> [name for name, weights in net.named_parameters() if not weights.requires_grad][:2]
    ['features.conv1.weight', 'features.norm2.weight']
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        widths: Sequence[int] = (64, 256, 256),
        width: float = 1.0,
        frozen_first: bool = True,
        answer_scale: float = 1 / 9,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        _check_above_0(answer_scale=answer_scale, norm_eps=norm_eps)
        if len(widths) != GROUPS:
            raise LeanspikeError(f"widths is {list(widths)}; give {GROUPS} numbers of channels")
        side = _last_side(image_size)
        channels = 2 * in_channels * PATCH**2
        first = nn.Conv2d(in_channels, channels, PATCH)
        first.weight.requires_grad_(not frozen_first)
        assert first.bias is not None
        nn.init.zeros_(first.bias)
        modules: OrderedDict[str, nn.Module] = OrderedDict(conv1=first, relu1=nn.ReLU())
        for number, of_group in enumerate((scaled(each, width) for each in widths), start=1):
            modules |= _group(number, channels, of_group, norm_eps)
            channels = of_group
        modules[f"pool{GROUPS + 1}"] = nn.MaxPool2d(LAST_POOL)
        self.features = nn.Sequential(modules)
        answer = nn.Linear(channels * side**2, num_classes, bias=False)
        self.classifier = nn.Sequential(OrderedDict(linear1=answer))
        self.answer_scale = answer_scale

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits * self.answer_scale

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Let the first convolution whiten the 2×2 patches of images ``x`` ``[N, C, H, W]``.

        Its filters are those of :func:`~leanspike.models.whitening.whitening_filters` and their
        negatives, since a ReLU cuts off one sign of each. Its bias is 0. Some thousands of
        normalised training images are enough. The same images give the same bits.

        Raises:
            LeanspikeError: for images of other channels, and as ``whitening_filters``.

        >>> net = Airbench94(10, width=0.125)
        >>> net.start_from(torch.randn(8, 3, 32, 32))
        >>> filters = net.features.conv1.weight
        >>> torch.equal(filters[:12], -filters[12:])
        True
        """
        weight = self.features.get_parameter("conv1.weight")
        if x.dim() == 4 and x.shape[1] != weight.shape[1]:
            raise LeanspikeError(
                f"x has {x.shape[1]} channels, and the network takes {weight.shape[1]}; give "
                "images as it takes them"
            )
        filters = whitening_filters(x, PATCH)
        weight.copy_(torch.cat((filters, -filters)))
        nn.init.zeros_(self.features.get_parameter("conv1.bias"))


def _group(number: int, in_channels: int, channels: int, eps: float) -> dict[str, nn.Module]:
    """Return the modules of a group by their names, two convolutions and a pool.

    >>> list(_group(2, 8, 16, 1e-5))
    ['conv4', 'pool2', 'norm4', 'relu4', 'conv5', 'norm5', 'relu5']
    """
    one, two = 2 * number, 2 * number + 1
    return {
        f"conv{one}": _convolution(in_channels, channels),
        f"pool{number}": nn.MaxPool2d(2),
        f"norm{one}": _norm(channels, eps),
        f"relu{one}": nn.ReLU(),
        f"conv{two}": _convolution(channels, channels),
        f"norm{two}": _norm(channels, eps),
        f"relu{two}": nn.ReLU(),
    }


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:in_channels])
    return conv


def _norm(channels: int, eps: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=eps)
    norm.weight.requires_grad_(False)
    return norm


def _last_side(image_size: int) -> int:
    """Return the pixels per side after all pools."""
    tile = LAST_POOL << GROUPS  # pixels that end as one
    side = (image_size - PATCH + 1) // tile
    if side == 0:
        smallest = tile + PATCH - 1
        raise LeanspikeError(
            f"image_size is {image_size}, and the last pool of airbench94 takes no image below "
            f"{smallest} pixels; give images of {smallest} or more, or take another network"
        )
    return side


def _check_above_0(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise LeanspikeError(f"{name} is {number}; give a number above 0")
