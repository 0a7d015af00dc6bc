"""VGG networks: stacks of 3×3 convolutions with 2×2 pools, and a head of linear layers.

Each entry of ``layers`` is a number of output channels, or ``"A"`` for a 2×2 pool of stride 2. The
pool drops an odd last row and column: 7 → 3 pixels. One convolution becomes the modules::

    conv → [norm] → relu → [dropout]

A hidden linear layer does likewise. Each module is named by what it is and by its number in the
network: ``features.conv1``, ``features.norm1``, ``features.relu1``, ``features.dropout1``,
``features.pool1``, ``classifier.linear1``, ``classifier.relu1``. So no name moves when norm or
dropout is switched, and ``features.relu3`` always follows ``features.conv3``.

Sources: Simonyan & Zisserman 2015 (arXiv 1409.1556) for the family. The lists below are those of
DIET-SNN (arXiv 2008.03658) and BNTT (arXiv 2010.01729), which differ under the same names.
Shapes: N images, C channels, H = W = ``image_size`` pixels, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

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

Pool = Literal["avg", "max"]
Layers = Sequence[int | str]

POOL = "A"
POOLS: dict[str, type[nn.AvgPool2d] | type[nn.MaxPool2d]] = {
    "avg": nn.AvgPool2d,
    "max": nn.MaxPool2d,
}


class VGG(nn.Module):
    """A VGG network: images ``[N, C, H, W]`` → logits ``[N, K]``.

    Args:
        layers: output channels of each 3×3 convolution (padding 1), and ``"A"`` for each pool.
        head: sizes of the hidden linear layers, ``()`` for none; the output layer is added.
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        image_size: H = W in pixels.
        batch_norm: a norm after every convolution and every hidden linear layer.
        pool: the meaning of ``"A"``, ``"avg"`` or ``"max"``.
        dropout_conv: probability in [0, 1) of dropping after a convolution's activation, except
            where a pool follows at once (as in DIET-SNN).
        dropout_linear: the same probability after the activation of a hidden linear layer.
        bias: whether convolutions and linear layers have a bias; the papers' have none.
        global_pool: average every channel over the whole image before the head.
        xavier_gain: the gain of the first weights; see ``parts.initialise_weights``.
        linear_std: the standard deviation of the linear layers' first weights; see there.
            DIET-SNN's code has 0.01.

    Raises:
        LeanspikeError: for a value outside these ranges, or more pools than fit the image.

    >>> net = VGG((8, "A", 16), (32,), 10, image_size=8)
    >>> tuple(net(torch.zeros(2, 3, 8, 8)).shape)
    (2, 10)
    >>> [name for name, _ in net.features.named_children()]
    ['conv1', 'relu1', 'pool1', 'conv2', 'relu2', 'dropout2']
    """

    def __init__(
        self,
        layers: Layers,
        head: Sequence[int],
        num_classes: int,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        batch_norm: bool = False,
        pool: Pool = "avg",
        dropout_conv: float = 0.2,
        dropout_linear: float = 0.5,
        bias: bool = False,
        global_pool: bool = False,
        xavier_gain: float | None = None,
        linear_std: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        check_counts(**{f"head[{i}]": size for i, size in enumerate(head)})
        check_dropout(dropout_conv=dropout_conv, dropout_linear=dropout_linear)
        if pool not in POOLS:
            raise LeanspikeError(f"pool is {pool!r}; give 'avg' or 'max'")
        channels = _last_channels(layers)
        side = _side_after_pools(layers, image_size)
        self.features = _features(layers, in_channels, batch_norm, pool, dropout_conv, bias)
        if global_pool:
            self.features.add_module("global_pool", nn.AdaptiveAvgPool2d(1))
            side = 1
        sizes = (channels * side**2, *head, num_classes)
        self.classifier = _classifier(sizes, batch_norm, dropout_linear, bias)
        initialise_weights(self, xavier_gain, linear_std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for images ``[N, C, H, W]``."""
        logits: torch.Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def vgg(
    num_classes: int = 10,
    *,
    layers: Layers,
    head: Sequence[int] = (4096, 4096),
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    batch_norm: bool = False,
    pool: Pool = "avg",
    dropout_conv: float = 0.2,
    dropout_linear: float = 0.5,
    bias: bool = False,
    global_pool: bool = False,
    xavier_gain: float | None = None,
    linear_std: float | None = None,
) -> VGG:
    """Return a :class:`VGG` with channels and hidden sizes times ``width`` (at least 1 each).

    The other arguments are those of :class:`VGG`, and so are the errors.

    >>> net = vgg(10, layers=(64, "A", 128, "A"), head=(256,), width=0.125, image_size=8)
    >>> net.features.conv2
    Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    >>> net.classifier.linear1
    Linear(in_features=64, out_features=32, bias=False)
    """
    return VGG(
        [scaled(layer, width) if isinstance(layer, int) else layer for layer in layers],
        [scaled(size, width) for size in head],
        num_classes,
        in_channels=in_channels,
        image_size=image_size,
        batch_norm=batch_norm,
        pool=pool,
        dropout_conv=dropout_conv,
        dropout_linear=dropout_linear,
        bias=bias,
        global_pool=global_pool,
        xavier_gain=xavier_gain,
        linear_std=linear_std,
    )


