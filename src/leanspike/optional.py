"""Importing packages that only a part of leanspike needs, when that part is used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from leanspike.errors import LeanspikeError


def import_optional(module: str, extra: str) -> ModuleType:
    """Import ``module``, or raise LeanspikeError with the extra of leanspike that installs it.

    pip and uv keep the installed leanspike, wherever it came from, and fetch only the packages of
    the extra.

    >>> import_optional("math", "vision").sqrt(4)
    2.0
    >>> import_optional("no_such_module", "vision")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no_such_module is not installed; pip install 'leanspike[...]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise LeanspikeError(
            f"{error.name} is not installed; pip install 'leanspike[{extra}]'"
        ) from error


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None.

    >>> installed("torch") is None, installed("nothing-of-that-name") is None
    (False, True)
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None
