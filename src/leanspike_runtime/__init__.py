"""Runs a spiking network from a file of ``leanspike compile``, with NumPy alone.

>>> import numpy as np
>>> import leanspike_runtime as runtime
>>> runtime.load("nowhere.leanspike")
Traceback (most recent call last):
leanspike_runtime.errors.EngineError: nowhere.leanspike cannot be read (No such file ...
"""

from leanspike_runtime.engine import Engine, Exits, Stream, Work
from leanspike_runtime.errors import EngineError
from leanspike_runtime.file import from_bytes, load, to_bytes
from leanspike_runtime.program import Program
from leanspike_runtime.reference import Reference, State

__all__ = [
    "Engine",
    "EngineError",
    "Exits",
    "Program",
    "Reference",
    "State",
    "Stream",
    "Work",
    "from_bytes",
    "load",
    "to_bytes",
]
