"""The differences of two recipes, as overrides of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from leanspike.recipes import read_yaml


def changes(base: Any, other: Any, key: str = "") -> Iterator[str]:
    """Yield the overrides that turn one recipe into another, both as plain data.

    A section is given whole if it lacks keys of the base or names another part.

    >>> base = {"seed": 0, "ann": {"epochs": 7}, "snn": [{"epochs": 1, "select": "best"}]}
    >>> list(changes(base, {"seed": 0, "ann": None, "snn": [{"epochs": 1, "select": "last"}]}))
    ['ann=null', 'snn.0.select=last']
    """
    if base == other and type(base) is type(other):
        return
    if isinstance(base, dict) and isinstance(other, dict) and _alike(base, other, key):
        for name, value in other.items():
            if name not in base or base[name] != value:
                yield from changes(base.get(name, _NOTHING), value, f"{key}{name}.")
    elif isinstance(base, list) and isinstance(other, list) and _entries(base, other):
        for number, (old, new) in enumerate(zip(base, other, strict=True)):
            yield from changes(old, new, f"{key}{number}.")
    else:
        yield f"{key.removesuffix('.')}={as_text(other)}"


_NOTHING = object()


def _alike(base: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    """Whether one section can be made from the other key by key."""
    named = bool(key) and base.get("name") != other.get("name")
    dotted = any("." in name for name in other)
    return not named and not dotted and base.keys() <= other.keys()


def _entries(base: list[Any], other: list[Any]) -> bool:
    sections = all(isinstance(entry, dict) for entry in (*base, *other))
    return sections and len(base) == len(other)


def as_text(value: Any) -> str:
    """Return a value as the text behind ``=``, which is YAML in one line.

    >>> as_text("last"), as_text("null"), as_text([1, 5]), as_text({"weight": 1e-05})
    ('last', '"null"', '[1, 5]', '{weight: 1.0e-05}')
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict | list):
        flow = yaml.safe_dump(
            value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True
        )
        text = flow.strip()
    else:
        return json.dumps(value)
    return text if says(text, value) else json.dumps(value, ensure_ascii=False)


def says(text: str, value: Any) -> bool:
    """Return whether YAML reads a text as that value.

    >>> says("1e-4", "1e-4"), says("a-4", "a-4")
    (False, True)
    """
    try:
        return bool(read_yaml(text) == value)
    except ValueError:
        return False
