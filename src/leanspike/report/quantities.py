"""Numbers as text, with their units, for figures, pages and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev


def percent(fraction: float, n: int) -> str:
    """Return a fraction of ``n`` samples as a percentage, with the decimals that ``n`` supports.

    >>> percent(0.9672, 360), percent(0.9272, 10_000)
    ('96.7 %', '92.72 %')
    """
    return f"{100 * fraction:.{_decimals(n)}f} %"


def points(difference: float, n: int) -> str:
    """Return a difference of two accuracies in percentage points, with its sign.

    >>> points(-0.0139, 360), points(0.0021, 10_000)
    ('−1.4 points', '+0.21 points')
    """
    return f"{100 * difference:+.{_decimals(n)}f} points".replace("-", "−")


def _decimals(n: int) -> int:
    return 2 if n > 1000 else 1


def wilson_interval(fraction: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a fraction observed on ``n`` samples (Wilson 1927).

    It tells how much the accuracy may vary by the choice of test samples alone.

    >>> low, high = wilson_interval(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    z = 1.959964
    middle = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def ratio(numerator: float, denominator: float) -> float:
    """Return a quotient. A positive number over 0 is infinite, and 0 over 0 is 1.

    >>> ratio(3.0, 2.0), ratio(3.0, 0.0), ratio(0.0, 0.0)
    (1.5, inf, 1.0)
    """
    if denominator:
        return numerator / denominator
    return math.inf if numerator else 1.0


def times(factor: float) -> str:
    """Return a factor as text with at least two digits.

    >>> times(7.31), times(0.724), times(213.6), times(math.inf)
    ('7.3×', '0.72×', '214×', '∞')
    """
    if math.isinf(factor):
        return "∞"
    return f"{factor:.{0 if factor >= 99.95 else 1 if factor >= 1 else 2}f}×"


def energy(picojoules: float) -> str:
    """Return an energy as text with three digits, in units from pJ to J.

    >>> energy(8_912_345), energy(35_000_000), energy(0.9), energy(0.0)
    ('8.91 µJ', '35.0 µJ', '0.900 pJ', '0 J')
    """
    return _scaled(picojoules, ("pJ", "nJ", "µJ", "mJ", "J")) if picojoules else "0 J"


def duration(milliseconds: float) -> str:
    """Return a time as text with three digits.

    >>> duration(0.4081), duration(20.66), duration(3000)
    ('0.408 ms', '20.7 ms', '3.00 s')
    """
    return _scaled(milliseconds, ("ms", "s"))


def count(number: float) -> str:
    """Return a number of operations as text with three digits and an SI prefix.

    >>> count(141_953_024), count(19_000_000), count(980), count(0), count(999_700)
    ('142 M', '19.0 M', '980', '0', '1.00 M')
    """
    return f"{number:.0f}" if number < 999.5 else _scaled(number, ("", "k", "M", "G", "T", "P"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while float(f"{value:.3g}") >= 1000 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{value:#.3g}".rstrip(".") + f" {units[power]}"


def spikes(per_neuron: float) -> str:
    """Return spikes per neuron as text with two decimals, or three for small numbers.

    >>> spikes(1.234), spikes(0.0123)
    ('1.23', '0.012')
    """
    return f"{per_neuron:.{2 if per_neuron >= 0.1 or per_neuron == 0 else 3}f}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "timestep"), plural(10_000, "image")
    ('1 timestep', '10,000 images')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def mean_and_deviation(values: Sequence[float], form: str) -> str:
    """Return the mean ± the standard deviation, of which there is none for one value.

    >>> mean_and_deviation((1.0, 2.0), ".2f"), mean_and_deviation((1.0,), ".1f")
    ('1.50 ± 0.71', '1.0')
    """
    return f"{mean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")


def figure(value: float | None) -> str:
    """Return the value of a user's metric as text with four digits.

    >>> figure(0.0123456), figure(None)
    ('0.01235', '–')
    """
    return "–" if value is None else f"{value:.4g}"


def saving(energy_ratio: float) -> tuple[str, str]:
    """Return E_ANN / E_SNN as a factor of at least 1, with the word "less" or "more".

    >>> saving(7.31), saving(0.5), saving(1.0)
    (('7.3×', 'less'), ('2.0×', 'more'), ('1.0×', ''))
    """
    factor = energy_ratio if energy_ratio >= 1 else ratio(1.0, energy_ratio)
    if times(factor) == times(1.0):
        return times(1.0), ""
    return times(factor), "less" if energy_ratio > 1 else "more"


def by_formula(energy_ratio: float | None) -> str:
    """Return a ratio by a paper's formula as a factor with "less" or "more".

    >>> by_formula(9.06), by_formula(1.0), by_formula(None)
    ('9.1× less', '1.0×', 'not recorded')
    """
    return "not recorded" if energy_ratio is None else " ".join(saving(energy_ratio)).strip()