def _last_channels(layers: Layers) -> int:
    """Check every entry of ``layers``, and return the channels of the last convolution."""
    for layer in layers:
        if layer != POOL and not (isinstance(layer, int) and layer >= 1):
            raise LeanspikeError(
                f"layers holds {layer!r}; give numbers of channels, and {POOL!r} for a pool"
            )
    channels = [layer for layer in layers if isinstance(layer, int)]
    if not channels:
        raise LeanspikeError(f"layers is {list(layers)}; give at least one number of channels")
    return channels[-1]


def _side_after_pools(layers: Layers, image_size: int) -> int:
    """Return the pixels per side that remain of ``image_size`` after all pools."""
    pools = layers.count(POOL)
    side = image_size >> pools
    if side == 0:
        raise LeanspikeError(
            f"{pools} pools do not fit an image of {image_size} pixels, at most "
            f"{image_size.bit_length() - 1} do; give an image_size of {2**pools} or more, or take "
            "a network with fewer pools"
        )
    return side


def _features(
    layers: Layers, channels: int, batch_norm: bool, pool: Pool, dropout: float, bias: bool
) -> nn.Sequential:
    """Return the convolutions and pools. ``channels`` enter the first."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    convs = pools = 0
    for layer, following in zip(layers, (*layers[1:], None), strict=True):
        if isinstance(layer, str):
            pools += 1
            modules[f"pool{pools}"] = POOLS[pool](2)
            continue
        convs += 1
        modules |= activated_convolution(
            convs,
            channels,
            layer,
            bias=bias,
            batch_norm=batch_norm,
            dropout=0.0 if following == POOL else dropout,
        )
        channels = layer
    return nn.Sequential(modules)


def _classifier(
    sizes: Sequence[int], batch_norm: bool, dropout: float, bias: bool
) -> nn.Sequential:
    """Return the linear layers between ``sizes[0]`` inputs and ``sizes[-1]`` logits."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), start=1):
        modules[f"linear{i}"] = nn.Linear(inputs, outputs, bias=bias)
        if batch_norm:
            modules[f"norm{i}"] = nn.BatchNorm1d(outputs)
        modules[f"relu{i}"] = nn.ReLU()
        if dropout > 0:
            modules[f"dropout{i}"] = nn.Dropout(dropout)
    modules[f"linear{len(sizes) - 1}"] = nn.Linear(sizes[-2], sizes[-1], bias=bias)
    return nn.Sequential(modules)


# The published networks are `vgg` with other defaults, so each takes every option of `vgg`.
vgg6 = partial(vgg, layers=(64, "A", 128, 128, "A"))
vgg6.__doc__ = "VGG6 of DIET-SNN: 3 convolutions, 2 pools, head 4096-4096. Options: :func:`vgg`."

vgg9 = partial(vgg, layers=(64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512))
vgg9.__doc__ = "VGG9 of DIET-SNN: 7 convolutions, 4 pools, head 4096-4096. Options: :func:`vgg`."

vgg11 = partial(vgg, layers=(64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512))
vgg11.__doc__ = "VGG11 of DIET-SNN: 8 convolutions, 4 pools, head 4096-4096. Options: :func:`vgg`."

vgg16 = partial(
    vgg, layers=(64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512)
)
vgg16.__doc__ = "VGG16 of DIET-SNN: 13 convolutions, 4 pools, head 4096-4096. Options: :func:`vgg`."

vgg9_bntt = partial(
    vgg,
    layers=(64, 64, "A", 128, 128, "A", 256, 256, 256, "A"),
    head=(1024,),
    batch_norm=True,
    dropout_conv=0.0,
    dropout_linear=0.0,
    xavier_gain=2.0,
)
vgg9_bntt.__doc__ = (
    "VGG9 of BNTT: 7 convolutions with norm, 3 pools, head 1024, no dropout. Options: :func:`vgg`."
)

vgg11_bntt = partial(
    vgg,
    layers=(64, "A", 128, "A", 256, 256, "A", 512, 512, "A", 512, 512),
    head=(4096,),
    batch_norm=True,
    dropout_conv=0.0,
    dropout_linear=0.0,
    global_pool=True,
    xavier_gain=2.0,
)
vgg11_bntt.__doc__ = (
    "VGG11 of BNTT: 8 convolutions with norm, 4 pools and a global one, head 4096, no dropout. "
    "Options: :func:`vgg`."
)

mnist_net = partial(
    vgg,
    layers=(32, "A", 64, "A"),
    head=(128,),
    in_channels=1,
    image_size=28,
    batch_norm=True,
    pool="max",
    dropout_conv=0.0,
    dropout_linear=0.0,
)
mnist_net.__doc__ = (
    "A small network for MNIST: 2 convolutions with norm, 2 max pools, head 128. "
    "Options: :func:`vgg`."
)
