"""Mean and standard deviation of a data set's channels."""

from __future__ import annotations

import torch
from torch import Tensor

from leanspike.data.split import Split


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all pixels, in [0, 1], to 4 decimals.

    For other tensors they are in the tensors' own units, to 6 digits; axis 1 has the channels.

    >>> from leanspike.data.small import synthetic
    >>> channel_statistics(synthetic(shape=(1, 8, 8), train=10).train)
    ((0.50...,), (0.29...,))
    """
    images, _ = split.batch(torch.arange(len(split)))
    if images.is_floating_point():
        return _float_statistics(images)
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack(
        [channel.flatten().bincount(minlength=256) for channel in images.unbind(-3)]
    )
    shares = counts / counts.sum(1, keepdim=True, dtype=torch.float64)  # [C, 256]
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    return tuple(round(x, 4) for x in mean.tolist()), tuple(round(x, 4) for x in std.tolist())


def _float_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    rows = x.transpose(0, 1).flatten(1).to(torch.float64)
    mean, std = rows.mean(1), rows.std(1, correction=0)
    return tuple(float(f"{v:.6g}") for v in mean), tuple(float(f"{v:.6g}") for v in std)
