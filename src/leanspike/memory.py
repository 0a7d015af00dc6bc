"""The memory of this process: keeping what was freed, and how much there was at most."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensors instead of returning it.

    glibc gives a large tensor fresh pages from the kernel and returns them when it is freed, so
    each training step pays for the same pages again: some per cent of it on a CPU. After this
    call they stay with the process, which then holds its largest size until it ends. It is for a
    program's beginning; the library never calls it by itself, its command line does, and returns
    the rest between the stages of a run.

    Returns:
        Whether it took effect: True on Linux with glibc, else False, and nothing is changed.

    >>> import platform
    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    # No mappings of a tensor's own, which are always returned; and no shrinking of the heap.
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def release_freed_memory() -> bool:
    """Return to the system what is free right now, as between a large piece of work and a small.

    Returns:
        Whether there was any; False on other systems than Linux with glibc.

    >>> kept = keep_freed_memory()
    >>> large = bytearray(2**26)
    >>> del large
    >>> release_freed_memory() == kept
    True
    """
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _glibc(name: str) -> Any:
    """A function of the C library, where that is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)


def resident_bytes(most: bool = False) -> int | None:
    """The memory that this process holds in RAM, now or (``most``) at its peak; None if unknown.

    >>> held, peak = resident_bytes(), resident_bytes(most=True)
    >>> 0 < held <= peak if sys.platform == "linux" else held is peak is None
    True
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    name = "VmHWM:" if most else "VmRSS:"  # unlike getrusage, not that of the parent before exec
    for line in status.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None
