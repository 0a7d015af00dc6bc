"""The memory of this process: keeping freed memory, and measuring what it holds."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensors instead of returning it.

    glibc takes fresh pages from the kernel for a large tensor, and returns them when it is freed.
    So each training step pays for the same pages again: some per cent of its time on a CPU. After
    this call the pages stay with the process, which then holds its largest size until it ends. Call
    it at a program's beginning. The library never calls it by itself. The command line does, and
    returns free memory between the stages of a run.

    Returns:
        Whether it took effect: True on Linux with glibc, else False.

    >>> import platform
    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    # No separate mappings for tensors, which are always returned, and no shrinking of the heap.
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def release_freed_memory() -> bool:
    """Return free memory to the system, as between a large piece of work and a small one.

    Returns:
        Whether there was any. It is False on systems other than Linux with glibc.

    >>> kept = keep_freed_memory()
    >>> large = bytearray(2**26)
    >>> del large
    >>> release_freed_memory() == kept
    True
    """
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def forget_peak() -> bool:
    """Let the peak of :func:`resident_bytes` begin anew, from what this process holds now.

    Returns:
        Whether the system did so: Linux does.

    >>> forget_peak() == (sys.platform == "linux")
    True
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        return False
    return True


def _glibc(name: str) -> Any:
    """Return a function of the C library, if that is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)


def resident_bytes(most: bool = False) -> int | None:
    """Return the bytes that this process holds in RAM, now or (``most``) at its peak, or None.

    >>> held, peak = resident_bytes(), resident_bytes(most=True)
    >>> 0 < held <= peak if sys.platform == "linux" else held is peak is None
    True
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    name = "VmHWM:" if most else "VmRSS:"  # getrusage would include the parent's before exec
    for line in status.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None
