"""Comparing the SNN with ANNs in float32, in int8 and in fewer bits, by arithmetic and memory."""

from __future__ import annotations

from collections.abc import Sequence

from leanspike.evaluation.result import Result
from leanspike.evaluation.rivals_result import BreakEven
from leanspike.report.quantities import energy, plural


def rivals_table(result: Result, *, whole: bool = True) -> list[tuple[str, ...]]:
    """Return a table's lines: names of its columns, energy, break-even rates; [] for older results.

    With ``whole`` each kind of memory has a row. Rates are per neuron and step. They are not shown
    if the accuracy is at chance. Two columns of fewer bits follow, if the result has them.

    >>> from leanspike.evaluation.rivals_result import BreakEven, Column, Rivals
    >>> spent = [Column(arithmetic_pj=pj, weights_pj=2e6, values_pj=1e6) for pj in (4e6, 1e6, 2e6)]
    >>> found = Rivals(ann=spent[0], ann_int8=spent[1], snn=spent[2], spike_rate=0.08,
    ...     break_even_ann=BreakEven(arithmetic=1.4, total=0.125),
    ...     break_even_int8=BreakEven(arithmetic=0.05, total=0.0),
    ...     word_pj=10, word_bits=64, int8_mac_pj=0.3, int8_ac_pj=0.1)
    >>> result = Result.model_construct(accuracy=(0.9,), n=100, chance=0.1, rivals=found)
    >>> for line in rivals_table(result, whole=False):
    ...     print(*line, sep=" | ")
     | ANN float32 | ANN int8 | SNN float32
    arithmetic | 4.00 µJ | 1.00 µJ | 2.00 µJ
    memory | 3.00 µJ | 3.00 µJ | 3.00 µJ
    both | 7.00 µJ | 4.00 µJ | 5.00 µJ
    break-even, arithmetic | any | 5.0 % | fires 8.0 %
    break-even, both | 12.5 % | none | fires 8.0 %
    """
    found = result.rivals
    if found is None:
        return []
    columns = {"ANN float32": found.ann, "ANN int8": found.ann_int8, "SNN float32": found.snn}
    evens = [found.break_even_ann, found.break_even_int8]
    if (few := found.quantised) is not None:
        columns |= {f"ANN {few.value_bits}-bit": few.ann, "SNN int8": few.snn}
        evens.append(few.break_even)
    kinds = MEMORY if whole else (("memory", "memory_pj"),)
    energies = (("arithmetic", "arithmetic_pj"), *kinds, ("both", "total_pj"))
    return [
        ("", *columns),
        *(
            (what, *(_energy(getattr(each, name)) for each in columns.values()))
            for what, name in energies
        ),
        *_break_even_rows(found.spike_rate, evens, at_chance=result.at_chance),
    ]


MEMORY = (
    ("memory: weights", "weights_pj"),
    ("memory: values", "values_pj"),
    ("memory: spikes", "spikes_pj"),
    ("memory: membranes", "membranes_pj"),
)
"""The kinds of memory traffic, and the fields that hold them."""


def _break_even_rows(
    fired: float, evens: Sequence[BreakEven], *, at_chance: bool
) -> list[tuple[str, ...]]:
    """Return a rate below each ANN, and below each SNN at which it fires."""
    fires = f"fires {_percent(fired)}"

    def row(what: str, rates: Sequence[str]) -> tuple[str, ...]:
        first, second, *fewer = rates
        return (what, first, second, fires, *fewer, *[fires for _ in fewer])

    if at_chance:
        return [row("break-even", ["–: at chance"] * len(evens))]
    return [
        row("break-even, arithmetic", [_rate(even.arithmetic) for even in evens]),
        row("break-even, both", [_rate(even.total) for even in evens]),
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
    few, beside = found.quantised, ""
    if few is not None:
        beside = (
            f"; {few.value_bits}-bit: weights of 8 bits, values of {few.value_bits}, as many as "
            f"{plural(result.timesteps, 'step')} can tell; its rate is that of the SNN in int8"
        )
    return (
        f"memory: {found.word_pj:g} pJ for each {found.word_bits} bits read or written, nothing "
        "reused; break-even: spikes per neuron and step, below which the SNN needs less than that "
        f"ANN{beside}"
    )
