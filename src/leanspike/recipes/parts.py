"""Which keys of a recipe name a part, and where that part's options stand.

A part that is named anew brings its own options: those of the old one go. That is so where a recipe
extends another one, and where an override of the command line names the part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanspike.config import SpikeSection
from leanspike.neuron import NeuronSection
from leanspike.train import OptimizerSection, ScheduleSection

CHOSEN = ("neuron", "optimizer", "schedule")
"""Sections that hold the options beside the ``name``; the name alone is such a section, too."""
NAMED = ("model", "surrogate", "data")
"""Sections that hold the options of what ``name`` says as ``options``."""
CHOICES = {"spike": {"encode": "encode_options", "norm": "norm_options"}}
"""Keys of a section that choose a part, and where its options stand."""

USUAL: dict[tuple[str, str], Any] = {
    ("neuron", "name"): NeuronSection.model_fields["name"].default,
    ("optimizer", "name"): OptimizerSection.model_fields["name"].default,
    ("schedule", "name"): ScheduleSection.model_fields["name"].default,
    ("spike", "encode"): SpikeSection.model_fields["encode"].default,
    ("spike", "norm"): SpikeSection.model_fields["norm"].default,
}
"""The part where a section names none."""


def as_section(key: str, value: Any) -> Any:
    """Return the section that the bare name of a part stands for.

    >>> as_section("optimizer", "adam"), as_section("norm", "keep")
    ({'name': 'adam'}, 'keep')
    """
    return {"name": value} if key in CHOSEN and isinstance(value, str) else value


def is_anew(section: Mapping[str, Any], key: str, choice: str, value: Any) -> bool:
    """Return whether a value names another part than the section did.

    >>> is_anew({"momentum": 0.5}, "optimizer", "name", "sgd"), is_anew({}, "model", "name", "vgg")
    (False, True)
    """
    return bool(section.get(choice, USUAL.get((key, choice))) != value)


def options_of(section: Mapping[str, Any], key: str, choice: str) -> list[str]:
    """Return the keys of a section that hold the options of the part in ``choice``.

    >>> options_of({"norm": "bntt", "norm_options": {"eps": 0.1}}, "spike", "norm")
    ['norm_options']
    >>> options_of({"name": "sgd", "momentum": 0.5}, "optimizer", "name")
    ['momentum']
    >>> options_of({"epochs": 3}, "ann", "epochs")
    []
    """
    if key in CHOSEN and choice == "name":
        return [name for name in section if name != "name"]
    found = "options" if key in NAMED and choice == "name" else CHOICES.get(key, {}).get(choice)
    return [found] if found is not None and found in section else []
