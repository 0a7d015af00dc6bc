"""Filters that whiten small patches of images, and the networks that ask for images to begin with.

A patch of k × k pixels and C channels is a vector of d = C·k² numbers with the covariance Σ. Its
eigenvectors e_i and eigenvalues v_i give the filters::

    w_i = e_i / sqrt(v_i + ε)

What they give for a patch has the variance v_i / (v_i + ε), so nearly 1, and no covariance.
Without ε the filters of directions in which patches hardly vary would amplify noise.

Source: Jordan 2024 (arXiv 2404.00498), where they are the first convolution of the network.
Shapes: N images, C channels, H × W pixels, k × k the patch, d = C·k².
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from leanspike.errors import LeanspikeError

EPSILON = 5e-4
"""What is added to the eigenvalues, for images of variance 1."""
CHUNK_VALUES = 2**20
"""Pixel values whose patches are in memory at once."""


@runtime_checkable
class StartsFromImages(Protocol):
    """The ability of a network to take its first weights from images.

    A run calls it once, on a network that is made anew without weights, before any training.

    >>> from torch import nn
    >>> from leanspike.models import create_model
    >>> isinstance(create_model("airbench94", 10, width=0.1), StartsFromImages)
    True
    >>> isinstance(nn.Linear(2, 2), StartsFromImages)
    False
    """

    def start_from(self, x: Tensor) -> None:
        """Set first weights by training images ``x`` ``[N, C, H, W]``, normalised, on the CPU.

        The same images must give the same weights, bit for bit.
        """
        ...


def whitening_filters(x: Tensor, patch: int = 2, epsilon: float = EPSILON) -> Tensor:
    """Return the d filters ``[d, C, k, k]`` that whiten all patches of ``patch`` pixels a side.

    The direction of the largest variance comes first. A filter and its negative whiten alike, so a
    sign is chosen: the first large entry, of half the largest size or more, is positive. The same
    images give the same bits, on the same machine, with the same threads.

    Args:
        x: images ``[N, C, H, W]``. It is computed in float64; the result is in their type, on the
            CPU.
        patch: k, at least 1 and at most H and W.
        epsilon: ε, above 0, in units of the pixels' variance.

    Raises:
        LeanspikeError: for other shapes and numbers that are not finite.

    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 1, 9, 9) * 3
    >>> y = F.conv2d(x, whitening_filters(x))
    >>> torch.allclose(y.transpose(0, 1).flatten(1).cov(), torch.eye(4), atol=1e-3)
    True
    """
    _check(x, patch, epsilon)
    d = x.shape[1] * patch**2
    covariance = _covariance(x, patch)
    if not covariance.isfinite().all():
        raise LeanspikeError("x has numbers that are not finite; give finite pixels")
    values, vectors = torch.linalg.eigh(covariance)
    rows = vectors.T.flip(0) / (values.flip(0).clamp(min=0) + epsilon).sqrt().unsqueeze(1)
    filters: Tensor = rows * _signs(rows).unsqueeze(1)
    return filters.reshape(d, x.shape[1], patch, patch).to(x.dtype)


def _check(x: Tensor, patch: int, epsilon: float) -> None:
    if x.dim() != 4 or not x.is_floating_point() or not len(x):
        raise LeanspikeError(
            f"x is {x.dtype} {list(x.shape)}; give normalised images, floats [N, C, H, W]"
        )
    if not 1 <= patch <= min(x.shape[2:]):
        raise LeanspikeError(
            f"patch is {patch}, and images are {list(x.shape[2:])}; give 1..{min(x.shape[2:])}"
        )
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise LeanspikeError(f"epsilon is {epsilon}; give a number above 0")


def _covariance(x: Tensor, patch: int) -> Tensor:
    """Return the covariance of all patches, float64 ``[d, d]``, a few images at a time."""
    d = x.shape[1] * patch**2
    sums, products = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    count = 0
    for chunk in torch.split(x.detach().cpu(), max(1, CHUNK_VALUES // x[0].numel())):
        patches = F.unfold(chunk.double(), patch).transpose(0, 1).flatten(1)
        sums += patches.sum(1)
        products += patches @ patches.T
        count += patches.shape[1]
    mean = sums / count
    return products / count - mean.outer(mean)


def _signs(rows: Tensor) -> Tensor:
    """Return the sign of each row's first entry of at least half of the row's largest size.

    >>> _signs(torch.tensor([[0.1, -0.8, 1.0], [0.6, -1.0, 0.0]]))
    tensor([-1.,  1.])
    """
    size = rows.abs()
    large = size >= 0.5 * size.amax(1, keepdim=True)
    first = large.to(torch.uint8).argmax(1, keepdim=True)
    return rows.gather(1, first).sign().squeeze(1)
