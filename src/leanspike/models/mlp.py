"""A multilayer perceptron: hidden linear layers, for digits, rows of pixels, features.

Shapes: N samples, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from leanspike.models.parts import check_counts, check_dropout, initialise_weights, scaled


class MLP(nn.Module):
    """Hidden linear layers, each linear → [norm] → relu → [dropout], and one for the logits.

    Args:
        num_classes: K.
        hidden: their sizes, at least one.
        in_channels, image_size: of the input, ``[N, C, H, W]`` with H = W = ``image_size``.
        inputs: C·H·W instead, where the input is no square.
        width: all hidden sizes are multiplied by it.
        batch_norm: a norm after every hidden layer.
        dropout: probability in [0, 1) of dropping after an activation.
        bias: whether the layers have one.
        xavier_gain: of the first weights; see ``parts.initialise_weights``.

    >>> MLP(10, hidden=(32, 16), inputs=28)(torch.zeros(2, 1, 1, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        hidden: Sequence[int] = (256, 256),
        in_channels: int = 1,
        image_size: int = 28,
        inputs: int | None = None,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        xavier_gain: float | None = None,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        check_counts(hidden=len(hidden), inputs=1 if inputs is None else inputs)
        check_dropout(dropout=dropout)
        entering = in_channels * image_size**2 if inputs is None else inputs
        sizes = (entering, *(scaled(size, width) for size in hidden))
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate(pairwise(sizes), start=1):
            modules[f"linear{number}"] = nn.Linear(before, after, bias=bias)
            if batch_norm:
                modules[f"norm{number}"] = nn.BatchNorm1d(after)
            modules[f"relu{number}"] = nn.ReLU()
            if dropout > 0:
                modules[f"dropout{number}"] = nn.Dropout(dropout)
        modules[f"linear{len(sizes)}"] = nn.Linear(sizes[-1], num_classes, bias=bias)
        self.layers = nn.Sequential(modules)
        initialise_weights(self, xavier_gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``[N, K]`` for ``[N, C, H, W]``."""
        logits: torch.Tensor = self.layers(x.flatten(1))
        return logits
