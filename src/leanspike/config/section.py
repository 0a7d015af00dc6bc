"""What every section of a recipe is, and how it checks the parts that it names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from leanspike.errors import LeanspikeError
from leanspike.registry import Registry
from leanspike.section import Section as Closed


class Section(Closed):
    """Base of every part of a recipe."""


def check_name(registry: Registry[Any], name: str, also: Collection[str] = ()) -> None:
    """Raise ValueError for a name that no part has, or a part that cannot be imported."""
    try:
        registry.find(name, also)
    except LeanspikeError as error:
        said = str(error)
        raise ValueError(said if name in registry else said.partition("; ")[2]) from None


def whole_options(registry: Registry[Any], name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return all options of a part as plain data, its defaults included.

    Raises ValueError for an option that the part does not have, or a value that it does not take.
    """
    try:
        options = registry.options(name, given)
    except LeanspikeError as error:
        raise ValueError(str(error)) from None
    return {
        key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for key, value in options.items()
    }
