"""The network of one step as a plain graph: run in a loop it is the whole network."""

import pytest
import torch
from torch import fx

from leanspike.graph.per_step import StepPlan
from leanspike.neuron import Neuron
from networks import NETWORKS, USERS, ZOO, draw
from spiking_networks import PAIRS, N, T, spiking


def in_a_loop(one: StepPlan, x, steps=T):
    """What it answers at each step; ``x`` is a frame for each, or one for all."""
    states, answers = [None] * len(one.neurons), []
    for step in range(steps):
        y_N, states = one.module(x[step] if isinstance(x, list) else x, step, *states)
        answers.append(y_N)
    return torch.stack(answers)


@pytest.mark.parametrize(("name", "neuron"), PAIRS)
@torch.no_grad()
def test_in_a_loop_it_is_the_whole_network(name, neuron):
    snn, x = spiking(name, neuron), draw(name, N).double()
    torch.testing.assert_close(in_a_loop(snn.plan.per_step(), x), snn(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - USERS.keys()))
@torch.no_grad()
def test_in_a_loop_it_is_the_whole_network_of_the_zoo_and_of_torchvision(name):
    if name.startswith("torchvision"):
        pytest.importorskip("torchvision")
    snn, x = spiking(name, "height"), draw(name, N).double()
    torch.testing.assert_close(in_a_loop(snn.plan.per_step(), x), snn(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["bntt", "tdbn", "tebn"])
@pytest.mark.parametrize("name", ["padded_shortcut", "vector", "vgg16_max_norm"])
@torch.no_grad()
def test_norms_that_know_the_step_are_tables_of_scale_and_shift(name, norm):
    snn, x = spiking(name, norm=norm), draw(name, N).double()
    one = snn.plan.per_step()
    torch.testing.assert_close(in_a_loop(one, x), snn(x), rtol=1e-9, atol=1e-9)
    frozen = in_a_loop(one, x)
    for parameter in snn.parameters():
        if parameter.dim() == 2 and parameter.shape[0] == T:
            parameter.zero_()
    assert torch.equal(in_a_loop(one, x), frozen)  # of the moment it was asked for


@torch.no_grad()
def test_frames_come_one_at_a_time():
    snn, x_TN = spiking("padded_shortcut", encode="frames"), draw("padded_shortcut", T, N).double()
    answers = in_a_loop(snn.plan.per_step(), list(x_TN))
    torch.testing.assert_close(answers, snn(x_TN), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*USERS, *ZOO])
def test_nothing_of_ours_is_inside_but_neurons(name):
    one = spiking(name, norm="bntt" if name == "vgg16_max_norm" else "keep").plan.per_step()
    assert isinstance(one.module, fx.GraphModule)
    for node in one.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            target = one.module
            for part in str(node.target).split("."):
                target = getattr(target, part)
            ours = type(target).__module__.startswith("leanspike")
            assert isinstance(target, Neuron) or not ours, node.target
        if node.op == "call_function":
            assert not node.target.__module__.startswith("leanspike"), node.target
        assert node.op == "output" or "signal" in node.meta, node.name


def test_the_network_stays_as_it_was():
    snn, x = spiking("functional"), draw("functional", N).double()
    before, modules = snn(x), {path: type(m) for path, m in snn.named_modules()}
    keys = list(snn.state_dict())
    snn.plan.per_step()
    assert torch.equal(snn(x), before)
    assert {path: type(m) for path, m in snn.named_modules()} == modules
    assert list(snn.state_dict()) == keys
