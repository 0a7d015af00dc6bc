"""The options of a part, between plain data and a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from leanspike.section import Section


def values_of(section: Section) -> dict[str, Any]:
    """The values of a section by name, sections among them as they are.

    >>> values_of(Section())
    {}
    """
    return {name: getattr(section, name) for name in type(section).model_fields}


def validated(config: type[Section], given: Mapping[str, Any]) -> Section:
    """Plain data as a section: lists for tuples, as JSON has them, and sections as their values."""
    return config.model_validate_json(to_json(given))
