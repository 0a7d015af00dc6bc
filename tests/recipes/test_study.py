"""What a ``study.yaml`` may say, and what is refused by its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanspike.errors import LeanspikeError
from leanspike.recipes.study import Study, Variant, digest, read_study

GOOD = "{title: a, base: {seed: 0, ann: {epochs: 1}}, variants: {few: {seeds: [0, 3]}}}"


def read(folder: Path, text: str) -> Study:
    (folder / "study.yaml").write_text(text, "utf-8")
    return read_study(folder)


def test_seeds_are_a_list_or_say_what_is_theirs(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).runs == ["few-0", "few-3"]
    study = read(tmp_path, GOOD.replace("[0, 3]", "{0: [], 3: [ann.epochs=2]}"))
    assert study.runs == ["few-0", "few-3"]
    assert study.recipe("few-3") == {"seed": 3, "ann": {"epochs": 2}}
    assert study.recipe("few-0") == study.base


def test_a_recipe_does_not_change_the_base() -> None:
    base = {"seed": 0, "ann": {"epochs": 1}}
    variants = {"few": Variant(changes=("ann.epochs=2",), seeds={0: ()})}
    study = Study(title="", base=base, variants=variants)
    assert study.recipe("few-0")["ann"] == {"epochs": 2}
    assert base == {"seed": 0, "ann": {"epochs": 1}}


def test_a_change_that_fits_nothing_is_told_by_the_run(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD.replace("[0, 3]", "{0: [seed.x=1]}"))
    with pytest.raises(LeanspikeError, match=r"seed.x: 'x' is inside a plain value"):
        study.recipe("few-0")


@pytest.mark.parametrize("run", ["few-1", "few", "few-", "-0", "many-0", "few-00", "few-0.json"])
def test_a_run_that_is_not_there(tmp_path: Path, run: str) -> None:
    with pytest.raises(LeanspikeError, match=rf"no run '{run}'; it has few-0, few-3$"):
        read(tmp_path, GOOD).recipe(run)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: a, ", "", r"title: Field required"),
        ("few", "'a b'", r"'a b' is not a variant's name; use letters, digits, '-', '_' and '.'"),
        ("[0, 3]", "[]", r"variants.few.seeds: "),
        ("[0, 3]", "[0, -3]", r"variants.few.seeds.-3.*greater than or equal to 0"),
        ("[0, 3]", "[0, x]", r"variants.few.seeds.x"),
        ("[0, 3]", "[[0]]", r"unhashable"),
        ("[0, 3]", "3", r"variants.few.seeds: "),
        ("{few: {seeds: [0, 3]}}", "{}", r"variants: "),
        ("seeds: [0, 3]", "seeds: [0], change: []", r"variants.few.change: Extra inputs"),
        ("{title", "{{title", r"study.yaml is no study \("),
    ],
)
def test_a_mistake_is_one_line_and_says_where(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(LeanspikeError, match=message) as told:
        read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(told.value)


def test_a_command_can_be_pasted() -> None:
    study = Study(
        title="", command="a {run} {name} {seed} {x}", base={}, variants={"b": Variant(seeds=[4])}
    )
    assert (
        study.repeats("b-4", Path("my results")) == "a 'my results/b-4.json' 'my results-b-4' 4 {x}"
    )


def test_a_digest_tells_recipes_apart() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
