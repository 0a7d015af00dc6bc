"""How long an SNN and its ANN take on this machine, side by side.

Both run in eval mode, without gradients, in float32, with the same threads, on the same input in
the same layout. They take turns, round by round, and who begins changes. So what slows the machine
down for a while meets both. A round's ratio is of two turns that follow each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import quantiles

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.evaluation.record import Record
from leanspike.modes import eval_mode
from leanspike.surgery import SpikingNetwork

BATCH = 64
"""The most samples of the larger batch."""
ROUNDS, LEAST_ROUNDS = 15, 3
MOST_SECONDS = 8.0
"""The time for the rounds of one batch size, unless the least number of rounds takes longer."""
LONGEST_SECONDS = 120.0
"""The time that the larger batch may take; where 64 samples would take longer there are fewer."""
TURN_SECONDS = 0.02
"""The least time of a turn: a shorter call is repeated, and the fastest one counts."""

Call = Callable[[], object]
Clock = Callable[[], float]


class Spread(Record):
    """The median of what the rounds gave, between its lower and its upper quartile."""

    low: float
    median: float
    high: float


class BatchTime(Record):
    """The wall-clock time of one call for ``batch`` samples, in milliseconds, over the rounds.

    ``ratio`` is SNN ÷ ANN, round by round: above 1 the SNN takes longer. ``ratio`` and ``ann_ms``
    are None where there was no ANN.
    """

    batch: int
    rounds: int
    snn_ms: Spread
    ann_ms: Spread | None = None
    ratio: Spread | None = None


class Times(Record):
    """Times of SNN and ANN at several batch sizes, in ascending order, on a device of that type.

    >>> spread = Spread(low=2.0, median=3.0, high=4.0)
    >>> Times(device="cpu", batches=(BatchTime(batch=1, rounds=3, snn_ms=spread),)).ratios
    {}
    """

    device: str
    batches: tuple[BatchTime, ...]

    @property
    def ratios(self) -> dict[int, float]:
        """The median ratio SNN ÷ ANN by batch size; empty without an ANN."""
        return {row.batch: row.ratio.median for row in self.batches if row.ratio is not None}


@torch.no_grad()
def measure_times(
    snn: SpikingNetwork, ann: nn.Module | None, x: Tensor, *, clock: Clock = time.perf_counter
) -> Times:
    """Time the SNN beside its ANN on one sample, and on 64 at once.

    A small network takes a second. Larger ones take some seconds, with fewer rounds than 15. The
    largest take two minutes, with fewer samples than 64. Leave the machine alone meanwhile.

    Args:
        snn: timed at ``snn.timesteps`` steps.
        ann: the network that it came from; its weights do not matter. None: the SNN alone.
        x: input ``[N, ...]`` on the networks' device, or frames ``[T, N, ...]``, of which the ANN
            sees the first. Give real data: an SNN takes longer the more it spikes.
        clock: a function that tells the seconds.

    Raises:
        LeanspikeError: for an ``x`` without samples.

    Example:
        >>> from leanspike import spike
        >>> ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=2)
        >>> times = measure_times(snn, ann, torch.rand(20, 8))
        >>> [row.batch for row in times.batches], all(r > 0 for r in times.ratios.values())
        ([1, 20], True)
    """
    axis = snn.plan.encoder.batch_axis
    if x.dim() <= axis or x.shape[axis] == 0:
        raise LeanspikeError(f"x has shape {list(x.shape)}; give a sample or more to be timed on")
    networks = (snn,) if ann is None else (snn, ann)
    with ExitStack() as modes:
        for network in networks:
            modes.enter_context(eval_mode(network))
        rows = [_time(networks, _first(x, axis, 1), axis, clock)]
        batch = _fitting(rows[0], x.shape[axis])
        if batch > 1:
            rows.append(_time(networks, _first(x, axis, batch), axis, clock))
    return Times(device=x.device.type, batches=tuple(rows))


def _first(x: Tensor, axis: int, samples: int) -> Tensor:
    """Return the first samples, laid out as a batch of that size would be."""
    if axis == 0:
        return x[:samples]
    # The steps of frames are stacked into the batch, so the stack must have the same layout.
    stacked = x.flatten(0, 1)
    last = stacked.dim() == 4 and stacked.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    part = x.narrow(axis, 0, samples)
    return part.flatten(0, 1).contiguous(memory_format=layout).view(part.shape)


def _fitting(single: BatchTime, samples: int) -> int:
    """Return how many of the samples can be timed at once, by the time of one of them."""
    ann_ms = single.ann_ms.low if single.ann_ms is not None else 0.0
    seconds = (single.snn_ms.low + ann_ms) / 1e3
    bearable = LONGEST_SECONDS / (LEAST_ROUNDS + 2) / max(seconds, 1e-9)
    return min(BATCH, samples, max(1, int(bearable)))


def _time(networks: Sequence[nn.Module], x: Tensor, axis: int, clock: Clock) -> BatchTime:
    """Time one batch size: the SNN, and the ANN if there is one."""
    inputs = (x, x[0] if axis else x)
    calls = [_call(network, own) for network, own in zip(networks, inputs, strict=False)]
    rounds = take_turns(calls, clock)
    snn_ms, *ann_ms = (_spread([1e3 * row[i] for row in rounds]) for i in range(len(calls)))
    return BatchTime(
        batch=x.shape[axis],
        rounds=len(rounds),
        snn_ms=snn_ms,
        ann_ms=ann_ms[0] if ann_ms else None,
        ratio=_spread([snn / ann for snn, ann in rounds]) if ann_ms else None,
    )


def _call(network: nn.Module, x: Tensor) -> Call:
    def call() -> None:
        network(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    return call


def take_turns(calls: Sequence[Call], clock: Clock) -> list[tuple[float, ...]]:
    """Return the seconds of each call in each round, after two rounds that do not count.

    There are as many rounds as fit into ``MOST_SECONDS``, from ``LEAST_ROUNDS`` to ``ROUNDS``.
    Rounds begin with the first call and with the last call in turn.

    >>> len(take_turns([lambda: None], time.perf_counter))
    15
    """
    for call in calls:
        call()
    before = clock()
    for call in calls:
        _turn(call, clock)
    fitting = int(MOST_SECONDS / max(clock() - before, 1e-9))
    rounds = []
    for number in range(max(LEAST_ROUNDS, min(ROUNDS, fitting))):
        order = list(range(len(calls)))[:: 1 if number % 2 == 0 else -1]
        seconds = {index: _turn(calls[index], clock) for index in order}
        rounds.append(tuple(seconds[index] for index in range(len(calls))))
    return rounds


def _turn(call: Call, clock: Clock) -> float:
    """Return the time of the fastest call of a turn.

    The fastest counts, as other work interrupts the longer of two calls more.
    """
    seconds: list[float] = []
    begun = now = clock()
    while now - begun < TURN_SECONDS:
        call()
        then, now = now, clock()
        seconds.append(now - then)
    return min(seconds)


def _spread(values: Sequence[float]) -> Spread:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(low=low, median=middle, high=high)
