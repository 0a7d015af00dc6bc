"""Recipes in YAML: those that come with leanspike, one file each, and reading them.

A recipe may extend another one (:mod:`leanspike.recipes.extending`), and dotted overrides change
single keys. Every mistake is one line with the key and the nearest valid key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from leanspike.config import Recipe
from leanspike.errors import LeanspikeError
from leanspike.models.own import is_own
from leanspike.recipes.extending import EXTENDS, extended
from leanspike.recipes.overrides import apply_overrides, apply_typed
from leanspike.recipes.renamed_keys import take_old_keys
from leanspike.recipes.sources import find_source, nearest, shipped
from leanspike.recipes.sources import read_yaml as read_yaml
from leanspike.registry import ChosenSection
from leanspike.saved import SPEC, ModelSpec, read_model
from leanspike.train import objectives
from leanspike.train.terms import Terms


def recipes() -> dict[str, str]:
    """Return the recipes that come with leanspike, as names to descriptions, sorted.

    >>> "digits" in recipes()
    True
    """
    return {name: str(at.data.get("description", "")) for name, at in shipped().items()}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe, by its name in leanspike or from a YAML file, with overrides.

    Args:
        source: a name that ``leanspike recipes`` lists, the path of a file, or a run that is kept
            in a study (``results/norms/bntt-0.json``).
        overrides: each ``dotted.key=value`` with a YAML value. List items have numbers as keys.

    Raises:
        LeanspikeError: one line with the key, the value, what was expected, and the nearest name.

    >>> recipe = load_recipe("digits", ["snn.0.epochs=1", "seed=7"])
    >>> recipe.seed, recipe.snn[0].epochs
    (7, 1)
    >>> load_recipe("digits", ["snn.0.epoch=1"])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: recipe digits: unknown key snn.0.epoch; did you mean 'epochs'?
    """
    written = find_source(source)
    data = extended(written)
    try:
        apply_typed(data, overrides)
    except ValueError as error:
        raise LeanspikeError(f"recipe {written.name}: {error}") from None
    if isinstance(data.get("model"), dict):
        _take_name(data["model"])
    return validate(data, written.name)


def changed(data: dict[str, Any], overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Change a recipe in plain data in place, by overrides word for word, without a check.

    Args:
        name: the recipe's name in messages.

    >>> changed({"snn": [{"epochs": 2}]}, ["snn.0.epochs=1", "seed=7"], "mine")
    {'snn': [{'epochs': 1}], 'seed': 7}
    """
    try:
        apply_overrides(data, overrides)
    except ValueError as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None
    return data


def check_named(folder: Path) -> ModelSpec:
    """Return the model of a saved network, if it is one of leanspike's.

    Raises:
        LeanspikeError: for a user's own network, which the recipe itself must name.

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
            f"{folder} holds a network of the user's own, but does not name it; give "
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
    """Give a model without a name that of the network in the folder of its weights."""
    folder = Path(str(model.get("weights"))).expanduser()
    if model.get("name") is None and (folder / SPEC).is_file():
        saved = check_named(folder)
        model["name"] = saved.name
        model["options"] = {**saved.options, **(model.get("options") or {})}


def validate(data: dict[str, Any], name: str) -> Recipe:
    """Return plain data as a recipe, or raise LeanspikeError with one line on the mistake.

    >>> validate({"nme": "mine"}, "mine")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: ...nme...
    """
    take_old_keys(data, said=False)
    try:
        return Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise LeanspikeError(f"recipe {name}: {_explain(_first(error), data)}") from None
    except (TypeError, ValueError) as error:
        raise LeanspikeError(f"recipe {name}: {error}") from None
    except RecursionError:
        raise LeanspikeError(f"recipe {name}: it is nested too deeply") from None


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML with every key, which :func:`load_recipe` reads back equal.

    >>> dump(load_recipe("digits")).splitlines()[0]
    'name: digits'
    """
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _first(error: ValidationError) -> ErrorDetails:
    """Return the first error, unknown keys before missing ones: it may be that key, misspelt."""
    errors = error.errors()
    return next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])


def _explain(error: ErrorDetails, data: dict[str, Any]) -> str:
    """Return one line on the first mistake."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}; {_instead(path, data)}"
    if error["type"] == "missing":
        return f"key {key} is missing; give it a value"
    message = error["msg"].removeprefix("Value error, ")
    if not path:  # several keys do not go together: the message names them
        return message
    return f"{key} is {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _instead(path: list[str], data: Any) -> str:
    """Return what is valid where an unknown key was found: the options, if a part is named."""
    if len(path) == 1:
        return nearest(path[-1], [*Recipe.model_fields, EXTENDS])
    section, found = _found(path, data)
    if issubclass(section, Terms):
        return nearest(path[-1], objectives.names())
    if not issubclass(section, ChosenSection):
        return nearest(path[-1], section.model_fields)
    name, *options = section.keys(found)
    if get_close_matches(path[-1], [name, *options], n=1, cutoff=0.5):
        return nearest(path[-1], [name, *options])
    part = section.named(found)
    return f"{part} has {', '.join(options)}" if options else f"{part} has no options"


def _found(path: list[str], data: Any) -> tuple[type[BaseModel], Any]:
    """Return the section where a key was found, and its value."""
    section: type[BaseModel] = Recipe
    for part in path[:-1]:
        if issubclass(section, Terms):
            section = objectives.config(part)
        field = section.model_fields.get(part)
        if field is not None:
            section = _section(field.annotation) or section
        if isinstance(data, list) and part.isdigit():
            data = data[int(part)]
        else:
            data = data.get(part) if isinstance(data, dict) else None
    return section, data


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section in an annotation such as ``TrainSection | None`` or ``tuple[...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for arg in inner if (found := _section(arg)) is not None), None)
