"""The reference of a recipe's keys: nothing missing, nothing that is not so."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from rich.console import Console

from leanspike import config
from leanspike.data import DATASETS, datasets
from leanspike.data.frames import FramesSection
from leanspike.errors import LeanspikeError
from leanspike.models import MODELS
from leanspike.neuron import SurrogateSection, neurons
from leanspike.recipes import dump, load_recipe, recipes
from leanspike.recipes.keys import KeySection, as_json, render_keys, sections
from leanspike.registry import Registry
from leanspike.section import Section
from leanspike.train import Lookahead, Resolution, objectives, optimizers, schedules
from leanspike.train.terms import ObjectiveSection

ROOT = Path(__file__).parents[2]
KEYS: dict[str, dict[str, Any]] = json.loads(as_json())
FREE = ("options", "encode_options", "norm_options", "pairs")
"""Mappings whose keys are not a recipe's."""


def written(value: Any, place: str = "") -> Iterator[str]:
    """The dotted keys of a recipe that is written out."""
    if isinstance(value, list):
        for item in value:
            yield from written(item, f"{place}.N")
    elif isinstance(value, dict) and place.rpartition(".")[2] not in FREE:
        for key, inner in value.items():
            name = f"{place}.{key}".removeprefix(".")
            yield name
            yield from written(inner, name)


@pytest.mark.parametrize("name", recipes())
def test_every_key_of_a_recipe_is_listed(name: str) -> None:
    assert set(written(yaml.safe_load(dump(load_recipe(name))))) <= set(KEYS)


def models() -> dict[str, type[Section]]:
    """The sections' models, and those of the neurons, by what their docstrings say."""
    found = (value for value in vars(config).values() if isinstance(value, type))
    bases = (Section, config.Section)
    classes = [c for c in found if issubclass(c, Section) and c not in bases]
    classes += [SurrogateSection, *map(neurons.config, neurons.registered)]
    classes += [
        FramesSection,
        Lookahead,
        Resolution,
        ObjectiveSection,
        *map(objectives.config, objectives.registered),
    ]
    classes += map(optimizers.config, optimizers.registered)
    classes += map(schedules.config, schedules.registered)
    return {" ".join(str(c.__doc__).replace("``", "`").split()): c for c in classes}


def fields_of(section: KeySection) -> dict[str, FieldInfo]:
    """The fields of a section's model; of a part that its name chooses, the name, too."""
    if section.places == ("data.options",):
        owner = section.meaning.rpartition("is ")[2].split("`")[1]
        return dict(datasets.config(owner).model_fields)
    model = models()[section.meaning]
    registries: tuple[Registry[Any], ...] = (neurons, optimizers, schedules)
    named = [n for each in registries for n in each.registered if each.config(n) is model]
    chosen = [("name", FieldInfo(annotation=str, default=name)) for name in named]
    return {**dict(chosen), **model.model_fields}


def test_every_section_is_listed_with_all_its_keys() -> None:
    assert len(models()) > 15
    own = [section for section in sections() if section.places == ("data.options",)]
    assert {section.meaning for section in sections() if section not in own} == set(models())
    owners = {name for section in own for name in section.meaning.split("`")[1::2]}
    assert owners == {name for name in DATASETS if datasets.config(name).model_fields}
    for section in sections():
        assert [key.name for key in section.keys] == list(fields_of(section))


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.places[0] or "top")
def test_the_defaults_that_are_told_are_those_taken(section: KeySection) -> None:
    for key in section.keys:
        field = fields_of(section)[key.name]
        assert (key.default == "") == field.is_required()
        if key.default:
            told = json.dumps(yaml.safe_load(key.default))
            assert TypeAdapter(field.annotation).validate_json(told) == field.get_default()


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.places[0] or "top")
def test_every_key_says_what_it_takes_and_means(section: KeySection) -> None:
    assert re.search(r"\w{3}.*\.$", section.meaning)
    for key in section.keys:
        assert key.type
        assert re.search(r"\w{3}.*\.$", key.meaning), key
        assert "``" not in key.meaning


def test_a_key_without_a_meaning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(config.Section):
        """A section."""

        key: int

    monkeypatch.setattr("leanspike.recipes.keys.Recipe", Bare)
    with pytest.raises(KeyError, match="description"):
        sections()


def out_of_range() -> Iterator[tuple[str, str]]:
    """For each number with bounds the nearest value, by its type in words, that is beyond them."""
    for name, key in KEYS.items():
        beyond = {
            r"≥ (\d+)": lambda least: least - 1,
            r"> (\d+)": lambda least: least,
            r"\[(\d+), ": lambda least: least - 1,
            r"\((\d+), ": lambda least: least,
            r"in .*, (\d+)\]": lambda most: most + 1,
            r"in .*, (\d+)\)": lambda most: most,
        }
        for pattern, value in beyond.items():
            if found := re.search(pattern, key["type"]):
                number = value(int(found[1]))
                many = re.match(r"list of (\d)", key["type"])
                listed = [number] * int(many[1]) if many else [number]
                yield name, str(listed if key["type"].startswith("list") else number)


RESOLUTIONS = [f"{stage}.resolution.size=4" for stage in ("ann", "snn.0")]
"""A size must be given beside the share of the epochs."""


@pytest.mark.parametrize(("name", "value"), list(out_of_range()))
def test_a_value_beyond_the_range_that_is_told_is_refused(name: str, value: str) -> None:
    key = name.replace("snn.N", "snn.0")
    needed = ["teacher={model: {weights: here}}", *RESOLUTIONS]
    changes = [*needed, f"{key}={value}"]
    if key.startswith("data.options."):  # which are refused as a whole
        key = key.removeprefix("data.options.")
        changes.insert(0, f"data.name={'nmnist' if 'frames' in key else 'image_folder'}")
    with pytest.raises(LeanspikeError, match=re.escape(key)):
        load_recipe("digits", changes)


def test_most_numbers_have_a_range() -> None:
    assert len(list(out_of_range())) > 50


def test_names_are_those_that_are_known() -> None:
    assert all(name in KEYS["data.name"]["meaning"] for name in DATASETS)
    assert all(name in KEYS["model.name"]["meaning"] for name in MODELS)


def test_the_page_is_that_of_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "docs")])
    from make_keys import PAGE, page

    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run: python docs/make_keys.py"
    assert text.count("\n| `") == sum(len(section.keys) for section in sections())


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_shows_every_key_and_cuts_nothing_off(width: int) -> None:
    out = StringIO()
    Console(file=out, width=width).print(render_keys())
    words = out.getvalue().split()
    for section in sections():
        assert {key.name for key in section.keys} <= set(words)
        last = section.keys[-1].meaning.replace("`", "").split()[-1]
        assert last in words
