"""Recipes: what is read, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from leanspike.config import Recipe
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
        (
            "snn.3.epochs=1",
            r"override snn\.3\.epochs: '3' is not one of 0\.\.0; snn\.1=.* adds one",
        ),
        (
            "snn.1.epochs=1",
            r"override snn\.1\.epochs: '1' is not one of 0\.\.0; snn\.1=.* adds one",
        ),
        (
            "snn.epochs=2",
            r"snn is a list, and 'epochs' is in each of 0\.\.0; .*, as snn\.0\.epochs=2$",
        ),
        (
            "spike.calibrate.percentile=0.997",
            r"calibrate\.percentile is 0\.997: it counts in percent; did you mean 99\.7\?",
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
        (
            "snn=[{epochs: 1, weights: int6, average: 0.9}]",
            r"average is 0\.9 and weights are int6, .*; leave average out of this stage$",
        ),
        ("ann.weights=int6", r"ann\.weights is int6, and whole numbers .* the stages of snn$"),
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


NAMED = [
    # a part is named, and the options of the old one go
    (["model.name=mlp"], "model.options", {}),
    (["model.name=mlp", "model.options.hidden=[4]"], "model.options", {"hidden": [4]}),
    (["model.options.hidden=[4]", "model.name=mlp"], "model.options", {"hidden": [4]}),
    (["model.name=vgg", "model.options.pool=avg"], "model.options.batch_norm", True),
    (["teacher.model.name=mlp"], "teacher.model", {"name": "mlp", "options": {}, "weights": "w"}),
    (["data.name=digits"], "data.options", {}),
    (["data.name=nmnist"], "data.options.image_size", None),
    (["data.options.image_size=5", "data.name=nmnist"], "data.options.image_size", 5),
    (["ann.optimizer=adam"], "ann.optimizer", {"name": "adam"}),
    (["ann.optimizer.name=adam"], "ann.optimizer", {"name": "adam"}),
    (["ann.optimizer=sgd"], "ann.optimizer.momentum", 0.5),
    (["ann.optimizer.nesterov=false"], "ann.optimizer.momentum", 0.5),
    (["snn.0.schedule=step"], "snn.0.schedule", {"name": "step", "milestones": None}),
    (["snn.0.schedule={name: step}"], "snn.0.schedule", {"name": "step", "milestones": None}),
    (["spike.encode=direct"], "spike.encode_options", {}),
    (["spike.norm=tdbn"], "spike.norm_options", {}),
    (["spike.norm_options.alpha=0.5", "spike.norm=tdbn"], "spike.norm_options", {"alpha": 0.5}),
    (["spike.neuron.name=cuba_lif"], "spike.neuron.threshold", 1.0),
    (["spike.neuron=cuba_lif"], "spike.neuron.threshold", 1.0),
    (["spike.neuron.surrogate.name=triangle"], "spike.neuron.surrogate.options", {}),
    (["snn.0.objective={tet: {}}"], "snn.0.objective.response", None),
]
WITH_OPTIONS = """
name: mine
extends: digits
data: {name: synthetic, options: {image_size: 8}}
teacher: {model: {name: vgg6, options: {width: 0.5}, weights: w}}
ann: {optimizer: {name: sgd, momentum: 0.5}}
spike:
  encode: poisson
  encode_options: {gain: 0.5}
  norm: bntt
  norm_options: {eps: 0.1}
  neuron: {threshold: 0.5, surrogate: {name: arctan, options: {alpha: 3.0}}}
snn:
  - epochs: 1
    schedule: {name: cosine, period_epochs: 3}
    objective: {cross_entropy: {}, response: {weight: 0.5}}
