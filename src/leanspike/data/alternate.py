"""Which images an epoch mirrors where epochs take turns: a function of seed, number and epoch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from leanspike.errors import LeanspikeError

Flip = bool | Literal["alternate"]
"""Whether images are mirrored: never, by chance, or in every other epoch."""

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def check_flip(flip: Flip) -> None:
    """Raise LeanspikeError for what is none of the three choices.

    >>> check_flip("alternate")
    """
    if flip not in (True, False, "alternate"):
        raise LeanspikeError(f"flip is {flip!r}; give True, False or 'alternate'")


def mirrored_in(numbers: Tensor, epoch: int, seed: int) -> Tensor:
    """Tell which images are mirrored in an epoch: bool [B].

    In even epochs an image is mirrored with probability 1/2, always the same images. In odd epochs
    it is the others. So two epochs in a row show each image both ways (Jordan 2024, arXiv
    2404.00498).

    The draw of an image is a bit of SplitMix64 (Steele, Lea & Flood 2014) at its number. It is a
    function of the seed and the number alone, whatever batch the image is in.

    Args:
        numbers: the images' numbers in their split, int64 [B], on the CPU.
        epoch: the epoch, 0 or more.
        seed: the seed, 0 or more.

    >>> numbers = torch.arange(6)
    >>> torch.equal(mirrored_in(numbers, 1, seed=0), ~mirrored_in(numbers, 0, seed=0))
    True
    >>> torch.equal(mirrored_in(numbers[4:], 0, seed=0), mirrored_in(numbers, 0, seed=0)[4:])
    True
    """
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    z = key + numbers.numpy().astype(np.uint64) * np.uint64(_STEP)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    drawn = (z ^ (z >> np.uint64(31))) >> np.uint64(63)
    return torch.from_numpy(drawn.astype(bool) ^ bool(epoch % 2))
