"""Recipes that extend others: ``extends: NAME``, and below it the differences.

A recipe names one other recipe. It inherits all keys that it does not set itself, except ``name``
and ``description``. The other recipe comes with leanspike, or is a file. The path of a file is
relative to the file that names it. Differences are merged:

- A mapping changes its own keys, and leaves the others, at any depth. ``null`` is a value like any
  other. ``ann: null`` is no training of the ANN, and ``feature: null`` leaves that term out.
- A list replaces a list. A mapping whose keys are numbers changes entries of the list, as overrides
  on the command line do. ``snn: {0: {epochs: 3}}`` is ``snn.0.epochs=3``.
- A part that is named anew brings its own options. If `model`, `teacher.model`, `spike.neuron`, a
  surrogate, or a stage's `optimizer` or `schedule` has another ``name``, nothing of the old one is
  inherited. Another ``encode`` or ``norm`` comes without the old one's options. So does another
  data set, which keeps the old one's augmentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leanspike.errors import LeanspikeError
from leanspike.recipes.parts import CHOICES, CHOSEN, as_section, is_anew, options_of
from leanspike.recipes.renamed_keys import take_old_keys
from leanspike.recipes.sources import SUFFIXES, Source, file_source, named_source
from leanspike.train.terms import terms_by_name

EXTENDS = "extends"
OWN = ("name", "description")
"""What says which recipe it is, and is not inherited."""
WHOLE = ("model", "surrogate", *CHOSEN)
"""Sections of which nothing is inherited where their ``name`` is another."""


def extended(source: Source) -> dict[str, Any]:
    """Return the plain data of a recipe, with all that it inherits.

    Raises:
        LeanspikeError: for a recipe that does not exist or extends itself, or for a change that
            does not fit the inherited recipe.

    >>> from leanspike.recipes.sources import find_source
    >>> extended(Source("mine", "{extends: digits, name: mine, seed: 3}", None))["spike"]
    {'timesteps': 5, 'neuron': ...}
    """
    return _extended(source, ())


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with changes, both as plain data, without changing them.

    Raises:
        ValueError: for a change of a list that does not fit.

    >>> merged({"snn": [{"epochs": 1}, {"epochs": 2}]}, {"snn": {1: {"epochs": 3}}})
    {'snn': [{'epochs': 1}, {'epochs': 3}]}
    >>> merged({"model": {"name": "vgg", "options": {"width": 2}}}, {"model": {"name": "mlp"}})
    {'model': {'name': 'mlp'}}
    """
    found: dict[str, Any] = _merged(base, changes, "")
    return found


def _extended(source: Source, chain: tuple[Source, ...]) -> dict[str, Any]:
    if any(_same(source, other) for other in chain):
        way = " extends ".join(other.name for other in (*chain, source))
        raise LeanspikeError(f"recipe {way}, which has no end; take one extends: out")
    data = source.data
    take_old_keys(data)
    if EXTENDS not in data:
        return data
    base = _extended(_base(source, data.pop(EXTENDS)), (*chain, source))
    inherited = {key: value for key, value in base.items() if key not in OWN}
    own = {key: data[key] for key in OWN if key in data}
    try:
        return {**own, **merged(inherited, data)}
    except ValueError as error:
        raise LeanspikeError(f"recipe {source.name}: {error}") from None
    except RecursionError:
        raise LeanspikeError(f"recipe {source.name}: it is nested too deeply") from None


def _base(source: Source, named: Any) -> Source:
    """Return the recipe that another one extends."""
    if not isinstance(named, str) or not named:
        raise LeanspikeError(
            f"recipe {source.name}: extends is {named!r}; give the name of one recipe, as digits, "
            "or the path of one file, as base.yaml"
        )
    try:
        if not named.endswith(SUFFIXES):
            return named_source(named)
        folder = Path() if source.path is None else source.path.parent
        return file_source(folder / Path(named).expanduser())
    except LeanspikeError as error:
        raise LeanspikeError(f"recipe {source.name} extends {named!r}: {error}") from None


def _same(one: Source, other: Source) -> bool:
    if one.path is None or other.path is None:
        return one.path is other.path and one.name == other.name
    return one.path.resolve() == other.path.resolve()


def _merged(base: Any, change: Any, place: str) -> Any:
    key = place.rpartition(".")[2]
    if key == "objective" and isinstance(base, list):
        base = terms_by_name(base)
    base, change = as_section(key, base), as_section(key, change)
    if not isinstance(change, dict):
        return change
    if isinstance(base, list):
        return _entries(base, change, place)
    if not isinstance(base, dict):
        return change
    found = dict(_kept(base, change, key))
    for name, value in change.items():
        found[name] = _merged(found.get(name), value, f"{place}.{name}".removeprefix("."))
    return found


def _kept(base: dict[str, Any], change: dict[str, Any], key: str) -> dict[str, Any]:
    """Return what of a section is inherited: nothing of another part, no options of one."""
    choices = [choice for choice in ("name", *CHOICES.get(key, ())) if choice in change]
    anew = [choice for choice in choices if is_anew(base, key, choice, change[choice])]
    if "name" in anew and key in WHOLE:
        return {}
    gone = [option for choice in anew for option in options_of(base, key, choice)]
    return {name: value for name, value in base.items() if name not in gone}


def _entries(base: list[Any], change: dict[Any, Any], place: str) -> list[Any]:
    """Return a list with changes of its entries by number."""
    found = list(base)
    for number, value in change.items():
        if not str(number).isdigit():
            raise ValueError(
                f"{place} is a list, but {number!r} is not the number of an entry; write "
                f"{place.rpartition('.')[2]}: {{0: {{{number}: ...}}}}, or the whole list"
            )
        if int(number) >= len(base):
            have = f"it has 0..{len(base) - 1}" if base else "it is empty"
            raise ValueError(f"{place} has no entry {number}, {have}; give the whole list")
        found[int(number)] = _merged(base[int(number)], value, f"{place}.{number}")
    return found
