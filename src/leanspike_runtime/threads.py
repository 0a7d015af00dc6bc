"""The pool of threads that a process already has, for native code to compute in.

A thread that is started for a call may come milliseconds late. And PyTorch's threads wait for work
by spinning, so threads beside them would share the processors with them.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache


def parallel() -> int | None:
    """Return the address of libgomp's GOMP_parallel, if PyTorch has loaded it, else None.

    It is also None in the child of a process that has computed. The child inherits the library
    without its threads, and would wait for them for ever.
    """
    return _of(os.getpid())


@cache
def _first_process() -> int:
    """Return the process that computed first: this one, or one that it was forked from."""
    return os.getpid()


@cache
def _of(process: int) -> int | None:
    if process != _first_process():
        return None
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError):
        return None
