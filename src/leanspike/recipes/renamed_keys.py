"""Keys of recipes that have other names, or other places, now. The old ones are still read.

A key of before is put where it stands now in each text by itself, before recipes are merged. So a
recipe of before extends one of today, and the other way round.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from leanspike.data import datasets
from leanspike.errors import LeanspikeError
from leanspike.recipes.parts import as_section
from leanspike.registry import Registry
from leanspike.train import OptimizerSection, ScheduleSection, optimizers, schedules


@dataclass(frozen=True)
class Move:
    """Where a key of a section stands now, from that section on.

    ``nothing`` is what a recipe that was written out holds where nobody said anything. What the
    key is an option of is named by ``part``; such an option was not heeded where the part does not
    know it, if it says nothing or was ``ignored``.
    """

    to: tuple[str, ...]
    nothing: Any = None
    part: str | None = None
    ignored: bool = False


OF_DATA = {
    "fold": Move(("cross_validation",)),
    "image_size": Move(("options", "image_size"), part="data"),
    "channels": Move(("options", "channels"), part="data"),
    "frames": Move(("options", "frames"), part="data"),
    "skip_bad": Move(("options", "skip_bad"), nothing=False, part="data"),
}
OF_STAGE = {
    "optimizer_options": Move(("optimizer",)),
    "momentum": Move(("optimizer", "momentum"), part="optimizer", ignored=True),
    "nesterov": Move(("optimizer", "nesterov"), part="optimizer", ignored=True),
    "schedule_options": Move(("schedule",)),
    "period_epochs": Move(("schedule", "period_epochs"), part="schedule"),
    "milestones": Move(("schedule", "milestones"), part="schedule"),
}
WRITTEN_OUT = ({"image_size", "channels", "frames"}, {"momentum", "period_epochs", "milestones"})
"""Keys that stand together only in what leanspike wrote out."""
PARTS: dict[str, tuple[Registry[Any], str | None]] = {
    "data": (datasets, None),
    "optimizer": (optimizers, OptimizerSection.model_fields["name"].default),
    "schedule": (schedules, ScheduleSection.model_fields["name"].default),
}
"""Whose options have moved, and the part where none is named."""


def renamed(key: str, value: Any) -> list[tuple[str, Any]]:
    """Return what a dotted key and its value are now.

    >>> renamed("data.frames.by", "time"), renamed("seed", 3)
    ([('data.options.frames.by', 'time')], [('seed', 3)])
    >>> renamed("snn.0.optimizer_options", {"beta": 0.5})
    [('snn.0.optimizer.beta', 0.5)]
    """
    first, *rest = key.split(".")
    place = [first, *rest[:1]] if first == "snn" else [first]
    old, *inside = key.split(".")[len(place) :] or [""]
    moves = {"data": OF_DATA, "ann": OF_STAGE, "snn": OF_STAGE}.get(first, {})
    if old not in moves:
        return [(key, value)]
    each = [(moves[old].to, value)] if inside else _places(moves[old], value)
    return [(".".join([*place, *to, *inside]), one) for to, one in each]


def take_old_keys(data: Any, said: bool = True) -> None:
    """Put the keys of before where they stand now, in place.

    Args:
        data: a recipe as plain data, of one text.
        said: whether a warning says the new name of each that a person has written. A recipe that
            leanspike wrote out has all of them, and gives none.

    Raises:
        LeanspikeError: for a key that stands there under both names.

    >>> data = {"data": {"image_size": 8}, "ann": {"optimizer": "sgd", "momentum": 0.5}}
    >>> take_old_keys(data, said=False)
    >>> data["data"], data["ann"]["optimizer"]
    ({'options': {'image_size': 8}}, {'name': 'sgd', 'momentum': 0.5})
    """
    for place, section, moves in _sections(data):
        written_out = any(keys <= section.keys() for keys in WRITTEN_OUT)
        _shape(section, moves is OF_DATA and written_out)
        for key in [key for key in moves if key in section]:
            move, value = moves[key], section.pop(key)
            if not _was_heeded(move, value, section, "extends" in data):
                continue
            if said and not written_out and value != move.nothing and value != {}:
                now = ".".join((place, *move.to))
                logging.getLogger("leanspike").warning(f"{place}.{key} is {now} now")
            for to, each in _places(move, value):
                if not _put(section, to, each):
                    now = ".".join((place, *to))
                    raise LeanspikeError(
                        f"{place}.{key} is {now} now, which is there, too; leave one out"
                    )


def _shape(section: dict[str, Any], of_a_data_set: bool) -> None:
    """Sections where a recipe that is written out has them now."""
    if of_a_data_set:
        section.setdefault("options", {})
    for part in ("optimizer", "schedule"):
        if part in section:
            section[part] = as_section(part, section[part])


def _was_heeded(move: Move, value: Any, section: dict[str, Any], inherits: bool) -> bool:
    """Whether a key said something, to a part that knew it."""
    if move.part is None:
        return value is not None
    if not move.ignored and value != move.nothing:
        return True  # which the check of the recipe may refuse
    known = _known(move.part, section, inherits)
    return known is None or move.to[-1] in known


def _places(move: Move, value: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Yield where a value goes; a mapping of options goes entry by entry."""
    if move.part is None and move.to[0] in PARTS and isinstance(value, dict):
        return [((*move.to, name), each) for name, each in value.items()]
    return [(move.to, value)]


def _sections(data: Any) -> Iterator[tuple[str, dict[str, Any], dict[str, Move]]]:
    """Yield the sections that had other keys, each with its place."""
    if not isinstance(data, dict):
        return
    stages = data.get("snn")
    entries = list(stages.items()) if isinstance(stages, dict) else []
    entries = list(enumerate(stages)) if isinstance(stages, list) else entries
    for place, section, moves in (
        ("data", data.get("data"), OF_DATA),
        ("ann", data.get("ann"), OF_STAGE),
        *((f"snn.{number}", stage, OF_STAGE) for number, stage in entries),
    ):
        if isinstance(section, dict):
            yield place, section, moves


def _known(part: str, section: dict[str, Any], inherits: bool) -> Collection[str] | None:
    """Return the options of the part in this section, or None where a base recipe names it."""
    registry, usual = PARTS[part]
    named = section if part == "data" else as_section(part, section.get(part))
    name = named.get("name") if isinstance(named, dict) else None
    name = usual if name is None and not inherits else name
    if name is None:
        return None
    try:
        return registry.config(name).model_fields
    except (LeanspikeError, TypeError):  # which is said where the recipe is checked
        return ()


def _put(section: dict[str, Any], to: tuple[str, ...], value: Any) -> bool:
    """Put a value at its new place; return False if one is there already."""
    place: Any = section
    for part in to[:-1]:
        inner = as_section(part, place.get(part))
        place[part] = {} if inner is None else inner
        place = place[part]
        if not isinstance(place, dict):
            return True
    if to[-1] in place:
        return False
    place[to[-1]] = value
    return True
