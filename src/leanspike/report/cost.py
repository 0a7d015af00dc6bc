"""Comparing an SNN with its ANN in one table: accuracy, time and energy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from leanspike.evaluation.macs import Macs
from leanspike.evaluation.result import Provenance, Result
from leanspike.evaluation.times import BatchTime, Spread
from leanspike.report.quantities import (
    count,
    duration,
    energy,
    figure,
    percent,
    plural,
    points,
    saving,
    times,
)
from leanspike.report.text import device, sample_noun

ARITHMETIC = "arithmetic only: no memory traffic, no static power; no chip was measured"
"""A note on what counted energy includes."""


def not_counted(result: Result) -> str:
    """Return a note on the modules that are not counted, and on their share of the network.

    >>> from leanspike.evaluation.layers import Uncounted
    >>> result = Result.model_construct(
    ...     uncounted=(Uncounted(path="body", kind="Recurrent", share=0.25),))
    >>> not_counted(result)
    'not counted: body (Recurrent), which holds 25.0 % of the weights; operations and energy are
    without it, in the ANN and the SNN'
    """
    modules = ", ".join(f"{part.path} ({part.kind})" for part in result.uncounted)
    share = sum(part.share for part in result.uncounted)
    one = len(result.uncounted) == 1
    holds = f"which {'holds' if one else 'hold'} {100 * share:.1f} % of the weights"
    return (
        f"not counted: {modules}, {holds if share else 'whose work leaves PyTorch'}; operations "
        f"and energy are without {'it' if one else 'them'}, in the ANN and the SNN"
    )


def trained_with(origin: Provenance) -> str:
    """Return how many multiply-accumulates a training took, and for what; "" if nothing is known.

    >>> from leanspike.evaluation.macs import Macs
    >>> ann = Macs(forward=135_000_000, backward=270_000_000, validation=7_000_000,
    ...            padding=51_000_000)
    >>> snn = Macs(forward=50_000_000, backward=100_000_000, teacher=20_000_000)
    >>> trained_with(Provenance.model_construct(
    ...     seconds={"train ann": 600.0}, macs={"train ann": ann, "train snn T=2": snn}))
    'training: 582 M multiply-accumulates (train ann 412 M, train snn T=2 170 M; among all 20.0 M by
    the teacher, 7.00 M on held-out images, 51.0 M with padding)'
    """
    total = origin.training_macs
    if total is None or not total:
        return ""
    phases = ", ".join(f"{phase} {count(found.total)}" for phase, found in origin.macs.items())
    every = Macs.sum(origin.macs.values())
    parts = [f"{count(every.teacher)} by the teacher"] if every.teacher else []
    parts += [f"{count(every.validation)} on held-out images"] if every.validation else []
    parts += [f"{count(every.padding)} with padding"] if every.padding else []
    among = f"; among all {', '.join(parts)}" if parts else ""
    return f"training: {count(total)} multiply-accumulates ({phases}{among})"


class Row(NamedTuple):
    """A quantity of both networks in words, and their comparison."""

    what: str
    ann: str
    snn: str
    beside: str


def cost_table(result: Result) -> list[Row]:
    """Return accuracy, time and energy. Energies are not compared if the accuracy is at chance.

    >>> from leanspike.evaluation.result import Energy
    >>> from leanspike.evaluation.times import Times
    >>> ms = [Spread(low=0.9 * value, median=value, high=1.1 * value) for value in (1.0, 3.0)]
    >>> row = BatchTime(batch=64, rounds=15, ann_ms=ms[0], snn_ms=ms[1], ratio=ms[1])
    >>> result = Result.model_construct(
    ...     timesteps=5, accuracy=(0.967,), n=360, encode="direct", ann_accuracy=0.981, chance=0.1,
    ...     energy=Energy.model_construct(ann_pj=8e6, snn_pj=2e6, ratio=4.0),
    ...     times=Times(device="cpu", batches=(row,)))
    >>> for row in cost_table(result):
    ...     print(*row, sep=" | ")
    accuracy | 98.1 % | 96.7 % | −1.4 points
    time of 64 images, measured | 1.00 ms | 3.00 ms | 3.0× as long (2.7–3.3)
    energy of one image, counted | 8.00 µJ | 2.00 µJ | 4.0× less
    """
    total = result.energy
    timed = [] if result.times is None else result.times.batches
    quoted = "–: at chance" if result.at_chance else " ".join(saving(total.ratio)).strip()
    what = f"energy of one {sample_noun(result)}, counted"
    counted = Row(what, energy(total.ann_pj), energy(total.snn_pj), quoted)
    return [*_right(result), *(_time(result, row) for row in timed), counted]


def _right(result: Result) -> Iterator[Row]:
    """Yield accuracy and the user's metrics, as far as they were measured."""
    n, ann, snn = result.n, result.ann_accuracy, result.last_accuracy
    if snn is not None:
        beside = "" if ann is None else points(snn - ann, n)
        yield Row("accuracy", "–" if ann is None else percent(ann, n), percent(snn, n), beside)
    if result.top5:
        last, theirs = result.top5[-1], result.ann_top5
        beside = "" if theirs is None else points(last - theirs, n)
        shown = "–" if theirs is None else percent(theirs, n)
        yield Row("accuracy, top 5", shown, percent(last, n), beside)
    for name, values in result.metrics.items():
        theirs = result.ann_metrics.get(name)
        beside = "" if theirs is None else f"{values[-1] - theirs:+.3g}".replace("-", "−")
        yield Row(name, figure(theirs), figure(values[-1]), beside)


def _time(result: Result, row: BatchTime) -> Row:
    noun = sample_noun(result)
    what = f"one {noun}" if row.batch == 1 else plural(row.batch, noun)
    ann = "–" if row.ann_ms is None else duration(row.ann_ms.median)
    beside = (
        "" if row.ratio is None else f"{times(row.ratio.median)} as long ({_between(row.ratio)})"
    )
    return Row(f"time of {what}, measured", ann, duration(row.snn_ms.median), beside)


def _between(spread: Spread) -> str:
    return f"{times(spread.low)[:-1]}–{times(spread.high)[:-1]}"


def how_timed(result: Result) -> str:
    """Return how and on what the times were measured, or "" if none were.

    >>> how_timed(Result.model_construct())
    ''
    """
    if result.times is None:
        return ""
    origin = result.provenance
    frame = "; the ANN sees one frame" if result.encode == "frames" else ""
    rounds = " and ".join(dict.fromkeys(str(row.rounds) for row in result.times.batches))
    return (
        f"times: on {origin.hardware}, {plural(origin.threads, 'thread')}, float32; medians of "
        f"{rounds} rounds in turn, quartiles of the ratio in brackets; another "
        f"{device(result.times.device)} or load gives others{frame}"
    )
