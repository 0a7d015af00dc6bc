"""Training: one loop, its objectives, optimisers, checkpoints and display.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from rich.console import Console
>>> from torch import nn
>>> from leanspike.data import Loader, synthetic
>>> images = synthetic((1, 4, 4), classes=2, train=64).train
>>> loader = Loader(images, batch_size=16, mean=(0.5,), std=(0.25,), seed=0, train=True)
>>> ann = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
>>> stage = Stage(
...     name="ann", number=0, epochs=2, timesteps=None, train=loader, val=None, seed=0,
...     objective=CrossEntropy(), optimizer=create_optimizer(ann, learning_rate=0.1),
...     schedule=create_schedule("cosine", steps=2 * len(loader)))
>>> history = []
>>> with TemporaryDirectory() as folder:
...     checkpoints = Checkpoints(Path(folder, "checkpoint.pt"), minutes=2)
...     fit(ann, stage, history, checkpoints, Monitor(Console(quiet=True)))
...     write_log(Path(folder, "log.jsonl"), history)
...     read_log(Path(folder, "log.jsonl")) == history
True
>>> [row["epoch"] for row in history]
[1, 2]
"""

# isort: off
# Objectives first, in the order in which their terms are added up.
from leanspike.train.objective import (
    Around,
    Objective,
    Term,
    Weighted,
    create_objective,
    objective_kind,
    objectives,
)
from leanspike.train.cross_entropy import CrossEntropy
from leanspike.train.tet import TET
from leanspike.train.response import Response
from leanspike.train.feature import Feature, Pair, find_pairs
from leanspike.train.self_distillation import SelfDistillation
from leanspike.train.squared_error import SquaredError
from leanspike.train.spike_rate import SpikeRate
from leanspike.train.accumulates import Accumulates

# isort: on
from leanspike.train.average import averaging
from leanspike.train.checkpoint import Checkpoints
from leanspike.train.lookahead import Lookahead
from leanspike.train.loop import fit
from leanspike.train.monitor import Monitor, macs_of, read_log, write_log
from leanspike.train.optim import OptimizerSection, create_optimizer, optimizers
from leanspike.train.resolution import Resolution
from leanspike.train.schedule import Curve, ScheduleSection, create_schedule, schedules
from leanspike.train.stage import Stage
from leanspike.train.teacher import Teacher, renormalise

__all__ = [
    "TET",
    "Accumulates",
    "Around",
    "Checkpoints",
    "CrossEntropy",
    "Curve",
    "Feature",
    "Lookahead",
    "Monitor",
    "Objective",
    "OptimizerSection",
    "Pair",
    "Resolution",
    "Response",
    "ScheduleSection",
    "SelfDistillation",
    "SpikeRate",
    "SquaredError",
    "Stage",
    "Teacher",
    "Term",
    "Weighted",
    "averaging",
    "create_objective",
    "create_optimizer",
    "create_schedule",
    "find_pairs",
    "fit",
    "macs_of",
    "objective_kind",
    "objectives",
    "optimizers",
    "read_log",
    "renormalise",
    "schedules",
    "write_log",
]
