"""Recipes that extend others: what is inherited, what is refused, and that none changes unseen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe, recipes
from leanspike.recipes.extending import EXTENDS, merged
from leanspike.recipes.sources import read_yaml, shipped

DIGESTS = Path(__file__).with_name("digests.json")
"""What each recipe says, as a digest; this file, run as a program, writes them."""


def digest(name: str) -> str:
    """Of all that a recipe says, and that is not so in every recipe."""
    said = load_recipe(name).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_changes_only_on_purpose(name: str) -> None:
    """A change of one that others extend is seen in all of them."""
    assert digest(name) == json.loads(DIGESTS.read_text())[name]


def test_all_digests_are_of_recipes() -> None:
    assert sorted(json.loads(DIGESTS.read_text())) == sorted(recipes())


def test_a_digest_sees_a_change_of_the_base(tmp_path: Path) -> None:
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    child.write_text("{name: child, extends: base.yaml}")
    seen = set()
    for rate in ("0.1", "0.2"):
        base.write_text(f"{{name: base, extends: digits, ann: {{learning_rate: {rate}}}}}")
        seen.add(digest(str(child)))
    assert len(seen) == 2


def test_the_papers_families_have_one_base_each() -> None:
    """Of each family one recipe stands by itself, but for those made small for a CPU."""
    alone = {name for name, source in shipped().items() if EXTENDS not in source.data}
    families = {"bntt": {"bntt_mnist", "bntt_cifar10_vgg9"}, "diet": {"diet_cifar10_vgg9"}}
    for family, bases in families.items():
        assert {name for name in alone if name.startswith(family)} == bases
    kdsnn = {"kdsnn_cifar10_resnet18_feature", "kdsnn_cifar10_teacher"}
    assert {name for name in alone if name.startswith("kdsnn")} == kdsnn


@pytest.mark.parametrize(
    ("base", "changes", "found"),
    [
        ("{a: 1, b: {c: 2, d: 3}}", "{b: {c: 4}}", "{a: 1, b: {c: 4, d: 3}}"),
        ("{b: {c: 2}}", "{b: null}", "{b: null}"),
        ("{b: null}", "{b: {c: 2}}", "{b: {c: 2}}"),
        ("{snn: [{e: 1}, {e: 2}]}", "{snn: [{e: 3}]}", "{snn: [{e: 3}]}"),
        ("{snn: [{e: 1}, {e: 2, f: 3}]}", "{snn: {1: {e: 4}}}", "{snn: [{e: 1}, {e: 4, f: 3}]}"),
        ("{scale: [1, 2]}", "{scale: {0: 3}}", "{scale: [3, 2]}"),
        ("{scale: [1, 2]}", "{scale: {'0': 3}}", "{scale: [3, 2]}"),
        (
            "{s: {objective: [cross_entropy, {response: {weight: 2}}]}}",
            "{s: {objective: {response: {temperature: 3}}}}",
            "{s: {objective: {cross_entropy: {}, response: {weight: 2, temperature: 3}}}}",
        ),
        (
            "{model: {name: vgg, options: {width: 2}, weights: w}}",
            "{model: {name: vgg, options: {depth: 3}}}",
            "{model: {name: vgg, options: {width: 2, depth: 3}, weights: w}}",
        ),
        (
            "{teacher: {model: {name: vgg, options: {width: 2}}, mean: [0]}}",
            "{teacher: {model: {name: mlp}}}",
            "{teacher: {model: {name: mlp}, mean: [0]}}",
        ),
        (
            "{spike: {neuron: {leak: 0.5, surrogate: {name: arctan, options: {alpha: 1}}}}}",
            "{spike: {neuron: {surrogate: {name: triangle}}}}",
            "{spike: {neuron: {leak: 0.5, surrogate: {name: triangle}}}}",
        ),
        ("{spike: {neuron: {leak: 0.5}}}", "{spike: {neuron: {name: cuba_lif}}}", None),
        (
            "{spike: {encode: poisson, encode_options: {gain: 2}, norm: keep}}",
            "{spike: {encode: direct}}",
            "{spike: {encode: direct, norm: keep}}",
        ),
        (
            "{spike: {norm: bntt, norm_options: {eps: 2}, timesteps: 3}}",
            "{spike: {norm: tdbn}}",
            "{spike: {norm: tdbn, timesteps: 3}}",
        ),
        ("{data: {name: a, augment: {flip: true}}}", "{data: {name: b}}", None),
        (
            "{data: {name: a, root: r, options: {image_size: 2}}}",
            "{data: {name: c}}",
            "{data: {name: c, root: r}}",
        ),
        (
            "{ann: {optimizer: {name: sgd, momentum: 0.5}, schedule: step}}",
            "{ann: {optimizer: adam, schedule: {milestones: [3]}}}",
            "{ann: {optimizer: {name: adam}, schedule: {name: step, milestones: [3]}}}",
        ),
        (
            "{ann: {optimizer: {momentum: 0.5}}}",
            "{ann: {optimizer: sgd}}",
            "{ann: {optimizer: {momentum: 0.5, name: sgd}}}",
        ),
    ],
)
def test_what_differs_is_merged(base: str, changes: str, found: str | None) -> None:
    wanted: dict[str, Any] = {
        "{spike: {neuron: {name: cuba_lif}}}": {"spike": {"neuron": {"name": "cuba_lif"}}},
        "{data: {name: b}}": {"data": {"name": "b", "augment": {"flip": True}}},
    }
    before, change = read_yaml(base), read_yaml(changes)
    assert merged(before, change) == (wanted[changes] if found is None else read_yaml(found))
    assert (before, change) == (read_yaml(base), read_yaml(changes))  # neither is changed itself


def test_a_file_extends_a_recipe_by_way_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "base.yaml").write_text(
        "{name: base, description: a base, extends: digits, ann: {epochs: 2}, seed: 4}"
    )
    child = tmp_path / "inner" / "child.yaml"
    child.write_text("{name: child, extends: ../base.yaml, snn: {0: {epochs: 3}}}")
    recipe, digits = load_recipe(child, ["snn.0.optimizer.momentum=0.5"]), load_recipe("digits")
    assert recipe.ann is not None
    assert digits.ann is not None
    assert (recipe.name, recipe.description, recipe.seed) == ("child", "", 4)
    assert (recipe.ann.epochs, recipe.ann.learning_rate) == (2, digits.ann.learning_rate)
    assert (recipe.snn[0].epochs, recipe.snn[0].optimizer.options["momentum"]) == (3, 0.5)
    assert recipe.model == digits.model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{name: a, extends: digit}",
            r"a\.yaml extends 'digit': .*did you mean 'digits'\?",
        ),
        (
            "{name: a, extends: b.yaml}",
            r"a\.yaml extends 'b\.yaml': cannot read the .*b\.yaml",
        ),
        (
            "{name: a, extends: ../digits}",
            r"extends '\.\./digits': no recipe",
        ),
        (
            "{name: a, extends: [digits, mnist]}",
            r"extends is \['digits', 'mnist'\]; give",
        ),
        (
            "{name: a, extends: a.yaml}",
            r"a\.yaml extends .*a\.yaml, which has no end;",
        ),
        ("{extends: digits}", r"key name is missing; give it a value"),
        ("{name: a, extend: digits}", r"unknown key extend; did you mean 'extends'\?"),
        ("{name: a, extends: digits, sed: 1}", r"unknown key sed; did you mean 'seed'\?"),
        (
            "{name: a, extends: digits, snn: {epochs: 1}}",
            r"snn is a list, but 'epochs' is not the number of an entry; write snn: \{0: \{epochs:",
        ),
        (
            "{name: a, extends: digits, snn: {1: {epochs: 1}}}",
            r"snn has no entry 1, it has 0..0; g",
        ),
    ],
)
def test_a_mistake_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(LeanspikeError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_a_circle_is_told_by_its_files(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.yaml").write_text(f"{{name: {name}, extends: {other}.yaml}}")
    with pytest.raises(LeanspikeError, match=r"a\.yaml extends .*b\.yaml extends .*c\.yaml"):
        load_recipe(tmp_path / "a.yaml")


def test_the_advice_on_a_list_works(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("{name: a, extends: digits, snn: {0: {epochs: 1}}}")
    assert load_recipe(path).snn[0].epochs == 1


def test_an_override_extends_nothing() -> None:
    with pytest.raises(LeanspikeError, match="only a file can extend a recipe; give mnist as the"):
        load_recipe("digits", ["extends=mnist"])


def test_what_is_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    deep = "{a: " * 999 + "1" + "}" * 999
    (tmp_path / "base.yaml").write_text(f"name: base\nmodel: {deep}")
    (tmp_path / "a.yaml").write_text(f"name: a\nextends: base.yaml\nmodel: {deep}")
    with pytest.raises(LeanspikeError, match="nested too deeply"):
        load_recipe(tmp_path / "a.yaml")


if __name__ == "__main__":
    DIGESTS.write_text(json.dumps({name: digest(name) for name in recipes()}, indent=1) + "\n")
