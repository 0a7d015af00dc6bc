"""Where the text of a recipe lies, and what it says in YAML, as plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from leanspike.errors import LeanspikeError
from leanspike.recipes.study import check_one, is_kept, kept_recipe

MOST_VALUES = 100_000
"""Of a recipe: aliases of aliases (``*a``) make any number of a few hundred bytes."""

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """A recipe as it is written: its name in messages, its text, and its file.

    ``path`` is None for one that comes with leanspike.

    >>> find_source("digits").path is None
    True
    """

    name: str
    text: str
    path: Path | None

    @property
    def data(self) -> dict[str, Any]:
        """What the text says."""
        try:
            data = read_yaml(self.text)
        except ValueError as error:
            raise LeanspikeError(f"recipe {self.name} is not YAML: {error}") from None
        if not isinstance(data, dict):
            raise LeanspikeError(f"recipe {self.name} is not a mapping of keys to values")
        return data


def shipped() -> dict[str, Source]:
    """Return the recipes that come with leanspike, by name, sorted.

    >>> "digits" in shipped()
    True
    """
    files = resources.files("leanspike.recipes").iterdir()
    names = sorted(file.name.removesuffix(".yaml") for file in files if _is_yaml(file.name))
    return {name: _shipped(name) for name in names}


def find_source(source: str | Path) -> Source:
    """A recipe by the name of a shipped one, from a YAML file, or of a run that a study keeps.

    Raises:
        LeanspikeError: for a name that there is not, with the nearest, or an unreadable file.
    """
    path = Path(source)
    if is_kept(path):
        return Source(str(path), json.dumps(kept_recipe(path)), path)
    if path.suffix in SUFFIXES or path.is_file():
        check_one(path)
        return file_source(path)
    if not _is_shipped(str(source)):
        check_one(path)
    return named_source(str(source))


def file_source(path: Path) -> Source:
    """Return the recipe in that file; LeanspikeError if it cannot be read."""
    try:
        return Source(str(path), path.read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise LeanspikeError(f"cannot read the recipe {path}: {error}") from None


def named_source(name: str) -> Source:
    """Return the recipe of that name that comes with leanspike; LeanspikeError if there is none."""
    if not _is_shipped(name):
        raise LeanspikeError(
            f"no recipe {name!r}; {nearest(name, shipped())} "
            "(`leanspike recipes` lists them; a file of your own ends in .yaml)"
        )
    return _shipped(name)


def read_yaml(text: str) -> Any:
    """Return what a text says in YAML, as plain data; ValueError where it is none.

    >>> read_yaml("{a: " * 5000)
    Traceback (most recent call last):
    ValueError: ...nest...
    """
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_values(data)
    return data


def _check_values(data: Any) -> None:
    """ValueError where aliases make more of a text than it says, or something that has no end."""
    waiting, count = [data], 0
    while waiting and count <= MOST_VALUES:
        value = waiting.pop()
        inside = list(value.values()) if isinstance(value, dict) else value
        waiting += inside if isinstance(inside, list) else ()
        count += 1
    if waiting:
        raise ValueError(f"it stands for more than {MOST_VALUES:,} values; write fewer aliases")


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return the valid name that is meant, if one is like it, else all of them.

    >>> nearest("digit", ["digits", "mnist"])
    "did you mean 'digits'?"
    """
    options = list(valid)
    close = get_close_matches(wrong, options, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(options)}"


def _shipped(name: str) -> Source:
    return Source(name, (resources.files("leanspike.recipes") / f"{name}.yaml").read_text(), None)


def _is_shipped(name: str) -> bool:
    file = resources.files("leanspike.recipes") / f"{name}.yaml"
    return "/" not in name and file.is_file()


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")


_Safe: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # C is 7 times as fast


class _Loader(_Safe):  # type: ignore[misc]
    """Safe YAML (no objects) that reads 1e-4 as a number, as YAML 1.2 and everybody else do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
