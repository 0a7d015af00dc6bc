"""Files that were written before there were several kinds of neurons: they are read unchanged."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike.evaluation.prices import Prices, price
from leanspike.evaluation.result import Provenance, Result
from leanspike.recipes import dump, load_recipe
from leanspike.report.compare import Compared
from leanspike.report.compare.runs import recipe_changes
from leanspike.run.build import build_neuron, build_norm
from leanspike.run.workspace import check_free
from leanspike.saved import save
from leanspike.studies import load_kept, read_kept
from leanspike.studies.kept import Finished

HERE = Path(__file__).parent / "of_before"
KEPT = sorted((Path(__file__).parents[1] / "results").glob("*/*.json"))
RESULTS = [path for path in KEPT if '"threshold_start"' in path.read_text("utf-8")]
"""Those of before neurons had readings of their own."""
X = torch.linspace(-1, 1, 72).view(2, 1, 6, 6)


def make_ann(norm: bool) -> nn.Module:
    norms = [nn.BatchNorm2d(4)] if norm else []
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), *norms, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("name", ["papers", "others"])
@torch.no_grad()
def test_a_saved_model_answers_as_it_did(name: str, tmp_path: Path) -> None:
    spec = json.loads((HERE / name / "spec.json").read_text())
    assert not any("name" in neuron for neuron in spec["spike"]["neurons"].values())
    snn = ls.load(HERE / name, ann=make_ann(name == "others"))
    answers = torch.tensor(json.loads((HERE / name / "answers.json").read_text()))
    torch.testing.assert_close(snn(X), answers, rtol=1e-4, atol=1e-5)
    again = ls.load(save(snn, tmp_path), ann=make_ann(name == "others"))
    assert torch.equal(again(X), snn(X))
    neuron = again.get_submodule("1")
    assert isinstance(neuron, ls.LIF)
    expected = spec["spike"]["neurons"]["1"]
    constants = {"name": expected.pop("surrogate"), "options": expected.pop("constants")}
    learn = tuple(expected.pop("learn"))
    expected |= {"learn": learn, "surrogate": constants, "per": "layer", "floor": None}
    assert neuron.options == expected


def test_a_recipe_that_a_run_kept_is_what_it_was() -> None:
    recipe = load_recipe(HERE / "recipe.yaml")
    assert "name:" not in (HERE / "recipe.yaml").read_text().partition("neuron:")[2].split("thr")[0]
    assert recipe == load_recipe(
        "digits",
        [
            *("spike.neuron.surrogate.name=arctan", "spike.neuron.surrogate.options={alpha: 3.0}"),
            *("spike.norm=tdbn", "spike.neuron.threshold=0.5"),
        ],
    )
    neuron = build_neuron(recipe.spike.neuron)
    assert isinstance(neuron, ls.LIF)
    assert neuron.dynamics.surrogate == ls.Arctan(3.0)
    norm = build_norm(recipe.spike)
    assert not isinstance(norm, str)
    assert norm(4, 5).options["threshold"] == 0.5
    assert "name: lif" in dump(recipe)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_of_before_differs_in_no_key_that_has_moved(optimizer: str) -> None:
    changes = [f"ann.optimizer={optimizer}", "ann.schedule=cosine"]
    now = load_recipe("digits", changes).model_dump(mode="json")
    before = deepcopy(now)
    before["data"] |= {"image_size": None, "channels": None, "frames": None, "skip_bad": False}
    del before["data"]["options"]
    for stage in (before["ann"], *before["snn"]):
        stage |= {part: stage[part]["name"] for part in ("optimizer", "schedule")}
        stage |= {"momentum": 0.9, "nesterov": True, "milestones": None, "period_epochs": None}
    runs = []
    for recipe in (before, now):
        origin = Provenance.model_construct(recipe=deepcopy(recipe))
        found = Finished(Path("run"), Result.model_construct(provenance=origin), [])
        runs.append(Compared(len(runs), "run", found.comparable, []))
        assert found.result.provenance.recipe == recipe
    assert recipe_changes(runs) == {}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_result_has_the_same_readings_and_the_same_energy(path: Path) -> None:
    old = read_kept(path).result
    result = load_kept(path).result
    for before, layer in zip(old["neurons"], result.neurons, strict=True):
        assert layer.readings == {name: before[name] for name in ("threshold", "leak")}
        start = {name: before[f"{name}_start"] for name in ("threshold", "leak")}
        assert layer.readings_start == {n: v for n, v in start.items() if v is not None}
    prices = Prices(result.energy.mac_pj, result.energy.ac_pj)
    again = price(result.operations, result.neurons, result.timesteps, prices)
    assert again.membrane_pj == old["energy"]["membrane_pj"]
    assert type(result).model_validate_json(result.model_dump_json()) == result


def test_a_run_that_was_begun_before_goes_on(tmp_path: Path) -> None:
    recipe = load_recipe("digits")
    written = dump(recipe).replace("  cross_validation: null", "  fold: null")
    older = re.sub(r"^ *name: lif\n", "", written, flags=re.M)
    assert older.count("\n") < written.count("\n")
    (tmp_path / "recipe.yaml").write_text(older)
    check_free(tmp_path, recipe)
    with pytest.raises(ls.LeanspikeError, match="seed is 0 there and 1 here"):
        check_free(tmp_path, load_recipe("digits", ["seed=1"]))
    for damaged in ("[", "text", ""):
        (tmp_path / "recipe.yaml").write_text(damaged)
        with pytest.raises(ls.LeanspikeError, match="holds a run of another recipe"):
            check_free(tmp_path, recipe)
