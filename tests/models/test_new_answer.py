from pathlib import Path

import pytest
import torch

from leanspike.config import ModelSection
from leanspike.data import load_dataset
from leanspike.errors import LeanspikeError
from leanspike.models import create_model
from leanspike.models.new_answer import load_but_answer
from leanspike.recipes import load_recipe
from leanspike.run.build import build_network
from leanspike.run.trained import untrained
from leanspike.saved import ModelSpec, save

NET = {"in_channels": 1, "image_size": 8, "width": 0.125}


@pytest.fixture
def theirs(tmp_path):
    """A folder and a file of the weights of a network of seven classes."""
    torch.manual_seed(1)
    network = create_model("vgg6", 7, **NET)
    spec = ModelSpec(
        name="vgg6", num_classes=7, in_channels=1, image_size=8, options={"width": 0.125}
    )
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    save(network, tmp_path / "saved", spec)
    return network


def section(weights, **changes):
    return ModelSection(name="vgg6", options={"width": 0.125}, weights=str(weights), **changes)


@pytest.mark.parametrize("where", ["weights.pt", "saved"])
def test_all_but_the_answer_layer_is_loaded_where_asked(tmp_path, theirs, where):
    data = load_dataset("digits")
    torch.manual_seed(2)
    begun = create_model("vgg6", 10, **NET).state_dict()
    torch.manual_seed(2)
    found = build_network(section(tmp_path / where, new_answer=True), data).state_dict()
    answer = [name for name in found if name.startswith(list(found)[-1].rpartition(".")[0])]
    for name, value in theirs.state_dict().items():
        assert torch.equal(found[name], begun[name] if name in answer else value), name
    assert 1 <= len(answer) <= 2


def test_else_they_are_refused_and_the_advice_works(tmp_path, theirs):
    data = load_dataset("digits")
    with pytest.raises(LeanspikeError, match=r"but its answer layer \(model.new_answer=true\)$"):
        build_network(section(tmp_path / "saved"), data)
    with pytest.raises(LeanspikeError, match="holds the weights of another network"):
        build_network(section(tmp_path / "weights.pt"), data)
    build_network(section(tmp_path / "saved", new_answer=True), data)
    del theirs


def test_the_answer_is_drawn_anew_also_for_as_many_classes():
    network, other = (create_model("vgg6", 10, **NET) for _ in range(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    answer = load_but_answer(network, other.state_dict(), Path("x"))
    for name, value in network.state_dict().items():
        mine = name.startswith(answer + ".")
        assert torch.equal(value, before[name] if mine else other.state_dict()[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.popitem(last=False), r"is missing\); new_answer leaves out \S+ only"),
        (lambda w: w.update(more=torch.zeros(1)), r"more has no place there"),
        (lambda w: [w.pop(name) for name in list(w)[-1:]], r"\S+ is missing\); build the network"),
        (lambda w: w.update({next(iter(w)): torch.zeros(3)}), r"is \[3\], not \[.*leaves out"),
    ],
)
def test_weights_of_another_network_are_refused(change, message):
    network = create_model("vgg6", 10, **NET)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = create_model("vgg6", 7, **NET).state_dict()
    change(weights)
    with pytest.raises(LeanspikeError, match=message):
        load_but_answer(network, weights, Path("theirs.pt"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_recipe_must_train_a_new_answer(tmp_path):
    with pytest.raises(LeanspikeError, match=r"new_answer is true without weights; give model.wei"):
        load_recipe("digits", ["model.new_answer=true"])
    given = ["model.new_answer=true", f"model.weights={tmp_path}"]
    assert untrained(load_recipe("digits", given)) is None
    why = untrained(load_recipe("digits", [*given, "ann=null", "snn=[]"]))
    assert why == (
        "the answer layer is new (model.new_answer), ann is not trained, no stage of snn"
    )
