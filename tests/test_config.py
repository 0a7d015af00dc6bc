"""Recipes: what is read, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from leanspike.errors import LeanspikeError
from leanspike.recipes import dump, load_recipe, recipes, validate
from leanspike.train import Response


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
        ("spike.neuron.reset=none", r"spike\.neuron\.reset is 'none': input should be 'soft', "),
        ("ann.learning_rate=0", r"ann\.learning_rate is 0: input should be greater than 0"),
        ("spike.neuron.leak=1.5", r"spike\.neuron\.leak is 1\.5: .*less than or equal to 1"),
        ("snn.3.epochs=1", r"override snn\.3\.epochs: '3' is not one of 0\.\.0"),
        (
            "snn.epochs=2",
            r"snn is a list, and 'epochs' is in each of 0\.\.0; .*, as snn\.0\.epochs=2$",
        ),
        (
            "spike.calibrate.percentile=0.997",
            r"calibrate\.percentile is 0\.997: it is of 100; did you mean 99\.7\?",
        ),
        ("seed.x=1", r"override seed\.x: 'x' is inside a plain value"),
        ("seed", r"override 'seed'; write dotted\.key=value"),
        ("seed={", r"override 'seed=\{': '\{' is not a YAML value"),
        ("data=null", r"data is None"),
        ("evaluate.max_drop_points=100", r"max_drop_points is 100: input should be less than 100"),
        ("evaluate.early_exit=[gamma]", r"^recipe digits: early exit by gamma .* spike\.norm=bntt"),
        (
            "teacher={model: {name: vgg6}}",
            r"teacher\.model is \{'name': 'vgg6'\}: weights are missing; train the teacher "
            r"\(leanspike train RECIPE\) and give its folder, .* or give a file of published",
        ),
        ("ann.dropout=0.2", r"ann\.dropout is 0\.2, and the ANN's rates .* in model\.options$"),
        ("ann.gradient=rate", r"ann\.gradient is rate, and an ANN has no time .* stages of snn$"),
        ("snn.0.gradient=rats", r"snn\.0\.gradient is 'rats': input should be 'bptt' or 'rate'"),
        ("ann.timesteps=2", r"ann\.timesteps is 2, and an ANN has none; leave it out"),
        ("snn.0.objective=[tet, {tet: {weight: 2}}]", r"objective is \['tet', .*\]: name tet once"),
        ("snn.0.objective=[{response: , weight: 2}]", r"unknown key snn\.0\.objective\.weight"),
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


def test_early_exits_need_held_out_images() -> None:
    changes = ["evaluate.early_exit=[margin, entropy]", "data.validation=0"]
    with pytest.raises(LeanspikeError, match=r"by margin, entropy is chosen on held-out .* is 0"):
        load_recipe("digits", changes)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("[cross_entropy, response]", {"cross_entropy", "response"}),
        ("[cross_entropy, {response: }]", {"cross_entropy", "response"}),
        ("{cross_entropy: {}, response: {}}", {"cross_entropy", "response"}),
        ("{cross_entropy: {}, response: }", {"cross_entropy"}),  # as in a run's recipe.yaml
    ],
)
def test_a_term_without_settings(text: str, terms: set[str]) -> None:
    objective = load_recipe("digits", [f"snn.0.objective={text}"]).snn[0].objective
    assert {name for name, term in objective if term is not None} == terms
    if "response" in terms:
        assert objective.response == Response.Config()


def test_a_list_of_terms_may_be_changed_by_name() -> None:
    terms = "snn.0.objective=[cross_entropy, {response: {weight: 0.3}}]"
    recipe = load_recipe("digits", [terms, "snn.0.objective.response.temperature=4"])
    assert recipe.snn[0].objective.cross_entropy is not None
    assert recipe.snn[0].objective.response == Response.Config(weight=0.3, temperature=4)
    with pytest.raises(LeanspikeError, match="recipe digits: name tet once"):
        load_recipe("digits", ["snn.0.objective=[tet, tet]", "snn.0.objective.tet.weight=4"])


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
        ("name: a\nmodel: " + "{a: " * 200 + "1" + "}" * 200, "recursion limit"),
        ("name: a\nmodel: " + "{a: " * 999 + "1" + "}" * 999, "it is nested too deeply"),
        ("name: a\nmodel: " + "{a: " * 5000 + "1" + "}" * 5000, "is not YAML: .*nest"),
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


def test_the_advice_on_a_list_works() -> None:
    with pytest.raises(LeanspikeError, match=r"as snn\.0\.neuron_learning_rate=0\.1$"):
        load_recipe("digits", ["snn.neuron_learning_rate=0.1"])
    assert (
        load_recipe("digits", ["snn.0.neuron_learning_rate=0.1"]).snn[0].neuron_learning_rate == 0.1
    )
    with pytest.raises(
        LeanspikeError, match=r"snn is an empty list; give snn=\[\{\.\.\.\}\] first"
    ):
        load_recipe("digits", ["snn=[]", "snn.epochs=2"])
    assert load_recipe("digits", ["snn=[{epochs: 1}]", "snn.0.epochs=2"]).snn[0].epochs == 2
    with pytest.raises(LeanspikeError, match=r"as snn\.0\.objective\.tet\.weight=2$"):
        load_recipe("digits", ["snn.objective.tet.weight=2"])


def test_the_old_name_of_cross_validation_is_taken_and_says_the_new_one(caplog):
    recipe = load_recipe("digits", ["data.fold=[1, 5]"])
    assert recipe.data.cross_validation == (1, 5)
    assert caplog.messages == ["data.fold is data.cross_validation now"]
    written = dump(load_recipe("digits")).replace("cross_validation: null", "fold: null")
    assert "fold: null" in written
    caplog.clear()
    assert validate(yaml.safe_load(written), "old") == load_recipe("digits")
    assert caplog.messages == []
