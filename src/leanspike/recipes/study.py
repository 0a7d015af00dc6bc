"""A study: recipes that differ from one base by a few changes, each run with some seeds.

``study.yaml`` in a folder of its own describes them. Beside it is a file for each run, named
``VARIANT-SEED.json``, with what was measured (:mod:`leanspike.studies`).
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from leanspike.errors import LeanspikeError, one_line
from leanspike.section import Section

STUDY = "study.yaml"
BASE = "base"
"""The variant that has the name of its study."""
_NAME = re.compile(r"\w[\w.-]*")
_RUN = re.compile(r"(.+)-(\d+)")


def _seeds(value: Any) -> Any:
    """Convert a list of seeds to seeds without own changes, and JSON's text keys to numbers.

    >>> _seeds([0, 1]), _seeds({"0": ["ann=null"]})
    ({0: (), 1: ()}, {0: ('ann=null',)})
    """
    if isinstance(value, list):
        return dict.fromkeys(value, ())
    if not isinstance(value, dict):
        return value
    return {
        int(seed) if str(seed).isdecimal() else seed: tuple(own) if isinstance(own, list) else own
        for seed, own in value.items()
    }


def _is_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a variant's name; use letters, digits, '-', '_' and '.'")
    return name


Seeds = Annotated[
    dict[Annotated[int, Field(ge=0)], tuple[str, ...]], BeforeValidator(_seeds), Field(min_length=1)
]
VariantName = Annotated[str, AfterValidator(_is_name)]


class Variant(Section):
    """A variant of the base: overrides as on the command line, and the seeds of its runs.

    ``seeds`` maps a seed to further changes of that run alone. A list of seeds has no such changes.
    ``command`` repeats a run of this variant, if the study's command does not.

    >>> Variant(changes=("spike.norm=keep",), seeds=[0, 1]).seeds
    {0: (), 1: ()}
    """

    changes: tuple[str, ...] = ()
    seeds: Seeds
    command: str | None = None


class Study(Section):
    """The content of ``study.yaml``: a whole recipe, its variants, and how to repeat a run.

    In ``command``, ``{run}`` stands for the file of a run, ``{seed}`` for its seed, and ``{name}``
    for ``STUDY-VARIANT-SEED``. ``notes`` are for readers.

    >>> seeds = {0: (), 3: ("snn.0.epochs=2",)}
    >>> variants = {"base": Variant(seeds=[0]), "short": Variant(seeds=seeds)}
    >>> study = Study(title="", base={"seed": 0, "snn": [{"epochs": 9}]}, variants=variants)
    >>> study.runs, study.recipe("short-3")
    (['base-0', 'short-0', 'short-3'], {'seed': 3, 'snn': [{'epochs': 2}]})
    >>> study.recipe("long-0")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: the study has no run 'long-0'; it has base-0, short-0, short-3
    """

    title: str
    command: str = "leanspike train {run}"
    notes: str = ""
    variants: Annotated[dict[VariantName, Variant], Field(min_length=1)]
    base: dict[str, Any]

    @property
    def runs(self) -> list[str]:
        """The names of all runs, ``VARIANT-SEED``, in the order of the file."""
        return [f"{name}-{seed}" for name, found in self.variants.items() for seed in found.seeds]

    def find(self, run: str) -> tuple[str, int]:
        """Return the variant and the seed of a run.

        Raises:
            LeanspikeError: if the study has no run of that name.
        """
        parts = _RUN.fullmatch(run)
        if parts is None or run not in self.runs:
            raise LeanspikeError(f"the study has no run {run!r}; it has {', '.join(self.runs)}")
        return parts[1], int(parts[2])

    def recipe(self, run: str) -> dict[str, Any]:
        """Return the whole recipe of a run, as plain data.

        Raises:
            LeanspikeError: if there is no such run, or a change does not fit the base.
        """
        from leanspike.recipes import changed

        name, seed = self.find(run)
        variant = self.variants[name]
        changes = [*variant.changes, *variant.seeds[seed], f"seed={seed}"]
        return changed(deepcopy(self.base), changes, run)

    def repeats(self, run: str, folder: Path) -> str:
        """Return the command that repeats a run of the study in that folder.

        >>> variants = {"base": Variant(seeds=[4]), "keep": Variant(seeds=[4])}
        >>> study = Study(title="", base={}, variants=variants)
        >>> study.repeats("keep-4", Path("results/norms"))
        'leanspike train results/norms/keep-4.json'
        """
        name, seed = self.find(run)
        words = {
            "{run}": quote((folder / f"{run}.json").as_posix()),
            "{name}": quote(f"{called(folder, name)}-{seed}"),
            "{seed}": str(seed),
        }
        command = self.variants[name].command or self.command
        return re.sub("|".join(words), lambda found: words[found[0]], command)


def called(folder: Path, variant: str) -> str:
    """Return the full name of a variant, with that of the study in the folder.

    >>> [called(Path("results/norms"), variant) for variant in ("keep", "base")]
    ['norms-keep', 'norms']
    """
    name = folder.resolve().name
    return name if variant == BASE else f"{name}-{variant}"


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study.

    >>> is_study(Path("nowhere"))
    False
    """
    return (folder / STUDY).is_file()


