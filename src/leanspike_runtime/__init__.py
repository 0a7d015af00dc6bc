"""Runs a spiking network from a file of ``leanspike compile``, with NumPy alone.

>>> import numpy as np
>>> import leanspike_runtime as runtime
>>> runtime.load("nowhere.leanspike")
Traceback (most recent call last):
leanspike_runtime.errors.EngineError: nowhere.leanspike cannot be read (No such file ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from leanspike_runtime.engine import Engine, Exits, Stream, Work
from leanspike_runtime.errors import EngineError

if TYPE_CHECKING:
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

LATER = {
    **dict.fromkeys(("from_bytes", "load", "to_bytes"), "file"),
    "Program": "program",
    **dict.fromkeys(("Reference", "State"), "reference"),
}
"""What native code does without, and where it is: imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