"""


def at(recipe: Recipe, key: str) -> Any:
    """What a recipe that is written out says at a dotted key."""
    found: Any = yaml.safe_load(dump(recipe))
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


@pytest.mark.parametrize(("changes", "key", "value"), NAMED)
def test_a_part_that_is_named_anew_brings_its_own_options(
    changes: list[str], key: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WITH_OPTIONS)
    assert at(load_recipe(path, changes), key) == value


def test_the_weights_of_another_network_stay_named() -> None:
    changes = ["model.weights=w", "model.name=mlp"]
    assert load_recipe("digits", changes).model.weights == "w"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.options.hiden=3", "model vgg has no option 'hiden'; valid are layers, head, "),
        ("model.options.poool=3", "has no option 'poool'; did you mean 'pool'\\?"),
        ("data.options.image_size=3", "data set digits has no option 'image_size'; it has none"),
        ("ann.optimizer.momentun=0", r"key ann\.optimizer\.momentun; did you mean 'momentum'\?"),
        ("ann.schedule.milestones=[3]", r"key ann\.schedule\.milestones; linear has no options$"),
        ("ann.optimizer.size=3", r"key ann\.optimizer\.size; sgd has momentum, nesterov$"),
        ("ann.optimizer.momentum=1", r"ann\.optimizer\.momentum is 1: input should be less than 1"),
        ("ann.optimizer=sdg", r"ann\.optimizer is .*optimizer is 'sdg'; .*did you mean 'sgd'\?"),
    ],
)
def test_an_option_that_the_part_does_not_know_is_refused_by_name(
    override: str, message: str
) -> None:
    with pytest.raises(LeanspikeError, match=message) as error:
        load_recipe("digits", [override])
    assert "\n" not in str(error.value)


OLD_KEYS = [
    ("data.image_size=8", "data.options.image_size=8"),
    ("data.frames.by=count", "data.options.frames.by=count"),
    ("data.skip_bad=true", "data.options.skip_bad=true"),
    ("ann.momentum=0.5", "ann.optimizer.momentum=0.5"),
    ("snn.0.nesterov=false", "snn.0.optimizer.nesterov=false"),
    ("snn.0.milestones=[3]", "snn.0.schedule.milestones=[3]"),
    ("snn.0.optimizer_options={momentum: 0.5}", "snn.0.optimizer.momentum=0.5"),
    ("ann.schedule_options.period_epochs=5", "ann.schedule.period_epochs=5"),
]
KNOWING = {
    "image_size": "data.name=synthetic",
    "by": "data.name=nmnist",
    "skip_bad": "data.name=image_folder",
    "milestones": "snn.0.schedule=step",
    "period_epochs": "ann.schedule=cosine",
}


@pytest.mark.parametrize(("old", "new"), OLD_KEYS)
def test_an_old_key_is_taken_and_says_the_new_one(
    old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    knowing = KNOWING.get(new.partition("=")[0].rpartition(".")[2], "seed=0")
    assert load_recipe("digits", [knowing, old]) == load_recipe("digits", [knowing, new])
    told = [f"{old.partition('=')[0]} is {new.partition('=')[0]} now"]
    assert caplog.messages == told


def test_old_keys_in_files_are_merged_with_new_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text(
        "{name: base, extends: digits, data: {name: synthetic, image_size: 8}, "
        "ann: {momentum: 0.5, nesterov: false, schedule: step, milestones: [2]}}"
    )
    child.write_text(
        "{name: child, extends: base.yaml, data: {options: {image_size: 9}}, "
        "ann: {optimizer: {momentum: 0.25}, milestones: [3]}}"
    )
    recipe = load_recipe(child)
    assert recipe.ann is not None
    assert recipe.ann.optimizer.options == {"momentum": 0.25, "nesterov": False}
    assert recipe.ann.schedule.options == {"milestones": (3,)}
    assert recipe.data.options == {"image_size": 9}
    assert "data.image_size is data.options.image_size now" in caplog.messages
    base.write_text("{name: base, extends: digits, ann: {momentum: 0, optimizer: {momentum: 0.5}}}")
    with pytest.raises(LeanspikeError, match=r"ann\.momentum is ann\.optimizer\.momentum now, wh"):
        load_recipe(base)


def test_what_was_not_heeded_before_is_not_refused_now(caplog: pytest.LogCaptureFixture) -> None:
    written = yaml.safe_load(dump(load_recipe("digits", ["ann.optimizer=adam"])))
    ann = written["ann"]
    ann |= {"optimizer": "adam", "optimizer_options": {}, "momentum": 0.9, "nesterov": True}
    ann |= {"schedule": "linear", "schedule_options": {}, "period_epochs": None, "milestones": None}
    del written["data"]["options"]
    written["data"] |= {"image_size": None, "channels": None, "frames": None, "skip_bad": False}
    assert validate(written, "old") == load_recipe("digits", ["ann.optimizer=adam"])
    assert caplog.messages == []


def test_the_old_name_of_cross_validation_is_taken_and_says_the_new_one(caplog):
    recipe = load_recipe("digits", ["data.fold=[1, 5]"])
    assert recipe.data.cross_validation == (1, 5)
    assert caplog.messages == ["data.fold is data.cross_validation now"]
    written = dump(load_recipe("digits")).replace("cross_validation: null", "fold: null")
    assert "fold: null" in written
    caplog.clear()
    assert validate(yaml.safe_load(written), "old") == load_recipe("digits")
    assert caplog.messages == []
