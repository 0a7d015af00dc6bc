"""Runs: what a recipe asks for, in a folder, from wherever it was left."""

from leanspike.run.folder import (
    CALIBRATION,
    CHECKPOINT,
    LOG,
    RECIPE,
    REPORT,
    RESULT,
    claim,
    clear,
    read_recipe,
)
from leanspike.run.run import Run, open_run

__all__ = [
    "CALIBRATION",
    "CHECKPOINT",
    "LOG",
    "RECIPE",
    "REPORT",
    "RESULT",
    "Run",
    "claim",
    "clear",
    "open_run",
    "read_recipe",
]
