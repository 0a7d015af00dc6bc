"""Exact percentiles, from counts, of more values than fit in memory.

A histogram of the values' leading 16 bits finds the bin of a rank. A histogram of the next 16 bits
finds the rank within that bin, and so on. That takes two rounds for float32, and four for float64.
The bits of floating point numbers are in the order of the numbers. So the answer is exact for all
values.
"""

from __future__ import annotations

import math
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from leanspike.distributed import ALONE, Group

PercentileRule = Literal["interpolated", "nearest"]

BITS = 16
BINS = 2**BITS
HALF = BINS // 2

Counts = np.ndarray[Any, Any]
Digits = tuple[int, ...]
"""The leading 16-bit parts of a number, as signed integers, the first one first."""


@final
class Percentile:
    """Finds the percentile of values that are shown batch by batch, in as many rounds as it needs.

    Args:
        percentile: p in (0, 100]. Among n values it is that of rank p/100·(n − 1), from 0.
        rule: the value for a rank between two values. "interpolated" is the value between them, as
            in ``numpy.percentile``. "nearest" is the nearer one.

    >>> found = Percentile(50, "interpolated")
    >>> while found.wants_more:
    ...     for batch in (torch.tensor([3.0, 1.0]), torch.tensor([4.0, 2.0])):
    ...         found.add(batch)
    ...     found.end_round()
    >>> found.value()
    2.5
    """

    def __init__(self, percentile: float, rule: str) -> None:
        self.percentile, self.rule = percentile, rule
        self.dtype = torch.float32
        self.histograms: dict[Digits, Counts] = {(): np.zeros(BINS, np.int64)}
        self.ranks: list[tuple[Digits, int]] = []
        self.between = 0.0
        self.has_nan = False

    @property
    def wants_more(self) -> bool:
        """Whether another round through all values is needed."""
        return not self.ranks or len(self.ranks[0][0]) < self.dtype.itemsize * 8 // BITS

    def add(self, values: Tensor) -> None:
        """Show some of the values of this round."""
        if values.numel() == 0:
            return
        self.dtype = torch.promote_types(values.dtype, torch.float32)
        values = values.detach().to(self.dtype).reshape(-1).contiguous()
        if not self.ranks:
            self.has_nan = self.has_nan or bool(values.max().isnan())
        parts = values.view(torch.int16).view(len(values), -1)  # the last is the leading one
        for known, histogram in self.histograms.items():
            chosen = parts
            for place, digit in enumerate(known):
                chosen = chosen[chosen[:, -1 - place] == digit]
            bins = chosen[:, -1 - len(known)].int() + HALF
            histogram += torch.bincount(bins, minlength=BINS).cpu().numpy()

    def end_round(self, group: Group = ALONE) -> None:
        """End a round, in which the processes were shown all values; find the next digits."""
        if group.size > 1:
            self._add_others(group)
        if not self.ranks:
            self.ranks = [((), rank) for rank in self._ranks(int(self.histograms[()].sum()))]
        self.ranks = [self._next_digit(known, rank) for known, rank in self.ranks]
        self.histograms = {known: np.zeros(BINS, np.int64) for known, _ in self.ranks}

    def _add_others(self, group: Group) -> None:
        """Add the counts of all processes. They are whole numbers, so nothing is rounded."""
        own = np.stack([*self.histograms.values(), np.full(BINS, self.has_nan)])
        *total, has_nan = group.summed(torch.from_numpy(own)).numpy()
        self.histograms = dict(zip(self.histograms, total, strict=True))
        self.has_nan = bool(has_nan.any())

    def value(self) -> float:
        """Return the percentile, or NaN if any value was NaN."""
        if self.has_nan:
            return math.nan
        kind = np.float32 if self.dtype == torch.float32 else np.float64
        with np.errstate(invalid="ignore"):
            low, high = (
                np.array(digits[::-1], dtype=np.int16).view(kind)[0] for digits, _ in self.ranks
            )
            if low == high:
                return float(low)
            apart = high - low
            if self.between >= 0.5:  # as numpy rounds
                return float(high - apart * (1 - self.between))
            return float(low + apart * self.between)

    def _ranks(self, n: int) -> tuple[int, int]:
        """Return the ranks of the values on both sides of the percentile, counted from 0."""
        if self.rule == "nearest":
            rank = round(0.01 * self.percentile * (n - 1))  # ties as in DIET-SNN's code
            return rank, rank
        exact = self.percentile / 100 * (n - 1)
        low = min(int(exact), n - 1)
        self.between = exact - low
        return low, min(low + 1, n - 1)

    def _next_digit(self, known: Digits, rank: int) -> tuple[Digits, int]:
        """Return a rank's value with one more digit, and its rank among values that share it."""
        upto = _in_order(self.histograms[known], known).cumsum()
        place = int(np.searchsorted(upto, rank, side="right"))
        below = int(upto[place - 1]) if place else 0
        return (*known, int(_in_order(np.arange(-HALF, HALF), known)[place])), rank - below


def _in_order(bins: Counts, known: Digits) -> Counts:
    """Return the bins of the next digit, from −2¹⁵ on, in the order of the numbers in them.

    Numbers below 0 have a first digit below 0, and their digits are in falling order. Later digits
    count from 0 to 2¹⁶ − 1.
    """
    below, above = bins[:HALF], bins[HALF:]
    if not known:
        return np.concatenate([below[::-1], above])
    in_order = np.concatenate([above, below])
    return in_order if known[0] >= 0 else in_order[::-1]
