"""Comparing the SNN with its ANN in float32 and in int8, by arithmetic and memory."""

from __future__ import annotations

from typing import NamedTuple

from leanspike.evaluation.result import Result
from leanspike.evaluation.rivals_result import Rivals
from leanspike.report.quantities import energy


class RivalRow(NamedTuple):
    """A quantity of the three networks, in words."""

    what: str
    ann: str
    ann_int8: str
    snn: str


def rivals_table(result: Result, *, whole: bool = True) -> list[RivalRow]:
    """Return rows of energy, and of the break-even rates; [] for older results.

    With ``whole`` each kind of memory has a row. Rates are per neuron and step. They are not shown
    if the accuracy is at chance.

    >>> from leanspike.evaluation.rivals_result import BreakEven, Column
    >>> spent = [Column(arithmetic_pj=pj, weights_pj=2e6, values_pj=1e6) for pj in (4e6, 1e6, 2e6)]
    >>> found = Rivals(ann=spent[0], ann_int8=spent[1], snn=spent[2], spike_rate=0.08,
    ...     break_even_ann=BreakEven(arithmetic=1.4, total=0.125),
    ...     break_even_int8=BreakEven(arithmetic=0.05, total=0.0),
    ...     word_pj=10, word_bits=64, int8_mac_pj=0.3, int8_ac_pj=0.1)
    >>> result = Result.model_construct(accuracy=(0.9,), n=100, chance=0.1, rivals=found)
    >>> for row in rivals_table(result, whole=False):
    ...     print(*row, sep=" | ")
    arithmetic | 4.00 µJ | 1.00 µJ | 2.00 µJ
    memory | 3.00 µJ | 3.00 µJ | 3.00 µJ
    both | 7.00 µJ | 4.00 µJ | 5.00 µJ
    break-even rate, arithmetic | any | 5.0 % | fires 8.0 %
    break-even rate, both | 12.5 % | none | fires 8.0 %
    """
    found = result.rivals
    if found is None:
        return []

    def row(what: str, name: str) -> RivalRow:
        ann, int8, snn = (getattr(spent, name) for spent in (found.ann, found.ann_int8, found.snn))
        return RivalRow(what, _energy(ann), _energy(int8), _energy(snn))

    kinds = [row(what, name) for what, name in MEMORY] if whole else [row("memory", "memory_pj")]
    rows = [row("arithmetic", "arithmetic_pj"), *kinds, row("both", "total_pj")]
    return [*rows, *_break_even_rows(found, at_chance=result.at_chance)]


MEMORY = (
    ("memory: weights", "weights_pj"),
    ("memory: values", "values_pj"),
    ("memory: spikes", "spikes_pj"),
    ("memory: membranes", "membranes_pj"),
)
"""The kinds of memory traffic, and the fields that hold them."""


def _break_even_rows(found: Rivals, *, at_chance: bool) -> list[RivalRow]:
    fires = f"fires {_percent(found.spike_rate)}"
    ann, int8 = found.break_even_ann, found.break_even_int8
    if at_chance:
        return [RivalRow("break-even rate", "–: at chance", "–: at chance", fires)]
    alone = _rate(ann.arithmetic), _rate(int8.arithmetic)
    return [
        RivalRow("break-even rate, arithmetic", *alone, fires),
        RivalRow("break-even rate, both", _rate(ann.total), _rate(int8.total), fires),
    ]


def _energy(picojoules: float) -> str:
    return energy(picojoules) if picojoules else "–"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "–"
    return "none" if rate == 0 else "any" if rate > 1 else _percent(rate)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def how_rivals(result: Result) -> str:
    """Return the assumptions of these figures in one sentence, or "" if there are none.

    >>> how_rivals(Result.model_construct())
    ''
    """
    found = result.rivals
    if found is None:
        return ""
    return (
        f"memory: {found.word_pj:g} pJ for each {found.word_bits} bits read or written, nothing "
        "reused; rates: spikes per neuron and step, below which the SNN needs less than that ANN"
    )
