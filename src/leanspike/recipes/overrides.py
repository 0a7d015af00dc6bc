"""Changes of single keys, as the command line gives them: ``dotted.key=value``.

An override that names another part drops the options of the old one, but for those that the command
line gives itself. All else of the section stays, as the weights of a network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from leanspike.errors import LeanspikeError
from leanspike.recipes.extending import EXTENDS
from leanspike.recipes.parts import as_section, is_anew, options_of
from leanspike.recipes.renamed_keys import renamed, take_old_keys
from leanspike.recipes.sources import read_yaml
from leanspike.train.terms import terms_by_name


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Change plain data by overrides, each ``dotted.key=value`` with a YAML value, word for word.

    The number behind a list's last one adds to it.

    Raises:
        LeanspikeError: for an override that does not fit; ValueError for terms that do not.

    >>> data = {"snn": [{"epochs": 2}]}
    >>> apply_overrides(data, ["snn.0.epochs=3", "seed=1"])
    >>> data
    {'snn': [{'epochs': 3}], 'seed': 1}
    >>> apply_overrides(data, ["snn.1={epochs: 4}"])
    >>> data["snn"]
    [{'epochs': 3}, {'epochs': 4}]
    """
    for override in overrides:
        key, text = _parted(override)
        _apply(data, key, text, _value(text, override))


def apply_typed(data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Apply overrides as a person means them: another part drops the old options.

    >>> data = {"model": {"name": "vgg9", "options": {"width": 0.5}}}
    >>> apply_typed(data, ["model.options.classes=3", "model.name=mlp"])
    >>> data
    {'model': {'name': 'mlp', 'options': {'classes': 3}}}
    """
    given: set[str] = set()
    for override in overrides:
        old, text = _parted(override)
        for now, value in renamed(old, _value(text, override)):
            if now != old:
                logging.getLogger("leanspike").warning(f"{old} is {now} now")
            alone = as_section(now.rpartition(".")[2], value) is not value
            key = f"{now}.name" if alone else now
            _forget(data, key, value, given)
            _apply(data, key, text, value)
            take_old_keys(data)
            given.add(key)


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


def _forget(data: dict[str, Any], key: str, value: Any, given: set[str]) -> None:
    """Drop the options of a part that is named anew, unless the command line gave them before."""
    *parents, choice = key.split(".")
    section: Any = data
    for part in parents:
        if isinstance(section, list) and part.isdigit() and int(part) < len(section):
            section = section[int(part)]
        else:
            section = section.get(part) if isinstance(section, dict) else None
    of = parents[-1] if parents else ""
    if not isinstance(section, dict) or not is_anew(section, of, choice, value):
        return
    place = ".".join(parents)
    for name in options_of(section, of, choice):
        _drop(section, name, f"{place}.{name}", given)


def _drop(section: dict[str, Any], name: str, key: str, given: set[str]) -> None:
    """Drop an option, but for what of it was given."""
    if any(f"{key}.".startswith(f"{each}.") for each in given):
        return
    inside = section[name]
    if isinstance(inside, dict) and any(each.startswith(f"{key}.") for each in given):
        for each in list(inside):
            _drop(inside, each, f"{key}.{each}", given)
    else:
        del section[name]


def _apply(data: dict[str, Any], key: str, text: str, value: Any) -> None:
    *parents, last = key.split(".")
    place: Any = data
    for part in parents:
        if isinstance(place, list):
            place = place[_position(place, part, key, text)]
        elif isinstance(place, dict):
            place[part] = as_section(part, place.get(part))
            if place[part] is None:
                place[part] = {}
            elif part == "objective" and isinstance(place[part], list):
                place[part] = terms_by_name(place[part])
            place = place[part]
        else:
            raise LeanspikeError(f"override {key}: {part!r} is inside a plain value")
    if isinstance(place, list) and place and last == str(len(place)):
        place.append(value)
    elif isinstance(place, list):
        place[_position(place, last, key, text)] = value
    elif isinstance(place, dict):
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
        name = key[: key.index(f".{part}")]
        raise LeanspikeError(
            f"override {key}: {part!r} is not one of 0..{len(place) - 1}; "
            f"{name}.{len(place)}={{...}} adds one"
        )
    return int(part)
