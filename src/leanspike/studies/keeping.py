"""Writing a study of finished runs, in which common parts of recipes stand once."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from leanspike.errors import LeanspikeError, one_line
from leanspike.evaluation import load_result, load_robustness
from leanspike.files import checked_json, write_text
from leanspike.recipes import load_recipe, validate
from leanspike.recipes.study import (
    BASE,
    STUDY,
    Study,
    Variant,
    called,
    digest,
    is_study,
    kept_at,
    read_study,
)
from leanspike.run import CALIBRATION, LOG, RESULT, ROBUSTNESS, read_recipe
from leanspike.studies.changes import changes, says
from leanspike.studies.kept import KeptRun, read_kept, write_kept
from leanspike.train import read_log

CONVERT = "leanspike convert {run}"


@dataclass(frozen=True)
class _Source:
    """A run to keep: its place, name, seed, whole recipe and other files."""

    place: Path
    name: str
    seed: int
    recipe: dict[str, Any]
    files: KeptRun


def keep(places: Sequence[Path], out: str | Path, title: str | None = None) -> Study:
    """Write a study of finished runs: ``study.yaml``, and one compact file for each run.

    A variant has the name of the run's folder, without the study's name before it and the seed
    behind it. The base is the recipe of the run with the study's name, else of the first run.
    Weights, checkpoints and pictures are left out.

    Args:
        places: folders of runs, studies, or files of studies.
        out: the study's folder. Title, notes and commands of an existing study are kept.
        title: what the study is about.

    Raises:
        LeanspikeError: if two runs have the same variant and seed, or if ``out`` is not a study, or
            a study with a run that is not among these.
    """
    out = Path(out)
    if not is_study(out) and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise LeanspikeError(f"{out} is not empty, but not a study; choose another --out")
    sources = [source for place in places for source in _sources(place)]
    variants: dict[str, dict[int, _Source]] = defaultdict(dict)
    for source in sources:
        name = _variant(source, out)
        other = variants[name].get(source.seed)
        if other is not None:
            raise LeanspikeError(
                f"{other.place} and {source.place} are both {name}-{source.seed}; rename one folder"
            )
        variants[name][source.seed] = source
    base = next(iter(variants.get(BASE, next(iter(variants.values()))).values())).recipe
    study = _study(variants, base, title or out.resolve().name)
    if is_study(out):
        study = _with_words_of(read_study(out), study, out, title)
    _write(study, variants, out)
    return study


def _sources(place: Path) -> list[_Source]:
    return [_kept_source(path) for path in kept_at(place)] or [_folder_source(place)]


def _kept_source(path: Path) -> _Source:
    variant, seed = read_study(path.parent).find(path.stem)
    recipe = load_recipe(path).model_dump(mode="json")  # with keys of later versions
    return _Source(path, called(path.parent, variant), seed, recipe, read_kept(path))


def _folder_source(folder: Path) -> _Source:
    found = read_recipe(folder)
    load_result(folder / RESULT)  # its error names what is wrong
    if (folder / ROBUSTNESS).is_file():
        load_robustness(folder / ROBUSTNESS)
    files = KeptRun(
        recipe="",
        result=_json(folder / RESULT) or {},
        log=read_log(folder / LOG),
        calibration=_json(folder / CALIBRATION),
        robustness=_json(folder / ROBUSTNESS),
    )
    name = folder.resolve().name.removesuffix(f"-{found.seed}")
    return _Source(folder, name, found.seed, found.model_dump(mode="json"), files)


def _json(path: Path) -> dict[str, Any] | None:
    """Return the content of a run's file, or None if there is none."""
    if not path.is_file():
        return None
    try:
        return dict(json.loads(checked_json(path.read_text("utf-8"))))
    except (TypeError, ValueError) as error:
        raise LeanspikeError(f"{path} is damaged ({one_line(error)}); remove it") from None


def _variant(source: _Source, out: Path) -> str:
    """Return a run's name in the study of that folder."""
    study = out.resolve().name
    name = BASE if source.name == study else source.name.removeprefix(f"{study}-")
    return re.sub(r"[^\w.-]+", "-", name).lstrip("-.") or BASE


