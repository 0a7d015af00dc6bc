"""Old names that work for one more version, with a warning that gives the new name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from warnings import warn


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module's ``__getattr__`` for old names, given as a map to full new names.

    >>> import warnings
    >>> find = renamed("leanspike.temporal", {"fold": "leanspike.temporal.stack"})
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     print(find("fold").__name__, told[0].message)
    stack leanspike.temporal.fold is leanspike.temporal.stack now
    """

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].rpartition(".")
        warn(f"{module}.{name} is {names[name]} now", FutureWarning, stacklevel=2)
        found: object = getattr(import_module(place), new)
        return found

    return find
