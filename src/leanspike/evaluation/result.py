"""What an evaluation found, as one frozen object that is written to and read from JSON.

Every quantity is for ONE sample, averaged over all samples, unless it says otherwise. Time is in
steps; energies are in picojoules (``_pj``).
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from leanspike.evaluation.exit_result import EarlyExit
from leanspike.evaluation.layers import LayerOperations, NeuronActivity, Uncounted
from leanspike.evaluation.macs import Macs
from leanspike.evaluation.mistakes import Mistakes
from leanspike.evaluation.record import Record
from leanspike.evaluation.rivals_result import Rivals
from leanspike.evaluation.task import TaskName
from leanspike.evaluation.times import Times


class Energy(Record):
    """Energy of the arithmetic: counted where it happens, and by the papers' formulas.

    ``membrane_updates`` (all layers, all steps) cost ``membrane_pj``. The scales and shifts of
    norms that no weights can take up cost ``norm_pj``. ``snn_pj`` contains both. ``ann_norm_pj``,
    in ``ann_pj``, is the energy of the ANN's norms.

    All ratios are E_ANN / E_SNN at the result's T steps: larger is better. A ratio by a formula may
    be infinite. ``ratio`` is of what was counted, ``formula_ratio`` is by DIET-SNN's formula, and
    ``bntt_formula_ratio`` is by BNTT's. The last is None in an older record that does not say
    enough.
    """

    mac_pj: float
    ac_pj: float
    ann_pj: float
    snn_pj: float
    membrane_updates: float
    membrane_pj: float
    norm_pj: float = 0.0
    ann_norm_pj: float = 0.0
    ratio: float
    formula_ratio: float
    bntt_formula_ratio: float | None = None
    spikes_per_neuron: float


class Raster(Record):
    """Which neurons of one layer fired at which step for one image: (step, neuron) pairs.

    ``shown`` neurons, evenly spaced over the layer's ``neurons``, were recorded. A step is in
    0..T-1, a neuron in 0..shown-1.
    """

    path: str
    neurons: int
    shown: int
    spikes: tuple[tuple[int, int], ...]


class Example(Record):
    """One test image with everything the SNN did on it.

    ``pixels`` is ``[H][W][C]`` in 0..255. ``probabilities[t][k]`` are the answers after each step.
    ``frames`` is ``[T][2][H][W]``, the counts of events of a recording (else None).
    """

    pixels: tuple[tuple[tuple[int, ...], ...], ...]
    label: int
    probabilities: tuple[tuple[float, ...], ...]
    rasters: tuple[Raster, ...]
    frames: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...] | None = None


class Provenance(Record):
    """Where the figures come from: enough to obtain them again.

    What nobody told is None, or empty: nothing is made up. ``commit`` ends in "-dirty" if the
    sources differ from it. ``backend`` ("native", "reference", or several) and ``instructions``
    ("plain", "avx2", "avx512") computed the figures. ``backends`` are those of earlier phases of
    the run, behind the type they computed in. Results from before these were recorded have neither.
    ``recipe`` is the whole recipe as plain data. ``seconds`` is the wall-clock time by phase,
    attempts that were killed included. ``macs`` are the multiply-accumulates of each phase of the
    training that was counted (none in older records). Each step counts once, also where a killed
    attempt took it twice. ``ann_from`` is the run whose ANN was taken over, None if none was.
    """

    command: str | None
    created: str
    leanspike: str
    commit: str | None
    seed: int | None
    hardware: str
    threads: int
    backend: str | None = None
    instructions: str | None = None
    backends: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str]
    recipe: dict[str, object]
    seconds: dict[str, float]
    macs: dict[str, Macs] = Field(default_factory=dict)
    ann_from: str | None = None

    @property
    def training_seconds(self) -> float | None:
        """The seconds of the training of ANN and SNN; None if nothing was trained."""
        seconds = self.seconds.items()
        training = [value for phase, value in seconds if phase.startswith("train")]
        return round(sum(training), 1) if training else None

    @property
    def training_macs(self) -> int | None:
        """The multiply-accumulates of all training and calibration; None if not all were counted.

        >>> counted = {"train ann": Macs(forward=1, backward=2), "calibrate": Macs(forward=3)}
        >>> origin = Provenance.model_construct(seconds={"train ann": 9.0}, macs=counted)
        >>> origin.training_macs
        6
        >>> print(Provenance.model_construct(seconds={"train snn T=2": 9.0}, macs={}).training_macs)
        None
        """
        phases = [phase for phase in self.seconds if phase.startswith(("train", "calibrate"))]
        if not self.macs or any(phase not in self.macs for phase in phases):
            return None
        return Macs.sum(self.macs.values()).total


class Result(Record):
    """An evaluation of one SNN, beside the ANN it came from (``ann_accuracy`` None if none).

    What was measured, and on what:

    - The figures are over ``n`` samples of the ``split`` ("test") of ``data``, where they were
      told.
    - ``accuracy[t]`` is the fraction of answers that are right after step t+1. It is empty where
      there were no labels.
    - ``task`` says what an answer is: "multiclass", "binary", "multilabel" or "none".
    - ``unit`` says what has one answer: each sample, or each label or pixel of a sample.
    - ``chance`` is the accuracy of guessing: one class in C, or the share of the commonest label
      (None in older records).
    - ``top5[t]`` is the share of samples whose class is among the five largest outputs,
      ``ann_top5`` the ANN's. They are there where there are more than 20 classes.
    - ``metrics`` holds what a function of the user's gave after each step, ``ann_metrics`` the
      ANN's.
    - ``measured`` holds, as plain data, what each metric of :mod:`leanspike.metrics` found that was
      asked for.
    - ``gammas`` holds the mean γ of each BNTT layer at each step.
    - ``early_exit`` holds each exit rule that was measured.
    - ``times`` is how long SNN and ANN take, where that was measured.
    - ``mistakes`` is what they get wrong.
    - ``uncounted`` are the modules whose work is in none of the numbers (none in older records).
    - ``rivals`` is the energy with memory, beside ANNs in float32 and int8 (None in older records).

    >>> import torch
    >>> from leanspike import evaluate, spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=2)
    >>> result = evaluate(snn, [(torch.rand(32, 8), torch.randint(3, (32,)))])
    >>> result.n, len(result.accuracy), [row.edge for row in result.operations]
    (32, 2, ['analog', 'spike'])
    >>> Result.model_validate_json(result.model_dump_json()) == result
    True
    """

    schema_version: int = 1
    name: str
    data: str | None
    split: str | None
    n: int
    classes: tuple[str, ...]
    timesteps: int
    encode: str
    ann_accuracy: float | None
    accuracy: tuple[float, ...]
    neurons: tuple[NeuronActivity, ...]
    operations: tuple[LayerOperations, ...]
    energy: Energy
    gammas: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    early_exit: tuple[EarlyExit, ...] = ()
    example: Example | None
    provenance: Provenance
    chance: float | None = None
    times: Times | None = None
    mistakes: Mistakes | None = None
    task: TaskName = "multiclass"
    unit: str = "sample"
    metrics: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    ann_metrics: dict[str, float] = Field(default_factory=dict)
    measured: dict[str, dict[str, Any]] = Field(default_factory=dict)
    uncounted: tuple[Uncounted, ...] = ()
    rivals: Rivals | None = None
    top5: tuple[float, ...] = ()
    ann_top5: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> Result:
        none = self.task == "none" and not self.accuracy
        if (len(self.accuracy) != self.timesteps and not none) or self.timesteps < 1:
            raise ValueError(f"{len(self.accuracy)} accuracies for {self.timesteps} timesteps")
        for name, values in {**self.metrics, "top5": self.top5}.items():
            if len(values) != self.timesteps and (values or name != "top5"):
                raise ValueError(f"{len(values)} of {name} for {self.timesteps} timesteps")
        if not self.neurons or not self.operations:
            raise ValueError("no neurons, or no layers with weights")
        return self

    @property
    def guessing(self) -> float | None:
        """The accuracy of guessing; in older records by the number of classes, if it is known."""
        return self.chance or (1 / len(self.classes) if self.classes else None)

    @property
    def chance_bound(self) -> float | None:
        """The largest accuracy that may be guessing: p + 3 standard errors √(p·(1−p)/n).

        n counts samples, also where each has several answers, which need not be independent.
        """
        p = self.guessing
        return None if p is None else p + 3 * math.sqrt(p * (1 - p) / self.n)

    @property
    def last_accuracy(self) -> float | None:
        """The accuracy after the last step; None where there were no labels."""
        return self.accuracy[-1] if self.accuracy else None

    @property
    def at_chance(self) -> bool:
        """Whether the last answer is not above guessing by 3 standard errors.

        >>> [Result.model_construct(accuracy=(a,), n=360, chance=0.1, classes=()).at_chance
        ...  for a in (0.111, 0.147, 0.148)]
        [True, True, False]
        """
        bound, last = self.chance_bound, self.last_accuracy
        return bound is not None and last is not None and last <= bound

    @property
    def summary(self) -> dict[str, object]:
        """The figures that a run is known by, for programs.

        ``energy_ratio`` is the counted one, ``formula_energy_ratio`` is by DIET-SNN's formula.
        ``time_ratio_batch_1`` and so on are the times of SNN ÷ ANN, where they were measured.
        ``at_chance`` is there where it is true, and ``metrics`` where a function was measured.
        ``snn_top5`` and ``ann_top5`` are there where there are more than 20 classes.

        >>> energy = Energy.model_construct(ratio=2.92, formula_ratio=6.8, spikes_per_neuron=0.75)
        >>> result = Result.model_construct(
        ...     ann_accuracy=0.95, accuracy=(0.8, 0.9), n=100, classes=(), timesteps=2,
        ...     energy=energy)
        >>> result.summary["snn_accuracy"], result.summary["energy_ratio"]
        (0.9, 2.92)
        """
        bntt = self.energy.bntt_formula_ratio
        exits = {
            early.by: {"accuracy": early.accuracy, "mean_steps": round(early.mean_steps, 3)}
            for early in self.early_exit
        }
        ratios = {} if self.times is None else self.times.ratios
        metrics = {
            name: {"ann": self.ann_metrics.get(name), "snn": values[-1]}
            for name, values in self.metrics.items()
        }
        return {
            "ann_accuracy": self.ann_accuracy,
            "snn_accuracy": self.last_accuracy,
            **({"ann_top5": self.ann_top5, "snn_top5": self.top5[-1]} if self.top5 else {}),
            "timesteps": self.timesteps,
            "energy_ratio": round(self.energy.ratio, 3),
            "formula_energy_ratio": round(self.energy.formula_ratio, 3),
            "bntt_formula_energy_ratio": None if bntt is None else round(bntt, 3),
            "spikes_per_neuron": round(self.energy.spikes_per_neuron, 4),
            **{f"time_ratio_batch_{batch}": round(ratio, 3) for batch, ratio in ratios.items()},
            **({"metrics": metrics} if metrics else {}),
            **({"early_exit": exits} if exits else {}),
            **({"at_chance": True} if self.at_chance else {}),
        }
