"""Training: one loop, its objectives, optimisers, checkpoints and display."""

from leanspike.train.checkpoint import Checkpoints
from leanspike.train.loop import Stage, fit
from leanspike.train.monitor import Monitor, read_log, write_log
from leanspike.train.objective import CrossEntropy, Objective, Response, Weighted
from leanspike.train.optim import create_optimizer, create_schedule

__all__ = [
    "Checkpoints",
    "CrossEntropy",
    "Monitor",
    "Objective",
    "Response",
    "Stage",
    "Weighted",
    "create_optimizer",
    "create_schedule",
    "fit",
    "read_log",
    "write_log",
]
