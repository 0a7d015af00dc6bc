"""The heats of the race, in which all contenders take turns, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from leanspike.backends import Backends
from leanspike.bench.contenders import CONTENDERS, SEED
from leanspike.bench.engine import BATCHES, engine_heats, engine_workers
from leanspike.bench.result import Entry, Heat, Outcome, Profile, Race
from leanspike.bench.rivals import RIVALS, racing
from leanspike.bench.worker import Worker, work
from leanspike.errors import LeanspikeError
from leanspike.evaluation.origin import computed_by, provenance
from leanspike.processor import EMULATED, has_bfloat16

WARM_UP = 3
PARTS = ("race", "curve", "profile", "engine")
USUAL = PARTS[:3]
"""The parts that need no trained run."""
CURVE = (1, 2, 4, 8, 16, 32)
PROFILED = ("ann", "leanspike", "spikingjelly")

Told = Callable[[str], None]
"""A function called with a few words when a part begins."""


def heats(width: float = 1.0) -> list[Heat]:
    """Return the heats at T = 5: training at batch 32, inference at 1 and 64, in both dtypes.

    >>> [heat.title for heat in heats()][:2]
    ['training, float32, batch 32, T = 5', 'training, bfloat16, batch 32, T = 5']
    """
    found = []
    for memory in ("default", "kept"):
        for train, batch in ((True, 32), (False, 1), (False, 64)):
            for dtype in ("float32", "bfloat16"):
                fields = {"train": train, "dtype": dtype, "batch": batch, "memory": memory}
                found.append(Heat.model_validate({**fields, "timesteps": 5, "width": width}))
    return found


def curve(width: float = 1.0) -> list[Heat]:
    """Return the heats of training in float32 at batch 8 for T = 1 to 32.

    >>> [heat.timesteps for heat in curve()]
    [1, 2, 4, 8, 16, 32]
    """
    return [
        Heat(train=True, dtype="float32", batch=8, timesteps=T, width=width, memory="kept")
        for T in CURVE
    ]


@dataclass(frozen=True)
class Plan:
    """The plan of a race: contenders, rounds, parts, and the network's width (1 is VGG9's).

    >>> Plan(contenders=("ann", "leanspike"), rounds=3).heats()[0].title
    'training, float32, batch 32, T = 5'
    """

    contenders: tuple[str, ...]
    rounds: int = 7
    parts: tuple[str, ...] = USUAL
    width: float = 1.0
    trained: Path | None = None

    def __post_init__(self) -> None:
        for what, given, valid in (
            ("contender", self.contenders, {**CONTENDERS, **RIVALS}),
            ("part", self.parts, PARTS),
        ):
            for name in given:
                if name not in valid:
                    raise LeanspikeError(f"no {what} {name!r}; choose from {', '.join(valid)}")
        if self.rounds < 1:
            raise LeanspikeError(f"rounds is {self.rounds}; give 1 or more")
        if "engine" in self.parts and self.trained is None:
            raise LeanspikeError("part engine races a trained run; give --run runs/cifar10_t5")
        if not self.width > 0:
            raise LeanspikeError(f"width is {self.width}; give a number above 0, 1 for VGG9's")

    def heats(self) -> list[Heat]:
        """Return the heats of part "race"."""
        return _possible(heats(self.width)) if "race" in self.parts else []

    def curve(self) -> list[Heat]:
        """Return the heats of part "curve"."""
        return curve(self.width) if "curve" in self.parts else []

    def profiled(self) -> list[Heat]:
        """Return the heats of part "profile"."""
        kept = [heat for heat in heats(self.width) if heat.train and heat.memory == "kept"]
        return _possible(kept) if "profile" in self.parts else []

    def engine_heats(self) -> list[Heat]:
        """Return the heats of part "engine"."""
        raced = "engine" in self.parts and self.trained is not None
        return engine_heats(self.trained) if raced and self.trained else []

    def left_out(self) -> str | None:
        """Return in words what is not raced on this machine and why, or None.

        >>> Plan(contenders=("ann",), parts=("curve",)).left_out()  # which is float32's
        """
        raced = {"race", "profile"} & {*self.parts}
        return f"bfloat16 is left out: {EMULATED}" if raced and not has_bfloat16() else None

    def __len__(self) -> int:
        """Return the number of turns, for a progress bar."""
        turns = WARM_UP + self.rounds
        profiles = len(self.profiled()) * len(self._to_profile())
        heats = len(self.heats()) + len(self.curve()) + ("engine" in self.parts) * len(BATCHES)
        return heats * turns + profiles

    def run(self, command: str, tell: Told) -> Race:
        """Run the race, and call ``tell`` at each turn."""
        started = time.monotonic()
        trained = None if self.trained is None else str(self.trained)
        recipe: dict[str, object] = {**asdict(self), "trained": trained}
        libraries = [name for name in self.contenders if name in CONTENDERS]
        origin = provenance(command=command, seed=SEED, recipe=recipe)
        outcomes = [run_heat(heat, libraries, self.rounds, tell) for heat in self.heats()]
        over_time = [run_heat(heat, libraries, self.rounds, tell) for heat in self.curve()]
        profiles = [
            found
            for heat in self.profiled()
            for found in run_profiles(heat, self._to_profile(), tell)
        ]
        engine = [
            run_engine_heat(heat, self.contenders, self.trained, self.rounds, tell)
            for heat in self.engine_heats()
            if self.trained is not None
        ]
        seconds = {"bench": round(time.monotonic() - started, 1)}
        origin = origin.model_copy(update={"seconds": seconds})
        return Race(
            outcomes=tuple(outcomes),
            curve=tuple(over_time),
            profiles=tuple(profiles),
            engine=tuple(engine),
            left_out=self.left_out(),
            provenance=computed_by(origin, _ran([*outcomes, *over_time])),
        )

    def _to_profile(self) -> list[str]:
        return [name for name in PROFILED if name in self.contenders]


def _possible(heats: Sequence[Heat]) -> list[Heat]:
    """Return the heats without those in an emulated bfloat16, which would take hours."""
    return [heat for heat in heats if heat.dtype == "float32" or has_bfloat16()]


def run_heat(heat: Heat, contenders: Sequence[str], rounds: int, tell: Told) -> Outcome:
    """Run all contenders through a heat. ``rounds`` are timed, after three that are not.

    If a contender fails (its package is not installed, its process dies), its entry says so, and
    the others go on.
    """
    with _workers(heat, contenders) as workers:
        return Outcome(heat=heat, entries=_turns(heat, workers, rounds, tell))


def run_engine_heat(
    heat: Heat, contenders: Sequence[str], trained: Path, rounds: int, tell: Told
) -> Outcome:
    """Run a heat of part "engine", and measure the accuracy of each rival."""
    with engine_workers(racing(contenders), trained, heat.batch) as workers:
        entries = _turns(heat, workers, rounds, tell)
        right = {name: worker.ask("accuracy").value for name, worker in workers.items()}
    scored = (entry.model_copy(update={"accuracy": right[entry.contender]}) for entry in entries)
    return Outcome(heat=heat, entries=tuple(scored))


def _turns(heat: Heat, workers: Mapping[str, Worker], rounds: int, tell: Told) -> tuple[Entry, ...]:
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    failures: dict[str, str] = {}
    for number in range(WARM_UP + rounds):
        tell(f"{heat.title}: round {number + 1 - WARM_UP} of {rounds}")
        for name, worker in workers.items():
            if name in failures:
                continue
            answer = worker.ask("call")
            if answer.failure is not None:
                failures[name] = answer.failure
            elif number >= WARM_UP:
                seconds[name].append(answer.value)
    return tuple(
        _entry(name, seconds[name], worker, failures.get(name)) for name, worker in workers.items()
    )


def run_profiles(heat: Heat, contenders: Sequence[str], tell: Told) -> list[Profile]:
    """Profile a call of each contender, one after the other."""
    found = []
    for name in contenders:
        tell(f"profile of {CONTENDERS[name].title}: {heat.title}")
        with _workers(heat, [name]) as workers:
            for _ in range(2 * WARM_UP):
                workers[name].ask("call")
            shares = workers[name].ask("profile")
        if shares.failure is None:
            found.append(Profile(heat=heat, contender=name, milliseconds=shares.value))
    return found


@contextmanager
def _workers(heat: Heat, contenders: Sequence[str]) -> Iterator[dict[str, Worker]]:
    threads = torch.get_num_threads()
    kept = heat.memory == "kept"
    workers = {name: Worker(partial(work, name, heat), threads, kept) for name in contenders}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()


def _entry(
    name: str,
    seconds: Sequence[float],
    worker: Worker,
    failure: str | None,
) -> Entry:
    before, peak = worker.ask("memory").value or (None, None)
    ran = worker.ask("backends").value or Backends()
    return Entry(
        contender=name,
        version=(RIVALS[name] if name in RIVALS else CONTENDERS[name]).version or "",
        seconds=tuple(seconds) if failure is None else (),
        peak_bytes=peak,
        own_bytes=peak - before if peak is not None and before is not None else None,
        backend=ran.backend,
        instructions=ran.instructions,
        failure=failure,
    )


def _ran(outcomes: Iterable[Outcome]) -> Backends:
    """Return the leanspike code that took part in any of these."""
    found = Backends()
    for entry in (entry for outcome in outcomes for entry in outcome.entries):
        found.names.update(filter(None, (entry.backend or "").split(", ")))
        found.instruction_sets.update(filter(None, (entry.instructions or "").split(", ")))
    return found