def is_kept(path: Path) -> bool:
    """Return whether a path is that of a run's file in a study. The study may lack that run.

    >>> is_kept(Path("nowhere/base-0.json"))
    False
    """
    return path.suffix == ".json" and is_study(path.parent)


def kept_at(place: Path) -> list[Path]:
    """Return the files of the runs at a place: all of a study, one, or none.

    >>> kept_at(Path("nowhere"))
    []
    """
    folder = place.parent if place.name == STUDY else place
    if is_study(folder):
        return [folder / f"{run}.json" for run in read_study(folder).runs]
    return [place] if is_kept(place) else []


def check_one(place: Path) -> None:
    """Check that a place whose recipe is needed is not a whole study.

    Raises:
        LeanspikeError: if it is, with the name of a run.
    """
    try:
        runs = kept_at(place)
    except LeanspikeError:  # it is the name of a recipe
        return
    if runs:
        raise LeanspikeError(f"{place} is a study; name one of its runs, as {runs[0]}")


def read_study(folder: Path) -> Study:
    """Return the study in a folder.

    Raises:
        LeanspikeError: if there is none, or if its file is damaged, with the place in one line.

    >>> read_study(Path("nowhere"))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: no study at nowhere/study.yaml; write one with ...
    """
    from leanspike.recipes import read_yaml

    path = folder / STUDY
    if not path.is_file():
        raise LeanspikeError(
            f"no study at {path}; write one with `leanspike study keep RUN... --out {folder}`"
        )
    try:
        return Study.model_validate_json(json.dumps(read_yaml(path.read_text("utf-8"))))
    except (OSError, TypeError, ValueError) as error:  # ValidationError among them
        raise LeanspikeError(f"{path} is no study ({one_line(error)})") from None


def digest(recipe: dict[str, Any]) -> str:
    """Return a text that differs between recipes, whatever the order of their keys.

    >>> digest({"seed": 0, "name": "a"}) == digest({"name": "a", "seed": 0})
    True
    """
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def kept_recipe(path: Path) -> dict[str, Any]:
    """Return the recipe of a run in a study's file, as plain data.

    Args:
        path: ``VARIANT-SEED.json`` beside a ``study.yaml``.

    Raises:
        LeanspikeError: if there is no such run, or if the study's recipe is not the one that ran.
    """
    recipe = read_study(path.parent).recipe(path.stem)
    if digest(recipe) != _kept_digest(path):
        raise LeanspikeError(
            f"{path.parent / STUDY} no longer gives the recipe that {path.name} ran; undo the "
            "change of its base or of that variant"
        )
    return recipe


def _kept_digest(path: Path) -> str:
    try:
        data = json.loads(path.read_text("utf-8"))
        return str(data["recipe"])
    except FileNotFoundError:
        raise LeanspikeError(
            f"no run at {path}, though {path.parent / STUDY} names it; remove it there, or keep "
            "the run with `leanspike study keep`"
        ) from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LeanspikeError(f"{path} is no run of a study ({one_line(error)})") from None
