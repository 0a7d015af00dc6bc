"""Finding the text of a recipe, and reading its YAML as plain data."""

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
"""The most values in a recipe: aliases of aliases (``*a``) could expand without bound."""

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """The source of a recipe: its name in messages, its text, and its file.

    ``path`` is None for a recipe that comes with leanspike.

    >>> find_source("digits").path is None
    True
    """

    name: str
    text: str
    path: Path | None

    @property
    def data(self) -> dict[str, Any]:
        """The content of the text."""
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
    """Return the source of a shipped recipe, a YAML file, or a run in a study.

    Raises:
        LeanspikeError: for an unknown name, with the nearest one, or for an unreadable file.
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
    """Return the recipe in that file. Raise LeanspikeError if it cannot be read."""
    try:
        return Source(str(path), path.read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise LeanspikeError(f"cannot read the recipe {path}: {error}") from None


def named_source(name: str) -> Source:
    """Return the shipped recipe of that name. Raise LeanspikeError if there is none."""
    if not _is_shipped(name):
        raise LeanspikeError(
            f"no recipe {name!r}; {nearest(name, shipped())} "
            "(`leanspike recipes` lists them; a file of your own ends in .yaml)"
        )
    return _shipped(name)


def read_yaml(text: str) -> Any:
    """Return the content of a YAML text as plain data. Raise ValueError if it is not YAML.

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
    """Raise ValueError if aliases expand a text too much, or without end."""
    waiting, count = [data], 0
    while waiting and count <= MOST_VALUES:
        value = waiting.pop()
        inside = list(value.values()) if isinstance(value, dict) else value
        waiting += inside if isinstance(inside, list) else ()
        count += 1
    if waiting:
        raise ValueError(f"it expands to more than {MOST_VALUES:,} values; write fewer aliases")


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return in words the valid name that was probably meant, or else all valid names.

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
    """A loader of safe YAML (no objects) that reads 1e-4 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
