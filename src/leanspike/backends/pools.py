"""Max pools of rate gradients in plain PyTorch: what they make, and which inputs were the largest.

The gradient of a mean output goes to each input of the window by the steps at which it was the
largest (:mod:`leanspike.execute.rate_pools`). The first of several largest ones has it.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, C, ...]``, ``_N`` is ``[N, C, ...]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """The windows of a max pool: a number for each axis of pixels.

    ``size``: pixels of the input; ``left``: of the output.

    >>> Windows(kernel=(2,), stride=(2,), padding=(1,), dilation=(1,), size=(4,), left=(3,)).pads()
    [(1, 1)]
    """

    kernel: Sides
    stride: Sides
    padding: Sides
    dilation: Sides
    size: Sides
    left: Sides

    def taps(self) -> Iterator[Any]:
        """Return, for each place in a window, where its pixels lie in the padded input."""
        for place in product(*map(range, self.kernel)):
            first = [at * apart for at, apart in zip(place, self.dilation, strict=True)]
            sides = zip(first, self.left, self.stride, strict=True)
            yield (..., *(slice(at, at + (count - 1) * by + 1, by) for at, count, by in sides))

    def pads(self) -> list[tuple[int, int]]:
        """Return the pixels to add before and behind along each axis."""
        sides = zip(self.kernel, self.stride, self.dilation, self.left, strict=True)
        reach = [(count - 1) * by + (wide - 1) * apart + 1 for wide, by, apart, count in sides]
        ends = zip(self.padding, self.size, reach, strict=True)
        return [(before, max(0, last - size - before)) for before, size, last in ends]

    def apart(self) -> bool:
        """Return whether each pixel is in exactly one window.

        >>> Windows((2,), (2,), padding=(0,), dilation=(1,), size=(5,), left=(2,)).apart()
        False
        """
        plain = set(self.padding) <= {0} and set(self.dilation) <= {1}
        whole = all(n * by == s for n, by, s in zip(self.left, self.stride, self.size, strict=True))
        return plain and whole and self.kernel == self.stride

    def padded(self, x_N: Tensor, value: float) -> Tensor:
        """Return the pixels that windows read, with ``value`` beyond the edges."""
        pads = [pixels for side in reversed(self.pads()) for pixels in side]
        return F.pad(x_N, pads, value=value) if any(pads) else x_N


@dataclass(frozen=True)
class MaxPoolRates:
    """What a max pool makes of all steps, without gradients.

    Attributes:
        y_TN: the largest of each window.
        y_N: its mean over time.
        parts: for each place in a window the sum of the shares of the steps at which its input is
            the largest, over T, ``[N, C, ...]`` in float32; None where a window has a NaN.

    >>> MaxPoolRates(torch.ones(2, 1), torch.ones(1), (torch.ones(1),)).parts
    (tensor([1.]),)
    """

    y_TN: Tensor
    y_N: Tensor
    parts: tuple[Tensor, ...] | None


def max_pool_rates(x_TN: Tensor, windows: Windows, share_T: Tensor) -> MaxPoolRates:
    """Pool all steps.

    >>> windows = Windows((2,), (2,), padding=(0,), dilation=(1,), size=(2,), left=(1,))
    >>> x_TN = torch.tensor([[[[3.0, 1.0]]], [[[1.0, 2.0]]]])  # [T, N, C, pixels] = [2, 1, 1, 2]
    >>> found = max_pool_rates(x_TN, windows, torch.tensor([1.5, 0.5]))
    >>> found.y_TN.flatten().tolist(), [part.item() for part in found.parts]
    ([3.0, 2.0], [0.75, 0.25])
    """
    padded = [windows.padded(x_N, -torch.inf) for x_N in x_TN]
    y_TN = torch.stack([torch.stack([x_N[at] for at in windows.taps()]).amax(0) for x_N in padded])
    return MaxPoolRates(y_TN, y_TN.mean(0), shares_of_largest(x_TN, y_TN, windows, share_T))


def shares_of_largest(
    x_TN: Tensor, y_TN: Tensor, windows: Windows, share_T: Tensor
) -> tuple[Tensor, ...] | None:
    """Return ``parts`` of :class:`MaxPoolRates`; None where ``y_TN`` is not in its window."""
    taps = list(windows.taps())
    parts = tuple(torch.zeros_like(y_TN[0], dtype=torch.float32) for _ in taps)
    found_N = torch.empty_like(parts[0])
    for x_N, y_N, share in zip(x_TN, y_TN, share_T.tolist(), strict=True):
        padded = windows.padded(x_N, -torch.inf)
        missing_N = torch.full_like(found_N, share / len(y_TN))  # floats: no cast slows the sums
        for part_N, at in zip(parts, taps, strict=True):
            torch.eq(padded[at], y_N, out=found_N)
            part_N += found_N.mul_(missing_N)
            missing_N -= found_N
        if missing_N.any():
            return None
    return parts
