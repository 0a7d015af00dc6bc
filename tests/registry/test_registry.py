"""Parts by name: registered here, or offered by a package that is installed."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from leanspike import LeanspikeError
from leanspike.neuron import neurons, surrogates
from leanspike.registry import Registry
from leanspike.section import Positive, Section
from leanspike.temporal import ENCODERS, TEMPORAL_NORMS, encoders, norms

PACKAGE = """
import leanspike as ls
from leanspike.neuron import Cost
from leanspike.section import Section
print("imported")

class Threshold(ls.Neuron):
    class Config(Section):
        height: float = 1.0

    def __init__(self, height=1.0):
        super().__init__()
        self.height = height

    @property
    def options(self):
        return {"height": self.height}

    def initial(self, x_N):
        return x_N * 0

    def step(self, x_N, state):
        state = self.initial(x_N) if state is None else state
        return self.height * (x_N > 0), state

    def spike_height(self):
        import torch
        return torch.tensor(self.height)

    def update_cost(self):
        return Cost()
"""


def make():
    pools = Registry("pool", "leanspike.pools_of_no_package")

    @pools.register("mean")
    @dataclass(frozen=True)
    class Mean:
        size: int = 2

    return pools, Mean


def test_a_part_is_found_and_made_by_its_name():
    pools, kind = make()
    assert pools.find("mean") is kind
    assert pools.name_of(kind) == "mean"
    assert pools.name_of(int) is None
    assert pools.create("mean", {"size": 3}) == kind(3)
    assert pools.config("mean").model_fields.keys() == {"size"}
    assert dict(pools.registered) == {"mean": kind}
    assert pools.names() == ("mean",)


def test_what_is_unknown_is_answered_with_the_nearest():
    pools, _ = make()
    with pytest.raises(LeanspikeError, match="pool is 'men'; choose one of keep, mean; did you"):
        pools.find("men", also=("keep",))
    with pytest.raises(LeanspikeError, match="pool mean has no option 'side'; valid are size"):
        pools.create("mean", {"side": 1})
    with pytest.raises(LeanspikeError, match=r"pool is 'x'; choose one of mean$"):
        pools.options("x")


def test_a_name_is_given_once():
    pools, kind = make()
    assert pools.register("mean")(kind) is kind  # the same again
    with pytest.raises(LeanspikeError, match=r"pool 'mean' is already .*Mean; register .*\.int"):
        pools.register("mean")(int)


def test_a_config_of_its_own_is_closed_and_checked():
    pools = Registry("pool", "leanspike.pools_of_no_package", lambda kind: kind.Config)

    @pools.register("max")
    class Max:
        class Config(Section):
            size: Positive = 2.0

        def __init__(self, size):
            self.size = size

    assert pools.create("max").size == 2.0
    with pytest.raises(LeanspikeError, match=r"pool max: size is -1: Input should be greater than"):
        pools.create("max", {"size": -1})
    with pytest.raises(LeanspikeError, match="pool max has no option 'side'; valid are size"):
        pools.create("max", {"side": 1})


def test_a_constructor_that_refuses_is_one_line():
    with pytest.raises(LeanspikeError, match="surrogate triangle: "):
        surrogates.create("triangle", {"gamma": "x"})


def test_all_kinds_of_parts_have_a_registry():
    assert {"triangle", "arctan", "sigmoid", "rectangle"} <= set(surrogates.names())
    assert {"bntt", "tdbn", "tebn"} <= set(norms.names()) & set(TEMPORAL_NORMS)
    assert {"direct", "frames", "poisson"} <= set(encoders.names()) & set(ENCODERS)
    assert {"lif", "cuba_lif", "adaptive_lif"} <= set(neurons.names())


def install(folder, code=PACKAGE):
    """A package with one neuron, as pip would leave it there."""
    (folder / "plug.py").write_text(code)
    about = folder / "plug-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    points = "[leanspike.neurons]\nplugged = plug:Threshold\n"
    (about / "entry_points.txt").write_text(points)


def run(folder, code):
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True)
    return done.stdout.split("\n"), done.stderr


def test_another_package_offers_a_neuron_by_an_entry_point(tmp_path):
    install(tmp_path)
    said, wrong = run(
        tmp_path,
        """
import torch, leanspike as ls
from leanspike.neuron import NeuronSection, create_neuron, neurons
neurons.find("lif"); create_neuron("cuba_lif")
print("plugged" in neurons.names())
section = NeuronSection(name="plugged", height=2.0)
ann = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).eval()
neuron = create_neuron(section.name, section.options)
snn = ls.spike(ann, example_input=torch.zeros(1, 2), neuron=neuron)
x = torch.rand(5, 2)
ls.save(snn, sys.path[0] + "/saved")
print(torch.equal(ls.load(sys.path[0] + "/saved", ann=ann)(x), snn(x)))
print(ls.evaluate(snn, [(x, torch.arange(5) % 3)]).neurons[0].update_macs)
""",
    )
    assert wrong == ""
    assert said == ["True", "imported", "True", "0.0", ""]


def test_a_package_that_is_broken_is_named_where_its_part_is_asked_for(tmp_path):
    install(tmp_path, "import a_module_that_is_not_there")
    said, wrong = run(
        tmp_path,
        """
from leanspike.neuron import create_neuron, neurons
print(create_neuron("lif").leak.item(), "plugged" in neurons.names())
create_neuron("plugged")
""",
    )
    assert said[0] == "1.0 True"
    message = wrong.strip().split("\n")[-1]
    assert "neuron 'plugged' of the package plug cannot be imported (No module named" in message
    assert message.endswith("mend or remove the package")
