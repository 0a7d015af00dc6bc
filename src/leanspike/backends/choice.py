"""The choice of the backend for a call, which is made here only, and noted.

A user chooses by `use_backend` in Python, else by the environment variable ``LEANSPIKE_BACKEND``,
else by its old name ``LEANSPIKE_KERNEL``. The value is "auto" (the default), or the name of a
registered backend. "auto" asks the registered backends, the latest first and the reference last. A
named backend computes what it serves, and the reference all else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from typing import overload

from leanspike.backends.calls import Call, NeuronCall
from leanspike.backends.notes import note_backend
from leanspike.backends.protocol import Backend, backends
from leanspike.environment import variable
from leanspike.errors import LeanspikeError
from leanspike.registry import nearest

AUTO, LAST = "auto", "reference"

_chosen: ContextVar[str | None] = ContextVar("leanspike_chosen_backend", default=None)


@overload
def choose(call: NeuronCall) -> Backend: ...


@overload
def choose(call: Call) -> Backend | None: ...


def choose(call: Call) -> Backend | None:
    """Return the backend that computes this call, or None for PyTorch itself; note the choice.

    Raises LeanspikeError if the user's backend is unknown or cannot run on this machine.

    >>> from leanspike.backends import Dynamics, LIFCall
    >>> import torch
    >>> x_TN = torch.zeros(2, 1, dtype=torch.float64)  # the native code does not serve float64
    >>> call = LIFCall(x_TN, torch.tensor(1.0), torch.tensor(1.0), Dynamics())
    >>> type(choose(call)).__name__
    'Reference'
    """
    for name in candidates():
        backend = backends.find(name)()
        if backend.serves(call):
            note_backend(name, backend)
            return backend
    return None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend, or "auto", inside the context, in this thread.

    Raises LeanspikeError for an unknown name, and for a backend that cannot run on this machine.

    >>> from leanspike import LIF
    >>> from leanspike.backends import watch_backends
    >>> import torch
    >>> with use_backend("reference"), watch_backends() as ran:
    ...     _ = LIF()(torch.zeros(2, 1))
    >>> ran.backend
    'reference'
    """
    token = _chosen.set(name)
    try:
        candidates()
        yield
    finally:
        _chosen.reset(token)


def candidates() -> tuple[str, ...]:
    """Return the names of the backends to ask, in order.

    Raises LeanspikeError if the user's backend is unknown or cannot run on this machine.
    """
    name, source = _asked_for()
    if name == AUTO:
        return _in_turn(tuple(backends.registered))
    if name not in backends.registered and name not in backends.names():
        raise LeanspikeError(f"{source} is {name!r}; {nearest(name, (AUTO, *backends.names()))}")
    missing = backends.find(name)().missing()
    if missing is not None:
        raise LeanspikeError(f"{source} is {name!r}, but {missing}")
    return name, LAST


# torch.compiler.assume_constant_result sets this, too, but imports the whole compiler, which takes
# longer than importing torch. Names are constants for it; backends would not be.
candidates._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _in_turn(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names with later registrations first, and the reference last."""
    return (*(name for name in reversed(names) if name != LAST), LAST)


def _asked_for() -> tuple[str, str]:
    """Return the user's choice, and where it was made."""
    name = _chosen.get()
    if name is not None:
        return name, "backend"
    name = variable(b"LEANSPIKE_BACKEND")
    if name is not None:
        return name, "LEANSPIKE_BACKEND"
    name = variable(b"LEANSPIKE_KERNEL")
    if name is not None:
        _say_what_replaced_it(name)
        return name, "LEANSPIKE_KERNEL"
    return AUTO, ""


@cache
def _say_what_replaced_it(name: str) -> None:
    logging.getLogger("leanspike").warning(
        "LEANSPIKE_KERNEL is LEANSPIKE_BACKEND now; set LEANSPIKE_BACKEND=%s instead", name
    )
