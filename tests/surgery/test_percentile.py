"""Percentiles from counts against NumPy's of all values at once, to the last bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.surgery.percentile import Percentile

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
KINDS = {
    "both signs": lambda x: x,
    "negative": lambda x: -x.abs(),
    "alike": lambda x: 3 + x.abs() / 1000,
    "zeros of both signs": lambda x: x.clamp(min=0) * torch.randn_like(x).sign(),
    "two values": lambda x: (x > 0.5).to(x.dtype),
    "tiny and huge": lambda x: x.sign() * 10 ** (6 * x),
}


def found(values, percentile, rule, size=37):
    """The percentile, and the rounds that it took."""
    seen, rounds = Percentile(percentile, rule), 0
    while seen.wants_more:
        for part in values.split(size):
            seen.add(part)
        seen.end_round()
        rounds += 1
    return seen.value(), rounds


def entries(values):
    return values.to(torch.promote_types(values.dtype, torch.float32)).numpy()


def of_a_sorted_list(values, percentile, rule):
    """By its definition; interpolated as NumPy 2 rounds."""
    everything = np.sort(entries(values))
    if rule == "nearest":
        return float(everything[round(0.01 * percentile * (len(everything) - 1))])
    rank = percentile / 100 * (len(everything) - 1)
    low = int(rank)
    high = min(low + 1, len(everything) - 1)
    apart, t = everything[high] - everything[low], rank - low
    near = everything[high] - apart * (1 - t) if t >= 0.5 else everything[low] + apart * t
    return float(near)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    n=st.integers(1, 200),
    kind=st.sampled_from(list(KINDS)),
    percentile=st.sampled_from([1.5, 50, 75, 90.5, 99.7, 100]),
    rule=st.sampled_from(["interpolated", "nearest"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_it_is_that_of_a_sorted_list_to_the_last_bit(dtype, n, kind, percentile, rule, seed):
    torch.manual_seed(seed)
    values = KINDS[kind](torch.randn(n, dtype=torch.float64)).to(dtype)
    value, rounds = found(values, percentile, rule)
    assert value == of_a_sorted_list(values, percentile, rule)
    assert rounds == (4 if dtype == torch.float64 else 2)
    if rule == "interpolated":
        assert value == pytest.approx(np.percentile(entries(values), percentile), rel=1e-6)


def test_the_largest_value_is_the_hundredth_percentile():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert found(values, 100, "interpolated")[0] == float(values.max())


@pytest.mark.parametrize("rule", ["interpolated", "nearest"])
def test_any_nan_and_an_infinite_entry_at_the_rank_are_told(rule):
    values = torch.arange(100.0)
    values[3] = math.nan
    assert math.isnan(found(values, 50, rule)[0])
    values[3] = -math.inf
    assert found(values, 50, "nearest")[0] == 50
    values[99] = math.inf
    assert not math.isfinite(found(values, 100, rule)[0])


def test_any_layout_is_taken_and_an_empty_batch_is_nothing():
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    seen = Percentile(90, "interpolated")
    while seen.wants_more:
        for part in (values.T[:2], values[:0], values.T[2:]):
            seen.add(part)
        seen.end_round()
    assert seen.value() == found(values.flatten(), 90, "interpolated")[0]
