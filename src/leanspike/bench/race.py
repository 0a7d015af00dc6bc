"""The heats of the race, in which all contenders take turns, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from leanspike.backends import Backends
from leanspike.bench.contenders import CONTENDERS, SEED
from leanspike.bench.engine import BATCHES, SCORED, EngineRace, count_run
from leanspike.bench.result import Heat, Outcome, Profile, Race
from leanspike.bench.rivals import RIVALS
from leanspike.bench.turns import WARM_UP, Told, take_turns
from leanspike.bench.worker import Worker, work
from leanspike.errors import LeanspikeError
from leanspike.evaluation.origin import computed_by, provenance
from leanspike.evaluation.result import Provenance
from leanspike.processor import EMULATED, has_bfloat16, has_matrix_units

PARTS = ("race", "curve", "profile", "engine")
USUAL = PARTS[:3]
"""The parts that need no trained run."""
CURVE = (1, 2, 4, 8, 16, 32)
PROFILED = ("ann", "leanspike", "spikingjelly")

Kept = Callable[[Race], None]
"""A function called with what has been found so far, after each part of it."""


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
    batches: tuple[int, ...] = BATCHES
    scored: int = SCORED

    def __post_init__(self) -> None:
        for what, given, valid in (
            ("contender", self.contenders, {**CONTENDERS, **RIVALS}),
            ("part", self.parts, PARTS),
        ):
            for name in given:
                if name not in valid:
                    raise LeanspikeError(f"no {what} {name!r}; choose from {', '.join(valid)}")
        for what, least in (
            ("rounds", self.rounds),
            ("limit", self.scored),
            ("batches", min(self.batches, default=0)),
        ):
            if least < 1:
                raise LeanspikeError(f"{what} is {least}; give 1 or more")
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

    @cached_property
    def engine(self) -> EngineRace | None:
        """Return part "engine", None if it is not raced."""
        if "engine" not in self.parts or self.trained is None:
            return None
        return EngineRace(self.trained, self.contenders, self.batches, self.scored)

    def left_out(self) -> str | None:
        """Return in words what is not raced on this machine and why, or None.

        >>> Plan(contenders=("ann",), parts=("curve",)).left_out()  # which is float32's
        """
        raced = {"race", "profile", "engine"} & {*self.parts}
        said = [f"bfloat16 is left out: {EMULATED}"] if raced and not has_bfloat16() else []
        engine = self.engine
        if engine is not None and engine.timesteps == 1:
            said.append("early exit is left out: with one step no image can leave before the last")
        return "; ".join(said) or None

    @property
    def command(self) -> str:
        """The command that repeats it, with the run's name for its folder.

        >>> Plan(("ann",), parts=("engine",), trained=Path("/tmp/runs/digits")).command
        'leanspike bench --parts engine --run runs/digits'
        """
        if "engine" not in self.parts or self.trained is None:
            return "leanspike bench"
        usual = {"rounds": Plan.rounds, "limit": SCORED}
        given = {"rounds": self.rounds, "limit": self.scored}
        changed = [f"--{name} {value}" for name, value in given.items() if value != usual[name]]
        parts, run = ",".join(self.parts), self.trained.resolve().name
        return " ".join([f"leanspike bench --parts {parts} --run runs/{run}", *changed])

    def __len__(self) -> int:
        """Return the number of turns, for a progress bar."""
        turns, engine = WARM_UP + self.rounds, self.engine
        profiles = len(self.profiled()) * len(self._to_profile())
        raced = (len(self.heats()) + len(self.curve())) * turns + profiles
        if engine is None:
            return raced
        return raced + len(self.batches) * turns + 2 * len(engine.racing()) + 1

    def run(self, command: str, tell: Told, keep: Kept = lambda _: None) -> Race:
        """Run the race, and call ``tell`` at each turn, and ``keep`` with what was found so far."""
        started = time.monotonic()
        name = None if self.trained is None else self.trained.resolve().name
        recipe: dict[str, object] = {**asdict(self), "trained": name}
        race = Race(
            outcomes=(),
            run=name if "engine" in self.parts else None,
            matrix_units=has_matrix_units(),
            left_out=self.left_out(),
            provenance=provenance(command=command, seed=SEED, recipe=recipe),
        )
        for found in self._found(tell):
            race = race.model_copy(update=found)
            race = race.model_copy(update={"provenance": _so_far(race, started)})
            keep(race)
        return race

    def _found(self, tell: Told) -> Iterator[dict[str, object]]:
        """Yield the fields of the race that have changed, after each part of it."""
        libraries = [name for name in self.contenders if name in CONTENDERS]
        found: dict[str, tuple[object, ...]] = {"outcomes": (), "curve": (), "profiles": ()}

        def more(field: str, *new: object) -> dict[str, object]:
            found[field] += new
            return {field: found[field]}

        for field, heats in (("outcomes", self.heats()), ("curve", self.curve())):
            for heat in heats:
                yield more(field, run_heat(heat, libraries, self.rounds, tell))
        for heat in self.profiled():
            yield more("profiles", *run_profiles(heat, self._to_profile(), tell))
        engine = self.engine
        if engine is not None:
            for outcomes in engine.run(self.rounds, tell):
                yield {"engine": outcomes}
            tell("counting operations")
            counted = count_run(engine.folder, self.scored)
            yield {"counted": counted, "scored": counted.images}

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
        entries = take_turns(heat, workers, rounds, tell, lambda name: CONTENDERS[name].version)
    return Outcome(heat=heat, entries=entries)


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


def _so_far(race: Race, started: float) -> Provenance:
    """Return the origin of what was found so far, with what computed it."""
    seconds = {"bench": round(time.monotonic() - started, 1)}
    ran = _ran([*race.outcomes, *race.curve, *race.engine])
    return computed_by(race.provenance.model_copy(update={"seconds": seconds}), ran)


def _ran(outcomes: Iterable[Outcome]) -> Backends:
    """Return the leanspike code that took part in any of these."""
    found = Backends()
    for entry in (entry for outcome in outcomes for entry in outcome.entries):
        found.names.update(filter(None, (entry.backend or "").split(", ")))
        found.instruction_sets.update(filter(None, (entry.instructions or "").split(", ")))
    return found
