"""What a neuron of one's own must say, and what it may leave to others."""

import pytest
import torch

from leanspike import LeanspikeError, Neuron
from leanspike.neuron import Calibrated, Cost, NeuronSection, create_neuron
from leanspike.section import Section


class Sum(Neuron):
    """Hands on the sum of its inputs so far."""

    def initial(self, x_N):
        return {"sum": torch.zeros_like(x_N)}

    def step(self, x_N, state):
        state = self.initial(x_N) if state is None else state
        total_N = state["sum"] + x_N
        return total_N, {"sum": total_N}

    def spike_height(self):
        return None

    def update_cost(self):
        return Cost(acs=1)


def test_start_step_height_and_cost_are_enough():
    neuron = Sum()
    x_TN = torch.arange(6.0).view(3, 2)
    assert torch.equal(neuron(x_TN), x_TN.cumsum(0))
    assert neuron.emits == "graded"
    assert (neuron.readings(), neuron.options, neuron.keep_in_range()) == ({}, {}, None)
    assert not isinstance(neuron, Calibrated)
    assert neuron.sized(torch.Size((2,))) is None


def test_less_is_not_enough():
    class Silent(Neuron):
        def step(self, x_N, state):
            return 0 * x_N, state

    with pytest.raises(TypeError, match="initial, spike_height, update_cost"):
        Silent()


def test_the_loop_over_the_steps_keeps_channels_last():
    x_TN = torch.arange(600.0).view(3, 2, 4, 5, 5)
    last = torch.cat(list(x_TN)).to(memory_format=torch.channels_last).view(x_TN.shape)
    found = Sum()(last)
    assert torch.equal(found, x_TN.cumsum(0))
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_options_that_nobody_says_are_not_lost_silently():
    class Config(Section):
        factor: float = 1.0
        weight: float = 1.0

    class Scaled(Sum):
        def __init__(self, factor=1.0, weight=1.0):
            super().__init__()
            self.factor, self.weight = factor, torch.nn.Parameter(torch.tensor(weight))

    Scaled.Config = Config
    with pytest.raises(
        LeanspikeError, match="Scaled does not return its factor, so it cannot be saved"
    ):
        Scaled().options  # noqa: B018

    class Saved(Scaled):
        @property
        def options(self):
            return {"factor": self.factor}

    assert Saved(2.0).options == {"factor": 2.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "lfi"}, "neuron is 'lfi'; choose one of .*; did you mean 'lif'?"),
        ({"leek": 1}, "leek\n  Extra inputs are not permitted"),
        ({"name": "lif", "synapse_leak": 0.5}, "synapse_leak\n  Extra inputs"),
        ({"leak": 1.5}, "leak\n  Input should be less than or equal to 1"),
        ({"surrogate": {"name": "step"}}, "surrogate is 'step'; choose one of triangle, arctan"),
        ({"surrogate": {"options": {"alpha": 1}}}, "triangle has no option 'alpha'; valid are"),
        ({"surrogate": {"options": {"gamma": -1}}}, r"Triangle\(gamma=-1.0\): give a number above"),
    ],
)
def test_a_section_is_closed(given, message):
    with pytest.raises(ValueError, match=message):
        NeuronSection(**given)


def test_a_section_holds_every_option_and_gives_itself_back():
    section = NeuronSection(name="cuba_lif", synapse_leak=0.25)
    assert section.options["synapse_leak"] == 0.25
    assert section.options["learn"] == ("leak", "synapse_leak", "threshold")
    assert NeuronSection.model_validate_json(section.model_dump_json()) == section
    assert NeuronSection(**section.model_dump()) == section
    made = create_neuron(section.name, section.options)
    assert made.synapse_leak.item() == 0.25
    assert NeuronSection(name="cuba_lif", **made.options).options.keys() == section.options.keys()


def test_a_section_tells_its_keys_to_a_schema():
    found = NeuronSection.model_json_schema()
    named = {}
    for choice in found["anyOf"]:
        section = found["$defs"][choice["$ref"].rpartition("/")[2]]
        named[section["properties"]["name"]["const"]] = section["properties"]
    assert {"lif", "cuba_lif", "adaptive_lif"} <= set(named)
    assert named["lif"]["leak"]["maximum"] == 1
    assert named["lif"]["leak"]["description"].startswith("The share of the membrane left")


def test_options_out_of_range_are_refused_in_one_line():
    with pytest.raises(LeanspikeError, match="neuron lif has no option 'tau'; valid are threshold"):
        create_neuron("lif", {"tau": 2.0})
    with pytest.raises(LeanspikeError, match=r"neuron lif: leak is 2\.0: Input should be less"):
        create_neuron("lif", {"leak": 2.0})
    with pytest.raises(
        LeanspikeError, match=r"neuron lif: learn.0 is 'tau': Input should be 'leak'"
    ):
        create_neuron("lif", {"learn": ["tau"]})
