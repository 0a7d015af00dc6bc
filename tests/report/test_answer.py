"""The answer in words: accuracy, energy and time, and nothing of energy or time at chance."""

from __future__ import annotations

import pytest

from leanspike.evaluation.result import Energy, Result
from leanspike.evaluation.times import BatchTime, Spread, Times
from leanspike.report.answer import answer


def test_an_answer_of_one_step_about_event_data() -> None:
    result = Result.model_construct(
        timesteps=1,
        accuracy=(0.5,),
        n=2,
        split="validation",
        encode="frames",
        classes=(),
        ann_accuracy=None,
        energy=Energy.model_construct(ratio=1.0),
    )
    assert answer(result) == (
        "At 1 timestep the SNN answers 50.0 % of 2 validation samples correctly "
        "and spends as much energy on arithmetic as the same network as an ANN."
    )


def test_an_answer_at_chance_has_no_energy() -> None:
    result = Result.model_construct(
        timesteps=5,
        accuracy=(0.1, 0.111),
        n=360,
        split="test",
        encode="direct",
        classes=tuple("0123456789"),  # an older record, which knows no more
        ann_accuracy=0.103,
        energy=Energy.model_construct(ratio=42.4),
    )
    assert answer(result) == (
        "At 5 timesteps the SNN answers 11.1 % of 360 test images correctly (ANN: 10.3 %), which "
        "is at chance: guessing gives 10.0 %, with 3 standard errors 14.7 %. Its energy means "
        "nothing; the ANN is at chance, too: check its weights, the labels and the pixels' scale."
    )
    alone = answer(result.model_copy(update={"ann_accuracy": None}))
    assert alone.endswith("means nothing; train or calibrate it.")
    better = answer(result.model_copy(update={"accuracy": (0.1, 0.15)}))
    assert better.endswith("spends 42.4× less energy on arithmetic than the ANN.")


def timed(*ratios: tuple[int, float | None], device: str = "cpu") -> Times:
    """Times of these batches and ratios."""
    rows = []
    for batch, ratio in ratios:
        spread = Spread(low=1.0, median=ratio or 1.0, high=9.0)
        between = None if ratio is None else spread
        rows.append(BatchTime(batch=batch, rounds=15, snn_ms=spread, ratio=between))
    return Times(device=device, batches=tuple(rows))


@pytest.mark.parametrize(
    ("times", "end"),
    [
        (timed((1, 6.3), (64, 3.17)), "The SNN takes 3.2× as long on this CPU (batch 64)."),
        (timed((1, 0.8)), "The SNN takes 0.80× as long on this CPU (batch 1)."),
        (timed((1, 6.3), (9, 2.0), device="cuda"), "takes 2.0× as long on this GPU (batch 9)."),
        (timed((1, None), (64, None)), "less energy on arithmetic than the ANN."),
        (None, "less energy on arithmetic than the ANN."),
    ],
)
def test_less_energy_is_not_taken_for_less_time(times: Times | None, end: str) -> None:
    result = Result.model_construct(
        timesteps=5,
        accuracy=(0.1, 0.9),
        n=360,
        split="test",
        encode="direct",
        classes=(),
        chance=0.1,
        ann_accuracy=0.95,
        energy=Energy.model_construct(ratio=5.2),
        times=times,
    )
    assert answer(result).endswith(end)
    at_chance = answer(result.model_copy(update={"accuracy": (0.1, 0.1)}))
    assert at_chance.endswith("Its energy means nothing; train or calibrate it.")
    assert "as long" not in at_chance
