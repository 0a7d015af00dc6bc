"""What a recipe may hold: every key with its type, default and meaning, told by the models.

All of it is read from the JSON schema of :class:`leanspike.config.Recipe`. No key can therefore be
missing here, and no range can differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from leanspike.config import Recipe
from leanspike.data import DATASETS, datasets

Schema = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A key: its name in its section, and in words what it takes.

    ``default`` is as YAML writes it, "" where a value must be given.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class KeySection:
    """A section: the places of a recipe where it may stand ("" is the top), and its keys."""

    places: tuple[str, ...]
    meaning: str
    keys: tuple[Key, ...]


def sections() -> tuple[KeySection, ...]:
    """Return all sections of a recipe, each once, in the order in which they are met.

    The stages of a list have the place ``snn.N``. The options of the data sets come last.

    >>> by_place = {place: section for section in sections() for place in section.places}
    >>> print(by_place["snn.N"].places)
    ('ann', 'snn.N')
    >>> [key for key in by_place[""].keys if key.name == "seed"]
    [Key(name='seed', type='whole number ≥ 0', default='0', meaning='All that is random ...')]
    """
    schema = Recipe.model_json_schema()
    places: dict[str, dict[str, None]] = {}
    for name, place in _walk(schema, "", schema, ""):
        places.setdefault(name, {})[place] = None
    own = (_section(_resolve(name, schema), schema, list(found)) for name, found in places.items())
    return (*own, *_of_datasets())


def _of_datasets() -> Iterator[KeySection]:
    """Return the options of data sets, grouped by equal options, and the sections in them."""
    owners: dict[tuple[Key, ...], list[str]] = {}
    inside: dict[str, KeySection] = {}
    for name in DATASETS:
        schema = {"$defs": {}, **datasets.config(name).model_json_schema()}
        found = _section({"description": "", **schema}, schema, ["data.options"])
        if found.keys:
            owners.setdefault(found.keys, []).append(name)
        for inner, place in _walk(schema, "", schema, "data.options"):
            if inner:
                inside[place] = _section(_resolve(inner, schema), schema, [place])
    for keys, names in owners.items():
        listed = ", ".join(f"`{name}`" for name in names)
        yield KeySection(("data.options",), f"Options of the data set, if that is {listed}.", keys)
    yield from inside.values()


def _walk(section: Schema, name: str, schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the sections in the schema, from this one down, and their places."""
    yield name, place
    for key, of_key in section["properties"].items():
        for inner, several in _inner(of_key, schema):
            where = ".".join(part for part in (place, key, "N" if several else "") if part)
            yield from _walk(_resolve(inner, schema), inner, schema, where)


def _inner(of_key: Schema, schema: Schema) -> list[tuple[str, bool]]:
    """Return the sections that a key may hold, and whether it holds a list of them.

    A section that its name chooses, as that of the neurons, is any of those that it may be.
    """
    if "$ref" in of_key:
        section = _resolve(of_key["$ref"], schema)
        return _inner(section, schema) if "anyOf" in section else [(of_key["$ref"], False)]
    if "items" in of_key:
        return [(inner, True) for inner, _ in _inner(of_key["items"], schema)]
    return [inner for choice in of_key.get("anyOf", ()) for inner in _inner(choice, schema)]


def _resolve(name: str, schema: Schema) -> Schema:
    section: Schema = schema["$defs"][name.rpartition("/")[2]] if name else schema
    return section


def _section(section: Schema, schema: Schema, places: list[str]) -> KeySection:
    required = section.get("required", ())
    keys = (
        Key(
            name,
            _type(of_key),
            "" if name in required else _default(of_key, schema),
            _meaning(of_key),
        )
        for name, of_key in section["properties"].items()
    )
    return KeySection(tuple(places), _plain(section["description"]), tuple(keys))


