"""The native library: whether it was built, and its instructions and threads.

Its code is in ``src/native``. `leanspike.backends` chooses whether it is used. The environment
variable ``LEANSPIKE_INSTRUCTIONS`` (plain, avx2 or avx512) sets the instruction set. Without the
variable the library uses the processor's best.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from leanspike.environment import variable
from leanspike.errors import LeanspikeError
from leanspike_runtime.sources import library_digest, library_files
from leanspike_runtime.threads import parallel

INSTRUCTIONS = ("plain", "avx2", "avx512")  # from worst to best, numbered as in native.h
ROOT = Path(__file__).parents[2]  # of the checkout, if this is one


class Means(ctypes.Structure):
    """``native_means`` of native.h.

    >>> Means(parallel=None, threads=4, instructions=INSTRUCTIONS.index("avx2")).instructions
    1
    """

    _fields_ = (
        ("parallel", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instructions", ctypes.c_int32),
    )


def means() -> Means:
    """Return the number of torch's threads now, and the chosen instructions."""
    return Means(parallel(), torch.get_num_threads(), _instructions())


def what_is_missing() -> str:
    """Return why the library cannot be used, and what to do."""
    again = (
        f"pip install --no-deps --editable {ROOT}"
        if library_files(ROOT, "native")
        else "pip install --force-reinstall --no-deps --no-cache-dir FOLDER, with its sources"
    )
    if is_stale():
        return f"the native kernel was built from other sources; build it again ({again})"
    return (
        "the native kernel is not built: install a C compiler (gcc or clang), "
        f"then leanspike again ({again})"
    )


def _find() -> Path | None:
    """Return the library's file, whose name is the same on every system and for every Python."""
    path = Path(__file__).with_name("_native.so")
    return path if path.is_file() else None


@cache
def _load() -> ctypes.CDLL | None:
    path = _find()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    loaded.leanspike_density.restype = ctypes.c_double
    loaded.leanspike_convolution_room.restype = ctypes.c_int64
    expected = library_digest(ROOT, "native")
    return loaded if expected is None or _digest_in(loaded) == expected else None


def _digest_in(loaded: ctypes.CDLL) -> str | None:
    """Return the digest of a library's sources, or None if the library is too old."""
    tell = getattr(loaded, "leanspike_native_sources", None)
    if tell is None:
        return None
    tell.restype = ctypes.c_char_p
    digest: bytes = tell()
    return digest.decode()


def is_built() -> bool:
    """Return whether the library was built, in a checkout from the present sources."""
    return _load() is not None


def is_stale() -> bool:
    """Return whether this checkout has a library that was built from other sources.

    It is never used: its results would be reported for code that did not run.
    """
    return _find() is not None and not is_built()


def refuse_second_derivatives(_ctx: object, *_gradients: Tensor) -> None:
    """Raise LeanspikeError for a second derivative, which autograd would take for 0."""
    raise LeanspikeError(
        "the native code has no second derivatives; set LEANSPIKE_BACKEND=reference, which has them"
    )


def library() -> ctypes.CDLL:
    """Return the library, which must be built."""
    loaded = _load()
    assert loaded is not None
    return loaded


def available_instructions() -> tuple[str, ...]:
    """Return the instruction sets of library and processor, from worst to best."""
    loaded = _load()
    return INSTRUCTIONS[: _best_instructions(loaded) + 1] if loaded else ()


@cache
def _best_instructions(loaded: ctypes.CDLL) -> int:
    """Return the best instruction set. In a virtual machine asking is slow, so it is cached."""
    best: int = loaded.leanspike_best_instructions()
    return best


def chosen_instructions() -> str:
    """Return the instruction set that the library uses now."""
    return INSTRUCTIONS[_instructions()]


def _instructions() -> int:
    name = variable(b"LEANSPIKE_INSTRUCTIONS")
    if name is None:
        return _best_instructions(library())
    available = available_instructions()
    if name not in available:
        raise LeanspikeError(
            f"LEANSPIKE_INSTRUCTIONS is {name!r}; choose one of {', '.join(available)} "
            "(what this processor has) or unset it"
        )
    return INSTRUCTIONS.index(name)
