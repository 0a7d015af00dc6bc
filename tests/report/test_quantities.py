"""Quantities as text, at the edges that the docstrings leave out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.report import quantities

seeded = settings(derandomize=True)
UNITS = {"pJ": 1.0, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9, "J": 1e12}


@seeded
@given(st.floats(min_value=1e-2, max_value=1e14))
def test_an_energy_reads_back_to_three_digits(picojoules: float) -> None:
    number, unit = quantities.energy(picojoules).split()
    assert float(number) * UNITS[unit] == pytest.approx(picojoules, rel=0.00501)
    assert unit in ("pJ", "J") or 1 <= float(number) < 1000


@seeded
@given(st.integers(min_value=0, max_value=10**17))
def test_a_count_reads_back_to_three_digits(number: int) -> None:
    digits, _, prefix = quantities.count(number).partition(" ")
    factor = 1000.0 ** ("kMGTP".index(prefix) + 1) if prefix else 1.0
    assert float(digits) * factor == pytest.approx(number, rel=0.00501)


@seeded
@given(st.integers(min_value=0, max_value=500), st.integers(min_value=1, max_value=500))
def test_the_wilson_interval_solves_its_equation(right: int, n: int) -> None:
    """Its ends p are where (fraction − p)² = z² p (1 − p) / n: the score test's definition."""
    fraction = min(right, n) / n
    low, high = quantities.wilson_interval(fraction, n)
    assert 0 <= low <= fraction + 1e-12
    assert fraction - 1e-12 <= high <= 1
    for end in (low, high):
        square = 1.959964**2 * end * (1 - end) / n
        assert (fraction - end) ** 2 == pytest.approx(square, abs=1e-9)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.0, "0.00×"), (0.999, "1.00×"), (1.0, "1.0×"), (99.94, "99.9×"), (99.96, "100×")],
)
def test_times(factor: float, expected: str) -> None:
    assert quantities.times(factor) == expected


def test_savings_at_the_edges() -> None:
    assert quantities.saving(math.inf) == ("∞", "less")
    assert quantities.saving(0.0) == ("∞", "more")
    assert quantities.saving(0.99) == quantities.saving(1.04) == ("1.0×", "")
