"""Recipes: what is read, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanspike.config import dump, load_recipe, recipes
from leanspike.errors import LeanspikeError


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "copy.yaml"
    path.write_text(dump(recipe))
    assert load_recipe(path) == recipe
    assert recipe.name == name
    assert recipe.description


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("snn.0.epoch=1", r"unknown key snn\.0\.epoch; did you mean 'epochs'\?"),
        ("sed=1", r"unknown key sed; did you mean 'seed'\?"),
        ("spike.neuron.leek=1", r"unknown key spike\.neuron\.leek; did you mean 'leak'\?"),
        ("ann.zzz=1", r"unknown key ann\.zzz; valid are epochs, timesteps, batch_size"),
        ("seed=one", r"seed is 'one': input should be a valid integer"),
        ("seed=1.5", r"seed is 1\.5: input should be a valid integer"),
        ("seed=-1", r"seed is -1: input should be greater than or equal to 0"),
        ("spike.timesteps=true", r"spike\.timesteps is True: input should be a valid integer"),
        ("spike.neuron.reset=none", r"spike\.neuron\.reset is 'none': input should be 'soft' or"),
        ("ann.learning_rate=0", r"ann\.learning_rate is 0: input should be greater than 0"),
        ("spike.neuron.leak=1.5", r"spike\.neuron\.leak is 1\.5: .*less than or equal to 1"),
        ("snn.3.epochs=1", r"override snn\.3\.epochs: '3' is not one of 0\.\.0"),
        ("seed.x=1", r"override seed\.x: 'x' is inside a plain value"),
        ("seed", r"override 'seed'; write dotted\.key=value"),
        ("seed={", r"override 'seed=\{': '\{' is not a YAML value"),
        ("data=null", r"data is None"),
    ],
)
def test_a_wrong_override_is_answered_in_one_line(override: str, message: str) -> None:
    with pytest.raises(LeanspikeError, match=message) as error:
        load_recipe("digits", ["seed=0", override])
    assert "\n" not in str(error.value)


def test_numbers_may_be_written_as_everybody_writes_them() -> None:
    recipe = load_recipe("digits", ["ann.weight_decay=1e-4", "ann.learning_rate=1E-2", "seed=3"])
    assert recipe.ann is not None
    assert (recipe.ann.weight_decay, recipe.ann.learning_rate, recipe.seed) == (1e-4, 1e-2, 3)


def test_sections_and_lists_can_be_replaced() -> None:
    recipe = load_recipe("digits", ["snn=[]", "spike.calibrate=null", "data.augment={crop: 2}"])
    assert recipe.snn == ()
    assert recipe.spike.calibrate is None
    assert recipe.data.augment.crop == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "is not a mapping"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("name: x", "key data is missing"),
    ],
)
def test_a_bad_file_is_answered_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(LeanspikeError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_an_unknown_name_and_a_missing_file() -> None:
    with pytest.raises(LeanspikeError, match=r"no recipe 'digit'; did you mean 'digits'\?"):
        load_recipe("digit")
    with pytest.raises(LeanspikeError, match=r"cannot read the recipe nowhere\.yaml"):
        load_recipe("nowhere.yaml")