def _meaning(of_key: Schema) -> str:
    known = ", ".join(of_key.get("examples", ()))
    return _plain(of_key["description"]) + (f" Known are {known}." if known else "")


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _type(of_key: Schema) -> str:
    """Return what the key takes, in words.

    >>> _type({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]})
    'number > 0 or null'
    """
    if "anyOf" in of_key:
        return " or ".join(_type(choice) for choice in of_key["anyOf"])
    if "$ref" in of_key:
        return "section"
    if "enum" in of_key:
        return ", ".join(yaml.safe_dump(value).split("\n")[0] for value in of_key["enum"])
    kind: str = of_key["type"]
    if kind == "array":
        return _list(of_key)
    if kind == "object":
        values = of_key["additionalProperties"]
        return "mapping" if values is True else f"mapping ({_type(values)})"
    names = {"string": "text", "boolean": "true, false", "integer": "whole number"}
    return names.get(kind, kind) + _range(of_key)


def _list(of_key: Schema) -> str:
    if "prefixItems" in of_key:
        each = {_type(item) for item in of_key["prefixItems"]}
        return f"list of {len(of_key['prefixItems'])} ({'; '.join(sorted(each))})"
    return "list of sections" if "$ref" in of_key["items"] else f"list ({_type(of_key['items'])})"


def _range(of_key: Schema) -> str:
    """Return the bounds of a number, as " ≥ 1" or " in (0, 100]"."""
    low, above = of_key.get("minimum"), of_key.get("exclusiveMinimum")
    high, below = of_key.get("maximum"), of_key.get("exclusiveMaximum")
    least, most = (above if low is None else low), (below if high is None else high)
    if least is None:
        return ""
    if most is None:
        return f" ≥ {least:g}" if above is None else f" > {least:g}"
    opening, closing = "[" if above is None else "(", "]" if below is None else ")"
    return f" in {opening}{least:g}, {most:g}{closing}"


def _default(of_key: Schema, schema: Schema) -> str:
    """Return a default as YAML writes it; a section shows what differs from its own defaults."""
    value = of_key["default"]
    if isinstance(value, dict):
        value = _differing(value, of_key, schema)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _differing(value: Schema, of_key: Schema, schema: Schema) -> Schema:
    """Return what of a section's value differs from its own defaults."""
    several = [_resolve(inner, schema)["properties"] for inner, _ in _inner(of_key, schema)]
    if len(several) > 1:
        several = [keys for keys in several if keys["name"]["default"] == value["name"]]
    if not several:
        return value
    (own,) = several
    found = {}
    for name, given in value.items():
        inside = own[name]
        if given == inside.get("default"):
            continue
        found[name] = _differing(given, inside, schema) if isinstance(given, dict) else given
    return found


def as_json() -> str:
    """Return all keys by their dotted names, for programs, in one line.

    Where the name of a part decides, as of the neurons, they are those of its default first.

    >>> json.loads(as_json())["spike.timesteps"]
    {'type': 'whole number ≥ 1', 'required': False, 'default': 5, 'meaning': 'Steps that ...'}
    """
    rows: dict[str, dict[str, Any]] = {}
    for section in sections():
        for place in section.places:
            for key in section.keys:
                row = {
                    "type": key.type,
                    "required": not key.default,
                    "default": yaml.safe_load(key.default),
                    "meaning": key.meaning,
                }
                rows.setdefault(f"{place}.{key.name}".removeprefix("."), row)
    return json.dumps(rows)


def render_keys() -> Group:
    """Return all keys for a terminal: a title and a table for each section."""
    parts: list[RenderableType] = []
    for section in sections():
        title = ", ".join(section.places) or "at the top"
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=not parts, expand=True)
        table.add_column("key", style="bold", width=20, no_wrap=True)
        for column, ratio in (("takes", 3), ("unless given", 2), ("meaning", 6)):
            table.add_column(column, ratio=ratio)
        for key in section.keys:
            default = key.default or "must be given"
            table.add_row(*map(Text, (key.name, key.type, default, key.meaning.replace("`", ""))))
        parts += [Text(f"\n{title}", style="bold"), Text(section.meaning.replace("`", "")), table]
    return Group(*parts)
