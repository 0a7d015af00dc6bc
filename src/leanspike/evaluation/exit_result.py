"""What an early exit saves, as records."""

from __future__ import annotations

from leanspike.evaluation.record import Record


class ClassExit(Record):
    """How samples of one class leave.

    ``leaving[t]`` is the share that leaves after step t+1.
    """

    name: str
    n: int
    accuracy: float
    mean_steps: float
    leaving: tuple[float, ...]


class EarlyExit(Record):
    """What leaving early saves and loses, beside all T steps (``full_``).

    ``by`` is "gamma", "margin" or "entropy". ``threshold`` is None where no sample leaves by it.
    ``latest`` is the step after which all samples leave (None: the last). Both were chosen on
    ``validation_n`` samples for a loss of at most ``max_drop``. ``curve`` holds (mean steps,
    accuracy) of the other thresholds there.

    Everything else is measured on the ``n`` test samples. ``leaving[t]`` is the share that leaves
    after step t+1, and ``seconds`` is the wall-clock time of all samples.

    >>> EarlyExit.model_construct(by="margin", mean_steps=3.5, seconds=2.0).mean_steps
    3.5
    """

    by: str
    threshold: float | None
    latest: int | None = None
    max_drop: float
    validation_n: int
    validation_accuracy: float
    validation_full_accuracy: float
    validation_mean_steps: float
    curve: tuple[tuple[float, float], ...]
    n: int
    accuracy: float
    full_accuracy: float
    mean_steps: float
    leaving: tuple[float, ...]
    classes: tuple[ClassExit, ...]
    snn_pj: float
    full_snn_pj: float
    seconds: float
    full_seconds: float
