"""Changes of single keys from the command line: ``dotted.key=value``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leanspike.errors import LeanspikeError
from leanspike.models.own import is_own
from leanspike.recipes.extending import EXTENDS
from leanspike.recipes.sources import read_yaml
from leanspike.train.terms import terms_by_name


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Change plain data by overrides, each ``dotted.key=value`` with a YAML value.

    Raises:
        LeanspikeError: for an override that does not fit; ValueError for terms that do not.

    >>> data = {"snn": [{"epochs": 2}]}
    >>> apply_overrides(data, ["snn.0.epochs=3", "seed=1"])
    >>> data
    {'snn': [{'epochs': 3}], 'seed': 1}
    """
    for override in sorted(overrides, key=_names_no_own):  # a user's network resets options first
        _apply(data, override)


def _names_no_own(override: str) -> bool:
    key, _, value = override.partition("=")
    return not (key in ("model.name", "teacher.model.name") and is_own(value))


def _parted(override: str) -> tuple[str, str]:
    """Return the key and the text of its value."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise LeanspikeError(f"override {override!r}; write dotted.key=value, as in seed=1")
    if key == EXTENDS:
        raise LeanspikeError(
            f"override {override}: only a file can extend a recipe; give {text} as the recipe, or "
            "write a file of your own"
        )
    return key, text


def _apply(data: dict[str, Any], override: str) -> None:
    key, text = _parted(override)
    *parents, last = key.split(".")
    place: Any = data
    for part in parents:
        if isinstance(place, list):
            place = place[_position(place, part, key, text)]
        elif isinstance(place, dict):
            if place.get(part) is None:
                place[part] = {}
            elif part == "objective" and isinstance(place[part], list):
                place[part] = terms_by_name(place[part])
            place = place[part]
        else:
            raise LeanspikeError(f"override {key}: {part!r} is inside a plain value")
    value = _value(text, override)
    if isinstance(place, list):
        place[_position(place, last, key, text)] = value
    elif isinstance(place, dict):
        if not _names_no_own(override) and place.get(last) != value:
            place["options"] = {}  # the recipe's options are for another network
        place[last] = value
    else:
        raise LeanspikeError(f"override {key}: {last!r} is inside a plain value")


def _value(text: str, override: str) -> Any:
    try:
        return read_yaml(text)
    except ValueError:
        raise LeanspikeError(f"override {override!r}: {text!r} is not a YAML value") from None


def _position(place: list[Any], part: str, key: str, value: str) -> int:
    if not place:
        name = key[: key.index(f".{part}")]
        raise LeanspikeError(
            f"override {key}: {name} is an empty list; give {name}=[{{...}}] first"
        )
    if not part.isdigit():
        right = key.replace(f".{part}", f".0.{part}", 1)
        raise LeanspikeError(
            f"override {key}: {key[: key.index(f'.{part}')]} is a list, and {part!r} is in each of "
            f"0..{len(place) - 1}; name one, as {right}={value}"
        )
    if int(part) >= len(place):
        raise LeanspikeError(f"override {key}: {part!r} is not one of 0..{len(place) - 1}")
    return int(part)
