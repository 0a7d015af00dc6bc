"""Converting the options of a part between plain data and a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from leanspike.section import Section


def values_of(section: Section) -> dict[str, Any]:
    """Return the values of a section by name. Sections in it stay sections.

    >>> values_of(Section())
    {}
    """
    return {name: getattr(section, name) for name in type(section).model_fields}


def validated(config: type[Section], given: Mapping[str, Any]) -> Section:
    """Return plain data as a section. Lists stand for tuples, and values for sections in it."""
    return config.model_validate_json(to_json(given))
