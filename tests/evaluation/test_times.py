"""Times of SNN and ANN: how they are taken, by a clock that the test moves. No time is asserted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.evaluation import Times, load_result, measure_times
from leanspike.evaluation.times import BatchTime, Spread, take_turns


class Bench:
    """Calls that move a clock instead of working, and a log of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def call(self, name: str, *seconds: float) -> Callable[[], None]:
        """A call that takes the first time at first, and the last one from then on."""
        left = list(seconds)

        def work() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_they_take_turns_and_who_begins_changes() -> None:
    bench = Bench()
    rounds = take_turns([bench.call("snn", 0.03), bench.call("ann", 0.021)], bench.clock)
    assert "".join(name[0] for name in bench.log) == "sa" * 2 + "saas" * 7 + "sa"
    assert len(rounds) == 15
    assert all(row == pytest.approx((0.03, 0.021)) for row in rounds)


def test_what_comes_first_is_not_counted_and_short_calls_are_repeated() -> None:
    bench = Bench()
    slow_at_first = bench.call("a", 9.0, 0.008)
    rounds = take_turns([slow_at_first], bench.clock)
    assert rounds == [pytest.approx((0.008,))] * 15
    assert len(bench.log) == 1 + 16 * 3  # 0.024 s a turn


def test_an_interruption_does_not_count() -> None:
    bench = Bench()
    interrupted = bench.call("a", 0.001, 0.001, 0.5, *[0.008, 0.5] * 15, 0.008)
    assert take_turns([interrupted], bench.clock) == [pytest.approx((0.008,))] * 15


@pytest.mark.parametrize(("seconds", "rounds"), [(1.0, 8), (2.0, 4), (30.0, 3)])
def test_slow_networks_get_fewer_rounds_but_three(seconds: float, rounds: int) -> None:
    bench = Bench()
    assert len(take_turns([bench.call("snn", seconds)], bench.clock)) == rounds


class Slow(nn.Module):
    """A network that moves the clock by so many seconds a sample, and notes what it was given."""

    def __init__(self, bench: Bench, seconds: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        self.bench, self.seconds = bench, seconds
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.seen.append(x)
        self.bench.now += self.seconds * len(x)
        y: torch.Tensor = self.net(x)
        return y


def make(encode: str = "direct") -> tuple[ls.SpikingNetwork, Slow, Bench]:
    torch.manual_seed(0)
    bench = Bench()
    ann = Slow(bench, 0.001)
    example = torch.zeros(3, 1, 1, 2, 2) if encode == "frames" else torch.zeros(1, 1, 2, 2)
    snn = ls.spike(ann.net.eval(), example_input=example, timesteps=3, encode=encode)

    def twice_as_long(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        samples = args[0].shape[1 if encode == "frames" else 0]
        bench.now += 0.002 * samples

    snn.register_forward_pre_hook(twice_as_long)
    return snn, ann, bench


def test_one_sample_and_64_of_the_same_layout_without_gradients() -> None:
    snn, ann, bench = make()
    snn.train(), ann.train()
    x = torch.rand(100, 1, 2, 2).to(memory_format=torch.channels_last)
    times = measure_times(snn, ann, x, clock=bench.clock)
    assert [row.batch for row in times.batches] == [1, 64]
    assert times.device == "cpu"
    assert times.ratios == pytest.approx({1: 2.0, 64: 2.0})
    assert times.batches[1].snn_ms.median == pytest.approx(128.0)
    assert times.batches[1].ann_ms is not None
    assert times.batches[1].ann_ms.high == pytest.approx(64.0)
    assert {len(seen) for seen in ann.seen} == {1, 64}
    assert all(seen.is_contiguous(memory_format=torch.channels_last) for seen in ann.seen)
    assert all(seen.equal(x[: len(seen)]) for seen in ann.seen)
    assert snn.training
    assert ann.training


def test_fewer_samples_or_slow_ones_make_smaller_batches() -> None:
    snn, ann, bench = make()
    few = measure_times(snn, ann, torch.rand(6, 1, 2, 2), clock=bench.clock)
    assert [row.batch for row in few.batches] == [1, 6]
    alone = measure_times(snn, ann, torch.rand(1, 1, 2, 2), clock=bench.clock)
    assert [row.batch for row in alone.batches] == [1]
    ann.seconds = 0.798  # a sample takes both 0.8 s: 30 at once, five times, are two minutes
    slow = measure_times(snn, ann, torch.rand(64, 1, 2, 2), clock=bench.clock)
    assert [row.batch for row in slow.batches] == [1, 30]


def test_without_an_ann_the_snn_is_timed_alone() -> None:
    snn, _, bench = make()
    times = measure_times(snn, None, torch.rand(8, 1, 2, 2), clock=bench.clock)
    assert times.ratios == {}
    assert [row.ann_ms for row in times.batches] == [None, None]
    assert times.batches[1].snn_ms.median == pytest.approx(16.0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_of_frames_the_ann_sees_one_in_the_layout_of_a_batch(layout: torch.memory_format) -> None:
    snn, ann, bench = make("frames")
    seen: list[torch.Tensor] = []
    snn.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    x = torch.rand(3, 8, 1, 2, 2)
    x = x.flatten(0, 1).contiguous(memory_format=layout).view(x.shape)
    measure_times(snn, ann, x, clock=bench.clock)
    assert {part.shape[1] for part in seen} == {1, 8}
    for part in seen:
        assert part.equal(x[:, : part.shape[1]])
        assert part.flatten(0, 1).is_contiguous(memory_format=layout)
    assert {tuple(part.shape) for part in ann.seen} == {(1, 1, 2, 2), (8, 1, 2, 2)}


def test_nothing_to_time_is_one_line() -> None:
    snn, ann, _ = make()
    with pytest.raises(LeanspikeError, match=r"x has shape \[0, 1, 2, 2\]; give a sample or more"):
        measure_times(snn, ann, torch.zeros(0, 1, 2, 2))


def test_a_result_holds_them_and_one_from_before_has_none() -> None:
    snn, ann, _ = make()
    result = ls.evaluate(snn, (torch.rand(8, 1, 2, 2), torch.arange(8) % 3), ann=ann.net)
    assert result.times is None
    spread = Spread(low=2.0, median=3.0, high=4.0)
    row = BatchTime(batch=64, rounds=15, snn_ms=spread, ann_ms=spread, ratio=spread)
    timed = result.model_copy(update={"times": Times(device="cpu", batches=(row,))})
    assert type(result).model_validate_json(timed.model_dump_json()) == timed
    assert timed.summary["time_ratio_batch_64"] == 3.0
    assert not [key for key in result.summary if key.startswith("time_")]


def test_results_from_before_times_and_mistakes_still_load(tmp_path: Path) -> None:
    snn, _, _ = make()
    result = ls.evaluate(snn, (torch.rand(8, 1, 2, 2), torch.arange(8) % 3))
    before = json.loads(result.model_dump_json(exclude={"times", "mistakes"}))
    assert "times" not in before
    (tmp_path / "result.json").write_text(json.dumps(before))
    loaded = load_result(tmp_path / "result.json")
    assert (loaded.times, loaded.mistakes) == (None, None)
    assert loaded == result.model_copy(update={"mistakes": None})
    assert loaded.schema_version == 1
