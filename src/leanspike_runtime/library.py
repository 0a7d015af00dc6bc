"""The engine's library, ``_engine.so``, with functions and records as in ``src/engine``'s headers.

It also tells whether the library was built from the sources beside it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

from leanspike_runtime.errors import EngineError
from leanspike_runtime.sources import library_digest

INSTRUCTIONS = ("plain", "avx2", "avx512")  # from worst to best, numbered as in kernels.h
PORTABLE = "portable"  # loops without vectors, as in a C program of two files
VARIABLE = "LEANSPIKE_INSTRUCTIONS"
MESSAGE_BYTES = 160
MOST_STEPS = 2**16 - 1  # of a program


class Facts(ctypes.Structure):
    """``ls_facts``.

    >>> Facts(timesteps=5).timesteps
    5
    """

    _fields_ = tuple(
        (name, c_int32)
        for name in (
            *("timesteps", "most_steps", "height", "width", "channels", "outputs"),
            *("static_input", "mean_readout", "nodes"),
        )
    )


class Batch(ctypes.Structure):
    """``ls_batch``.

    >>> Batch(threads=2).threads
    2
    """

    _fields_ = (
        ("program", c_void_p),
        ("images", c_void_p),
        ("size", c_int64),
        ("count", c_int64),
        ("threads", c_int32),
        ("steps", c_int32),
        ("latest", c_int32),
        ("margin", c_float),
        ("logits", c_void_p),
        ("taken", c_void_p),
        ("memory", c_void_p),
        ("parallel", c_void_p),
    )


class Count(ctypes.Structure):
    """``ls_count``.

    >>> Count(events=3).events
    3
    """

    _fields_ = (
        ("events", c_int64),
        ("accumulates", c_int64),
        ("multiplies", c_int64),
        ("seconds", c_double),
    )


FUNCTIONS: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "ls_best_instructions": (c_int32, ()),
    "ls_kernels_of": (c_void_p, (c_int32,)),
    "ls_program_room": (c_size_t, (c_void_p, c_size_t, c_char_p)),
    "ls_open": (c_void_p, (c_void_p, c_size_t, c_void_p, c_size_t, c_char_p)),
    "ls_about": (Facts, (c_void_p,)),
    "ls_pack_room": (c_size_t, (c_void_p, c_void_p)),
    "ls_pack": (c_int, (c_void_p, c_void_p, c_void_p, c_size_t)),
    "ls_state_room": (c_size_t, (c_void_p, c_int32)),
    "ls_begin": (c_void_p, (c_void_p, c_int32, c_void_p, c_size_t)),
    "ls_run": (c_int, (c_void_p, c_void_p, c_int32, c_int32, c_void_p)),
    "ls_watch": (None, (c_void_p, POINTER(Count), c_void_p)),
    "ls_batch_room": (c_size_t, (POINTER(Batch),)),
    "ls_run_batch": (c_int, (POINTER(Batch),)),
}


@cache
def _found() -> tuple[ctypes.CDLL | None, str]:
    """The library, or why it cannot be used."""
    folder = os.path.dirname(__file__)
    path = os.path.join(folder, "_engine.so")
    if not os.path.isfile(path):
        return None, (
            "the engine is not built here; install a C compiler, then leanspike again, or use "
            "leanspike_runtime.Reference, which is slow"
        )
    loaded = ctypes.CDLL(path)
    loaded.ls_engine_sources.restype = c_char_p
    other = _other_sources(os.path.dirname(os.path.dirname(folder)), loaded)
    if other:
        return None, other
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded, ""


def _other_sources(root: str, loaded: ctypes.CDLL) -> str:
    """Why a library of a checkout at ``root`` is not that of its sources; nothing where it is."""
    if not os.path.isdir(os.path.join(root, "src", "engine")):
        return ""
    from pathlib import Path

    if library_digest(Path(root), "engine") in (None, loaded.ls_engine_sources().decode()):
        return ""
    again = f"pip install --no-deps --editable {root}"
    return f"the engine was built from other sources; build it again ({again})"


def what_is_missing() -> str:
    """Return why the engine cannot be used and what to do, or "" if it can."""
    return _found()[1]


def library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        EngineError: if it was not built, or, in a checkout, from other sources.
    """
    loaded, missing = _found()
    if loaded is None:
        raise EngineError(missing)
    return loaded


def available_instructions() -> tuple[str, ...]:
    """Return the instruction sets of library and processor, from worst to best."""
    loaded, _ = _found()
    return (PORTABLE, *INSTRUCTIONS[: loaded.ls_best_instructions() + 1]) if loaded else ()


def chosen_instructions(name: str | None = None) -> str:
    """Return the named instruction set, or that of LEANSPIKE_INSTRUCTIONS, or the best.

    Raises:
        EngineError: for a set that the library or the processor does not have.
    """
    library()
    available = available_instructions()
    given, where = (name, "instructions") if name else (os.environ.get(VARIABLE), VARIABLE)
    if not given:
        return available[-1]
    if given not in available:
        raise EngineError(
            f"{where} is {given!r}; choose one of {', '.join(available)} (what this processor "
            "has), or leave it out"
        )
    return given
