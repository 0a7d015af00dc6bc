"""The result of a race, as one frozen object that is written as JSON.

Times are wall-clock seconds of a turn's median call. A turn takes 0.1 s or more. The n-th times of
all contenders come from the same round.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Literal

from leanspike.evaluation.record import Record
from leanspike.evaluation.result import Provenance


class Heat(Record):
    """The work that every contender does in turn.

    ``train`` means forward, backward and an SGD step, else it is forward without gradients.
    ``memory`` is "default", as the C library manages it, or "kept" after ``keep_freed_memory()``.

    >>> Heat(train=True, dtype="float32", batch=32, timesteps=5).title
    'training, float32, batch 32, T = 5'
    """

    train: bool
    dtype: Literal["float32", "bfloat16"]
    batch: int
    timesteps: int
    memory: Literal["default", "kept"] = "default"
    width: float = 1.0

    @property
    def task(self) -> str:
        """The heat in words, without T."""
        task = "training" if self.train else "inference"
        kept = ", memory kept" if self.memory == "kept" else ""
        return f"{task}, {self.dtype}, batch {self.batch}{kept}"

    @property
    def title(self) -> str:
        """The heat in words."""
        return f"{self.task}, T = {self.timesteps}"


class Entry(Record):
    """A contender's times in a heat, and the peak of its process's memory.

    ``own_bytes`` is the part of the peak that came after all imports and building. ``backend`` and
    ``instructions`` name the leanspike code that it ran, if any (see
    `leanspike.backends.Backends`). ``failure`` says why there are no times. Only rivals in part
    "engine" have an ``accuracy``, and only those with early exit ``mean_steps``.
    """

    contender: str
    version: str
    seconds: tuple[float, ...] = ()
    peak_bytes: int | None = None
    own_bytes: int | None = None
    backend: str | None = None
    instructions: str | None = None
    failure: str | None = None
    accuracy: float | None = None
    mean_steps: float | None = None

    @property
    def median(self) -> float:
        """The seconds of the median turn.

        >>> Entry(contender="ann", version="2", seconds=(0.1, 0.4, 0.2)).median
        0.2
        """
        return median(self.seconds)

    @property
    def spread(self) -> Spread:
        """The seconds of the median turn between their quartiles.

        >>> Entry(contender="ann", version="2", seconds=(0.1, 0.4, 0.2)).spread
        Spread(low=0.1, median=0.2, high=0.4)
        """
        return Spread.of(self.seconds)


class Spread(Record):
    """A median over the rounds, and its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the median of the values, and their quartiles.

        >>> Spread.of((3.0,))
        Spread(low=3.0, median=3.0, high=3.0)
        """
        low, middle, high = quantiles(values) if len(values) > 1 else [*values] * 3
        return cls(low=low, median=middle, high=high)


class Outcome(Record):
    """A heat and the times of all contenders in it."""

    heat: Heat
    entries: tuple[Entry, ...]

    def entry(self, contender: str) -> Entry | None:
        """Return the contender's times, or None if it did not run or failed.

        >>> heat = Heat(train=True, dtype="float32", batch=32, timesteps=5)
        >>> Outcome(heat=heat, entries=()).entry("ann") is None
        True
        """
        for entry in self.entries:
            if entry.contender == contender and entry.seconds:
                return entry
        return None

    def ratio(self, contender: str, to: str) -> Spread | None:
        """Return the ratio of two contenders' times, round by round; None if either failed.

        >>> heat = Heat(train=True, dtype="float32", batch=32, timesteps=5)
        >>> a = Entry(contender="a", version="1", seconds=(2.0, 3.0, 4.0))
        >>> b = Entry(contender="b", version="1", seconds=(1.0, 1.0, 1.0))
        >>> Outcome(heat=heat, entries=(a, b)).ratio("a", to="b")
        Spread(low=2.0, median=3.0, high=4.0)
        """
        ours, theirs = self.entry(contender), self.entry(to)
        if ours is None or theirs is None:
            return None
        return Spread.of([a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True)])


class Profile(Record):
    """The milliseconds of a contender's call in a heat by kind of work.

    >>> heat = Heat(train=True, dtype="float32", batch=32, timesteps=5)
    >>> shares = {"convolution": 700.0, "neuron kernel": 60.0}
    >>> Profile(heat=heat, contender="leanspike", milliseconds=shares).milliseconds["convolution"]
    700.0
    """

    heat: Heat
    contender: str
    milliseconds: dict[str, float]


class StepEnergy(Record):
    """The arithmetic of an SNN for one image up to a step, in picojoules.

    ``float_pj`` has prices of 32-bit floating point. In ``whole_pj`` the accumulates of spikes are
    additions of 32-bit integers. It is None if the engine leaves some of those weights in floating
    point. Everything else has the same price in both.

    >>> StepEnergy(timesteps=1, accumulates=5, multiplies=2, float_pj=13.7, whole_pj=9.7).whole_pj
    9.7
    """

    timesteps: int
    accumulates: float
    multiplies: float
    float_pj: float
    whole_pj: float | None


class Counted(Record):
    """What was counted of a run's networks, for one image, over the images that all answered.

    ``ann_pj`` and ``ann_int8_pj`` are the ANN's arithmetic in 32-bit floating point and in 8-bit
    integers. ``steps`` has an entry for each step.

    >>> Counted.model_construct(images=500, ann_macs=118e6).images
    500
    """

    images: int
    ann_macs: float
    ann_pj: float
    ann_int8_pj: float
    steps: tuple[StepEnergy, ...]


class Race(Record):
    """All heats (``outcomes``), the curve over T (``curve``) and the profiles, of one machine.

    ``engine`` are the heats of a trained run's ANN, its SNN and the engine. ``run`` is the run's
    name, ``counted`` what its networks cost, and ``scored`` the number of test images of each
    accuracy.

    ``left_out`` says what was not raced there and why. ``matrix_units`` tells whether the processor
    has AMX, which other libraries use.

    >>> Race.model_construct(outcomes=()).outcomes
    ()
    """

    outcomes: tuple[Outcome, ...]
    curve: tuple[Outcome, ...] = ()
    profiles: tuple[Profile, ...] = ()
    engine: tuple[Outcome, ...] = ()
    run: str | None = None
    counted: Counted | None = None
    scored: int | None = None
    matrix_units: bool | None = None
    left_out: str | None = None
    provenance: Provenance
