"""A whole result as one or two sentences."""

from __future__ import annotations

from leanspike.evaluation.result import Result
from leanspike.report.quantities import figure, percent, plural, saving, times
from leanspike.report.text import answered, device


def answer(result: Result) -> str:
    """Return the whole result in one sentence, and the SNN's time, if measured, in another.

    >>> from leanspike.evaluation.result import Energy
    >>> from leanspike.evaluation.times import BatchTime, Spread, Times
    >>> result = Result.model_construct(timesteps=5, accuracy=(0.9, 0.967), n=360, split="test",
    ...     encode="direct", ann_accuracy=0.981, energy=Energy.model_construct(ratio=7.31),
    ...     chance=0.1)
    >>> answer(result)
    'At 5 timesteps the SNN answers 96.7 % of 360 test images correctly (ANN: 98.1 %)
    and spends 7.3× less energy on arithmetic than the ANN.'
    >>> spread = Spread(low=2.5, median=2.6, high=2.7)
    >>> row = BatchTime(batch=64, rounds=15, snn_ms=spread, ratio=spread)
    >>> answer(result.model_copy(update={"times": Times(device="cpu", batches=(row,))}))
    '...less energy on arithmetic than the ANN. The SNN takes 2.6× as long on this CPU (batch 64).'
    >>> answer(result.model_copy(update={"accuracy": (0.1, 0.111)}))
    'At 5 timesteps the SNN answers 11.1 % of 360 test images correctly (ANN: 98.1 %),
    which is at chance: guessing gives 10.0 %, with 3 standard errors 14.7 %. Its energy ...'
    >>> answer(result.model_copy(update={"accuracy": (), "ann_accuracy": None, "task": "none"}))
    'At 5 timesteps the SNN spends 7.3× less energy on arithmetic than the same network as an ANN.
    No accuracy was measured.'
    """
    answers = f"At {plural(result.timesteps, 'timestep')} the SNN {_right(result)}"
    if result.at_chance:
        return f"{answers}, {_chance(result)}"
    alone = result.ann_accuracy is None and not result.ann_metrics
    other = "the same network as an ANN" if alone else "the ANN"
    factor, way = saving(result.energy.ratio)
    energy_words = (
        f"{factor} {way} energy on arithmetic than" if way else "as much energy on arithmetic as"
    )
    missing = "" if result.accuracy or result.metrics else " No accuracy was measured."
    return f"{answers}spends {energy_words} {other}.{missing}{_longer(result)}"


def _right(result: Result) -> str:
    """Return accuracy or the user's metric as the beginning of a sentence.

    >>> result = Result.model_construct(n=8, split=None, encode="direct",
    ...     metrics={"mse": (0.5, 0.25)}, ann_metrics={"mse": 0.2})
    >>> _right(result.model_copy(update={"accuracy": (), "ann_accuracy": None}))
    'has mse 0.25 (ANN: 0.2) on 8 images and '
    """
    n, ann, last = result.n, result.ann_accuracy, result.last_accuracy
    if last is not None:
        beside = "" if ann is None else f" (ANN: {percent(ann, n)})"
        right = f"answers {percent(last, n)} of {answered(result)} correctly{beside}"
        return right if result.at_chance else f"{right} and "
    words = []
    for name, values in result.metrics.items():
        theirs = result.ann_metrics.get(name)
        beside = "" if theirs is None else f" (ANN: {figure(theirs)})"
        words.append(f"{name} {figure(values[-1])}{beside}")
    return f"has {', '.join(words)} on {answered(result)} and " if words else ""


def _longer(result: Result) -> str:
    """Return a sentence on the SNN's time beside the ANN's, if it was measured."""
    ratios = {} if result.times is None else result.times.ratios
    if result.times is None or not ratios:
        return ""
    batch = max(ratios)
    where = device(result.times.device)
    return f" The SNN takes {times(ratios[batch])} as long on this {where} (batch {batch})."


def _chance(result: Result) -> str:
    """Return what an accuracy at chance means, and what to check."""
    guessing, bound = result.guessing, result.chance_bound
    assert guessing is not None
    assert bound is not None
    ann = result.ann_accuracy
    way = "train or calibrate it"
    if ann is not None and ann <= bound:
        way = "the ANN is at chance, too: check its weights, the labels and the pixels' scale"
    return (
        f"which is at chance: guessing gives {percent(guessing, result.n)}, with 3 standard errors "
        f"{percent(bound, result.n)}. Its energy means nothing; {way}."
    )
