"""The old name of `leanspike.backends`, which works for one more version."""

from __future__ import annotations

import warnings

from leanspike import backends


def __getattr__(name: str) -> object:
    if name not in ("Backends", "note_backend", "watch_backends"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"leanspike.backend is leanspike.backends now; from leanspike.backends import {name}",
        FutureWarning,
        stacklevel=2,
    )
    return getattr(backends, name)
