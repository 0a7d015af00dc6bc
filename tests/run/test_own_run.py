"""A network of the user's own through a whole run: trusted, saved, taken up again, and refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import LeanspikeError
from leanspike.recipes import load_recipe
from leanspike.run import Run, compare_robustness, open_run
from leanspike.train import Monitor

pytestmark = pytest.mark.usefixtures("unrendered")
CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=1, classes=10, flat=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.relu, self.pool, self.flat = nn.ReLU(), nn.MaxPool2d(2), flat
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        x = self.pool(self.relu(self.stem(x)))
        return self.head(x.flatten(1) if self.flat else x.view(x.size(0), -1))

class Tuple(Net):
    def forward(self, x):
        return super().forward(x), x
"""
OWN = ("model.name=secondnet:Net", "ann.epochs=1", "snn=[]", "seed=3", "precision=float32")


@pytest.fixture(scope="module", autouse=True)
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "secondnet.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("secondnet", None)


def make(folder: Path, *changes: str, trust: bool = True) -> tuple[Run, StringIO]:
    words = StringIO()
    monitor = Monitor(Console(file=words, width=300), folder)
    return Run(load_recipe("digits", [*OWN, *changes]), folder, monitor, trust), words


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    make(folder)[0].train()
    return folder


def test_a_run_without_trust_neither_imports_nor_writes(tmp_path: Path) -> None:
    sys.modules.pop("secondnet", None)
    with pytest.raises(LeanspikeError, match=r"would import secondnet \(\S+\) and call Net\(\)"):
        make(tmp_path / "run", trust=False)
    with pytest.raises(LeanspikeError, match=r"secondnet:Net would import .*call Net\(classes=3\)"):
        make(
            tmp_path / "run",
            "model={name: mlp, options: {hidden: [8]}}",
            "teacher={model: {name: 'secondnet:Net', weights: x, options: {classes: 3}}}",
            trust=False,
        )
    assert "secondnet" not in sys.modules
    assert not (tmp_path / "run").exists()


def test_its_spec_names_it_and_loading_imports_nothing(done: Path) -> None:
    spec = json.loads((done / "ann" / "spec.json").read_text())
    assert spec["model"]["name"] == "secondnet:Net"
    sys.modules.pop("secondnet", None)
    with pytest.raises(LeanspikeError, match=r"own, secondnet:Net, and loading imports nothing"):
        ls.load(done / "ann")
    assert "secondnet" not in sys.modules
    import secondnet

    ann = ls.load(done / "ann", ann=secondnet.Net())
    assert ann(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    snn = ls.load(done / "snn", ann=secondnet.Net())
    assert isinstance(snn, ls.SpikingNetwork)


def test_a_run_is_taken_up_again_and_measured_with_trust_only(done: Path) -> None:
    monitor = Monitor(Console(quiet=True))
    before = json.loads((done / "result.json").read_text())["accuracy"]
    with pytest.raises(LeanspikeError, match="add --trust"):
        open_run(done, monitor)
    run = open_run(done, monitor, trust=True)
    assert list(run.evaluate().accuracy) == before
    assert compare_robustness(run, limit=10).networks == ("ANN", "first")


def test_a_view_keeps_images_contiguous_and_gives_what_it_gives_alone(done: Path) -> None:
    import secondnet

    run, words = make(done)
    assert run.memory_format == torch.contiguous_format
    assert words.getvalue().count("takes no images in channels_last") == 1
    x = torch.rand(5, 1, 8, 8)
    alone = ls.load(done / "ann", ann=secondnet.Net())
    assert torch.equal(run.load("ann")(x), alone(x))


def test_a_network_that_takes_channels_last_gets_it(tmp_path: Path) -> None:
    run, words = make(tmp_path / "run", "model.options.flat=true")
    assert run.memory_format == torch.channels_last
    assert words.getvalue() == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            ("model.options.channels=3",),
            r"secondnet:Net does not take images of 1 channel, 8x8 \(.*to have 3 channels",
        ),
        (("model.options.classes=4",), r"outputs of shape \[1, 4\] .* digits has 10 classes; make"),
        (("model.name=secondnet:Tuple",), r"outputs of type tuple for one image"),
        (("model.options.width=4",), r"does not take model.options=\{'width': 4\}"),
        (
            ("model={name: mlp, options: {hidden: [8]}}", "ann=null", "model.weights=OTHER"),
            r"OTHER is a network for 3 classes and images of 2 channels, but digits has 10",
        ),
        (
            ("teacher={model: {weights: FIRST/ann}}", "snn=[{epochs: 1, objective: [response]}]"),
            "the recipe's teacher: .*holds a network of the user's own; give .*=secondnet:Net and",
        ),
        (
            (
                "teacher={model: {name: 'secondnet:Net', weights: OTHER, options: {channels: 2}}}",
                "snn=[{epochs: 1, objective: [response]}]",
            ),
            "the recipe's teacher: OTHER is a network for 3 classes",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(
    changes: tuple[str, ...], why: str, done: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    spec = ls.ModelSpec(name="mlp", num_classes=3, in_channels=2, options={"hidden": [8]})
    ls.save(ls.models.create_model("mlp", 3, in_channels=2, hidden=[8]), other, spec)

    def place(text: str) -> str:
        return text.replace("FIRST", str(done)).replace("OTHER", str(other))

    with pytest.raises(LeanspikeError, match=place(why)) as caught:
        make(tmp_path / "run", *map(place, changes))[0].begin()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_it_teaches(done: Path, tmp_path: Path) -> None:
    teacher = f"teacher={{model: {{name: 'secondnet:Net', weights: {done / 'ann'}}}}}"
    taught = "snn=[{epochs: 1, objective: [{response: {temperature: 2}}]}]"
    recipe = load_recipe(
        "digits",
        ["model={name: mlp, options: {hidden: [8]}}", teacher, taught, "ann=null", "seed=1"],
    )
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True)), trust=True)
    run.train()
    assert [row["stage"] for row in run.history] == ["snn T=5"]
    assert run.memory_format == torch.contiguous_format


class Named(nn.Module):
    """A network that was trained elsewhere, saved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def test_the_name_and_options_of_a_saved_network_of_the_zoo_may_be_left_out(
    tmp_path: Path,
) -> None:
    spec = ls.ModelSpec(
        name="mlp", num_classes=10, in_channels=1, image_size=8, options={"hidden": [8]}
    )
    network = ls.models.create_model("mlp", 10, in_channels=1, image_size=8, hidden=[8])
    ls.save(network, tmp_path / "mine", spec)
    recipe = load_recipe("digits", [f"model={{weights: {tmp_path / 'mine'}}}", "ann=null"])
    assert (recipe.model.name, recipe.model.options) == ("mlp", {"hidden": [8]})
    ls.save(Named(), tmp_path / "own")
    with pytest.raises(LeanspikeError, match=r"own, but does not name it; give model.name=pack"):
        load_recipe("digits", [f"model={{weights: {tmp_path / 'own'}}}"])
    with pytest.raises(LeanspikeError, match=r"model.name is None: input should be a valid str"):
        load_recipe("digits", ["model.name=null", f"model.weights={tmp_path / 'nowhere'}"])


def test_naming_an_own_network_leaves_the_recipes_options_behind() -> None:
    assert load_recipe("digits", ["model.name=mynet:Net"]).model.options == {}
    changes = ["model.options.width=4", "model.name=mynet:Net"]
    assert load_recipe("digits", changes).model.options == {"width": 4}
    assert load_recipe("digits", ["model.name=mlp"]).model.options == {}
