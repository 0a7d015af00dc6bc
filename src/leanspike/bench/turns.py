"""Turns: in each round every worker works once, so that what slows the machine meets all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from leanspike.backends import Backends
from leanspike.bench.result import Entry, Heat
from leanspike.bench.worker import Worker

WARM_UP = 3
"""The rounds that are not timed."""

Told = Callable[[str], None]
"""A function called with a few words when a part begins."""
Version = Callable[[str], str | None]
"""A function from a contender's name to the version of its package."""


def take_turns(
    heat: Heat,
    workers: Mapping[str, Worker],
    rounds: int,
    tell: Told,
    version: Version,
    *given: int,
) -> tuple[Entry, ...]:
    """Let all workers take turns, and return their entries.

    Workers are called with what is ``given``. If a worker fails, its entry says why, and the others
    go on.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    failures: dict[str, str] = {}
    for number in range(WARM_UP + rounds):
        tell(f"{heat.title}: round {number + 1 - WARM_UP} of {rounds}")
        for name, worker in workers.items():
            if name in failures:
                continue
            answer = worker.ask("call", *given)
            if answer.failure is not None:
                failures[name] = answer.failure
            elif number >= WARM_UP:
                seconds[name].append(answer.value)
    return tuple(
        _entry(name, version(name), times, workers[name], failures.get(name), given)
        for name, times in seconds.items()
    )


def _entry(
    name: str,
    version: str | None,
    seconds: Sequence[float],
    worker: Worker,
    failure: str | None,
    given: Sequence[int],
) -> Entry:
    before, peak = worker.ask("memory").value or (None, None)
    ran = worker.ask("backends", *given).value or Backends()
    return Entry(
        contender=name,
        version=version or "",
        seconds=tuple(seconds) if failure is None else (),
        peak_bytes=peak,
        own_bytes=peak - before if peak is not None and before is not None else None,
        backend=ran.backend,
        instructions=ran.instructions,
        failure=failure,
    )
