"""The native library: whether it is there, with what instructions and in which threads it works.

Its code is in ``src/native``. Two environment variables choose by hand. ``LEANSPIKE_KERNEL``:
"reference" uses plain PyTorch instead, "native" makes it an error that the library was not built,
"auto" is the default. ``LEANSPIKE_INSTRUCTIONS`` (plain, avx2 or avx512) holds it to that
instruction set; without it the best that the processor has is used.
"""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from leanspike.errors import LeanspikeError

INSTRUCTIONS = ("plain", "avx2", "avx512")  # worst to best; numbered as in native.h
VERSION = 4  # NATIVE_VERSION of native.h


class Means(ctypes.Structure):
    """``native_means`` of native.h."""

    _fields_ = (
        ("parallel", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("instructions", ctypes.c_int32),
    )


def means() -> Means:
    """As many of torch's threads as it uses now, and the instructions that were chosen.

    >>> (means().threads == torch.get_num_threads()) if is_built() else True
    True
    """
    return Means(_parallel(os.getpid()), torch.get_num_threads(), _instructions())


def is_chosen() -> bool:
    """Whether the library is to be used: it was built, and the environment does not say otherwise.

    Where it was not built, this is said once.
    """
    choice = os.environ.get("LEANSPIKE_KERNEL", "auto")
    if choice not in ("auto", "native", "reference"):
        raise LeanspikeError(
            f"LEANSPIKE_KERNEL is {choice!r}; choose auto, native or reference, or unset it"
        )
    if choice == "reference":
        return False
    if choice == "native" and not is_built():
        raise LeanspikeError(f"LEANSPIKE_KERNEL is 'native', but {_NOT_BUILT}")
    if not is_built():
        _warn_once()
    return is_built()


# What torch.compiler.assume_constant_result sets, without its import of the whole compiler,
# which takes longer than that of torch.
is_chosen._dynamo_marked_constant = True  # type: ignore[attr-defined]


_NOT_BUILT = (
    "the native kernel is not built: install a C compiler (gcc or clang), "
    "then leanspike again (pip install --force-reinstall --no-deps --no-cache-dir)"
)


@cache
def _warn_once() -> None:
    logging.getLogger("leanspike").warning("neurons run on the slow reference; %s", _NOT_BUILT)


@cache
def _load() -> ctypes.CDLL | None:
    path = Path(__file__).with_name("_native.so")  # on every system, for every Python
    if not path.is_file():
        return None
    loaded = ctypes.CDLL(str(path))
    loaded.leanspike_density.restype = ctypes.c_double
    return loaded if loaded.leanspike_native_version() == VERSION else None


def is_built() -> bool:
    """Whether the library was built, and from this version's sources."""
    return _load() is not None


def refuse_second_derivatives(_ctx: object, *_gradients: Tensor) -> None:
    """The derivative of an operator that is one itself: autograd would take it for 0."""
    raise LeanspikeError(
        "the native code has no second derivatives; set LEANSPIKE_KERNEL=reference, which has"
    )


def library() -> ctypes.CDLL:
    """The library, where it is built."""
    loaded = _load()
    assert loaded is not None
    return loaded


def available_instructions() -> tuple[str, ...]:
    """The instruction sets that the library and this processor have, worst to best."""
    loaded = _load()
    return INSTRUCTIONS[: loaded.leanspike_best_instructions() + 1] if loaded else ()


def _instructions() -> int:
    available = available_instructions()
    name = os.environ.get("LEANSPIKE_INSTRUCTIONS", available[-1])
    if name not in available:
        raise LeanspikeError(
            f"LEANSPIKE_INSTRUCTIONS is {name!r}; choose one of {', '.join(available)} "
            "(what this processor has) or unset it"
        )
    return INSTRUCTIONS.index(name)


@cache
def _first_process() -> int:
    """The one that computed first: this one, or one that it was forked from."""
    return os.getpid()


@cache
def _parallel(process: int) -> int | None:
    """The address of libgomp's GOMP_parallel, if torch brought it; else None.

    None too where a process that had computed was forked: its child inherits the library without
    its threads, and would wait for them for ever.
    """
    if process != _first_process():
        return None
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError):
        return None