def _study(
    variants: Mapping[str, Mapping[int, _Source]], base: dict[str, Any], title: str
) -> Study:
    found = {name: _as_variant(runs, base) for name, runs in variants.items()}
    study = Study(title=title, variants=found, base=base)
    for name, runs in variants.items():
        for seed, source in runs.items():
            assert study.recipe(f"{name}-{seed}") == source.recipe, source.place
    return study


def _as_variant(runs: Mapping[int, _Source], base: dict[str, Any]) -> Variant:
    """Return a variant: the changes that all seeds share, and those of each seed."""
    by_seed = {
        seed: list(changes({**base, "seed": seed}, source.recipe)) for seed, source in runs.items()
    }
    first, *others = by_seed.values()
    shared = [change for change in first if all(change in other for other in others)]
    own = {seed: tuple(c for c in all_ if c not in shared) for seed, all_ in by_seed.items()}
    trained = any(source.recipe.get("snn") for source in runs.values())
    return Variant(changes=tuple(shared), seeds=own, command=None if trained else CONVERT)


def _with_words_of(old: Study, new: Study, out: Path, title: str | None) -> Study:
    """Return the new study with the title, notes and commands of the study it replaces."""
    missing = [run for run in old.runs if run not in new.runs]
    if missing:
        raise LeanspikeError(
            f"{out} also keeps {missing[0]}; name {out} among the runs to keep it, or give "
            "another --out"
        )
    variants = {
        name: variant.model_copy(update={"command": old.variants[name].command})
        if name in old.variants
        else variant
        for name, variant in new.variants.items()
    }
    words = {"title": title or old.title, "command": old.command, "notes": old.notes}
    return new.model_copy(update={**words, "variants": variants})


def _write(study: Study, variants: Mapping[str, Mapping[int, _Source]], out: Path) -> None:
    for name, runs in variants.items():
        for seed, source in runs.items():
            write_kept(out / f"{name}-{seed}.json", _without(source), source.recipe)
    write_text(out / STUDY, dump_study(study))


def _without(source: _Source) -> KeptRun:
    """Return the files of a run without pictures, and without the recipe if it is the run's."""
    result, robustness = dict(source.files.result), source.files.robustness
    result["example"] = None
    if result.get("mistakes"):
        first = [{**mistake, "picture": None} for mistake in result["mistakes"]["first"]]
        result["mistakes"] = {**result["mistakes"], "first": first}
    result["provenance"] = _provenance(result["provenance"], source.recipe)
    if robustness is not None:
        provenance = _provenance(robustness["provenance"], source.recipe)
        robustness = {**robustness, "sample": None, "provenance": provenance}
    return source.files.model_copy(update={"result": result, "robustness": robustness})


def _provenance(provenance: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    try:
        whole = validate(json.loads(json.dumps(provenance["recipe"])), "").model_dump(mode="json")
    except LeanspikeError:  # the recipe of another version
        return provenance
    if digest(whole) != digest(recipe):
        return provenance
    return {key: value for key, value in provenance.items() if key != "recipe"}


def dump_study(study: Study) -> str:
    """Return a study as readable YAML.

    >>> print(dump_study(Study(title="Norms", variants={"base": Variant(seeds=[0])}, base={})))
    title: Norms
    command: leanspike train {run}
    variants:
      base:
        seeds: [0]
    base: {}
    """
    data: dict[str, Any] = {"title": study.title, "command": study.command}
    if study.notes:
        data["notes"] = study.notes
    data["variants"] = {name: _plain(variant) for name, variant in study.variants.items()}
    data["base"] = study.base
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _plain(variant: Variant) -> dict[str, Any]:
    found: dict[str, Any] = {"changes": _Lines(variant.changes)} if variant.changes else {}
    own = {seed: _Lines(changes) for seed, changes in variant.seeds.items()}
    found["seeds"] = own if any(own.values()) else list(own)
    if variant.command is not None:
        found["command"] = variant.command
    return found


class _Lines(list[str]):
    """A list with a line for each entry."""


class _Dumper(yaml.SafeDumper):
    """Lists of plain values in one line, text of several lines as a block."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Return True, so that repeated values are written out."""
        return True


def _list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    flow = not isinstance(data, _Lines) and not any(isinstance(row, dict | list) for row in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow or not data)


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None if says(text, text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(_Lines, _list)
_Dumper.add_representer(str, _text)
