"""Recipes in YAML: those that come with leanspike, one file each, and how they are read.

Dotted overrides change single keys. Every mistake is one line that names the key and the nearest
valid one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from leanspike.config import Recipe, terms_by_name
from leanspike.errors import LeanspikeError
from leanspike.models.own import is_own
from leanspike.recipes.study import check_one, is_kept, kept_recipe
from leanspike.registry import ChosenSection
from leanspike.saved import SPEC, ModelSpec, read_model

MOST_VALUES = 100_000
"""Of a recipe: aliases of aliases (``*a``) make any number of a few hundred bytes."""


def recipes() -> dict[str, str]:
    """The recipes that come with leanspike: name to description, sorted.

    >>> "digits" in recipes()
    True
    """
    files = [f for f in resources.files("leanspike.recipes").iterdir() if f.name.endswith(".yaml")]
    found = {f.name.removesuffix(".yaml"): _parse(f.read_text(), f.name) for f in files}
    return {name: str(data.get("description", "")) for name, data in sorted(found.items())}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by the name of a built-in one, or from a YAML file, with overrides.

    Args:
        source: a name that ``leanspike recipes`` lists, the path of a file, or a run that is kept
            in a study (``results/norms/bntt-0.json``).
        overrides: each ``dotted.key=value`` with a YAML value; list items by their number.

    Raises:
        LeanspikeError: one line naming the key, the value, what was expected, the nearest name.

    >>> recipe = load_recipe("digits", ["snn.0.epochs=1", "seed=7"])
    >>> recipe.seed, recipe.snn[0].epochs
    (7, 1)
    >>> load_recipe("digits", ["snn.0.epoch=1"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: recipe digits: unknown key snn.0.epoch; did you mean 'epochs'?
    """
    name, text = _read(source)
    data = changed(_parse(text, name), overrides, name)
    if isinstance(data.get("model"), dict):
        _take_name(data["model"])
    return validate(data, name)


def changed(data: dict[str, Any], overrides: Sequence[str], name: str) -> dict[str, Any]:
    """A recipe as plain data, changed in place by overrides, and not yet checked.

    Args:
        name: what a message calls the recipe.

    >>> changed({"snn": [{"epochs": 2}]}, ["snn.0.epochs=1", "seed=7"], "mine")
    {'snn': [{'epochs': 1}], 'seed': 7}
    """
    try:
        for override in sorted(overrides, key=_names_no_own):  # whose options are its own, too
            _apply(data, override)
    except ValueError as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None
    return data


def check_named(folder: Path) -> ModelSpec:
    """What a saved network is made of, if that is a network of the zoo.

    Raises:
        LeanspikeError: for one of the user's own, which a recipe names, and nobody else.

    >>> import tempfile
    >>> from torch import nn
    >>> from leanspike import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_named(save(nn.Linear(2, 3), Path(folder)))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: ... give model.name=package.module:Class and --trust
    """
    model = read_model(folder)
    if model is None:
        raise LeanspikeError(
            f"{folder} holds a network of the user's own, and does not say which; give "
            "model.name=package.module:Class and --trust"
        )
    if is_own(model.name):
        options = f" 'model.options={json.dumps(model.options)}'" if model.options else ""
        raise LeanspikeError(
            f"{folder} holds a network of the user's own; give model.name={model.name}{options} "
            "and --trust"
        )
    return model


def _take_name(model: dict[str, Any]) -> None:
    """A model without a name is what leanspike saved in the folder of its weights."""
    folder = Path(str(model.get("weights"))).expanduser()
    if model.get("name") is None and (folder / SPEC).is_file():
        saved = check_named(folder)
        model["name"] = saved.name
        model["options"] = {**saved.options, **(model.get("options") or {})}


def _names_no_own(override: str) -> bool:
    key, _, value = override.partition("=")
    return not (key in ("model.name", "teacher.model.name") and is_own(value))


def _take_old_key(data: dict[str, Any]) -> None:
    """``data.fold``, the old name of ``data.cross_validation``, is taken for one more version."""
    section = data.get("data") if isinstance(data, dict) else None
    if not isinstance(section, dict) or "fold" not in section:
        return
    value = section.pop("fold")
    if value is not None:  # else it was written out in a recipe of before
        logging.getLogger("leanspike").warning("data.fold is data.cross_validation now")
        section["cross_validation"] = value


def read_yaml(text: str) -> Any:
    """What a text says in YAML, as plain data; ValueError where it is none.

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


def validate(data: dict[str, Any], name: str) -> Recipe:
    """Plain data as a recipe, or one line on what is wrong with it."""
    _take_old_key(data)
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise LeanspikeError(f"recipe {name}: {_explain(error.errors()[0], data)}") from None
    except (TypeError, ValueError) as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None
    except RecursionError:
        raise LeanspikeError(f"recipe {name}: it is nested too deeply") from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out; :func:`load_recipe` reads it back equal."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


_Safe: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # C is 7 times as fast


class _Loader(_Safe):  # type: ignore[misc]
    """Safe YAML (no objects) that reads 1e-4 as a number, as YAML 1.2 and everybody else do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if is_kept(path):
        return str(path), json.dumps(kept_recipe(path))
    if path.suffix in (".yaml", ".yml") or path.is_file():
        check_one(path)
        try:
            return str(path), path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise LeanspikeError(f"cannot read the recipe {path}: {error}") from None
    built_in = resources.files("leanspike.recipes") / f"{source}.yaml"
    if not built_in.is_file():
        check_one(path)
        raise LeanspikeError(
            f"no recipe {str(source)!r}; {_nearest(str(source), recipes())} "
            "(`leanspike recipes` lists them; a file of your own ends in .yaml)"
        )
    return str(source), built_in.read_text()


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        data = read_yaml(text)
    except ValueError as error:
        raise LeanspikeError(f"recipe {name} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise LeanspikeError(f"recipe {name} is not a mapping of keys to values")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise LeanspikeError(f"override {override!r}; write dotted.key=value, as in seed=1")
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
            place["options"] = {}  # those of the recipe are another network's
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
            f"0..{len(place) - 1}; say in which, as {right}={value}"
        )
    if int(part) >= len(place):
        raise LeanspikeError(f"override {key}: {part!r} is not one of 0..{len(place) - 1}")
    return int(part)


def _explain(error: ErrorDetails, data: dict[str, Any]) -> str:
    """One line for the first thing that is wrong."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}; {_nearest(path[-1], _siblings(path, data))}"
    if error["type"] == "missing":
        return f"key {key} is missing; give it a value"
    message = error["msg"].removeprefix("Value error, ")
    if not path:  # several keys do not go together: the message names them
        return message
    return f"{key} is {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _siblings(path: list[str], data: Any) -> Iterable[str]:
    """The keys that are valid where an unknown one was found."""
    section: type[BaseModel] = Recipe
    for part in path[:-1]:
        field = section.model_fields.get(part)
        if field is not None:
            section = _section(field.annotation) or section
        data = data.get(part) if isinstance(data, dict) else None
    return section.keys(data) if issubclass(section, ChosenSection) else section.model_fields


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as ``TrainSection | None`` or ``tuple[...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for arg in inner if (found := _section(arg)) is not None), None)


def _nearest(wrong: str, valid: Iterable[str]) -> str:
    options = list(valid)
    close = get_close_matches(wrong, options, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(options)}"
