"""A step as code of its own: the same as the graph walked node by node, and what steps share."""

import pickle
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from leanspike import LIF, native, spike
from leanspike.backends.choice import candidates
from leanspike.backends.native import convolution
from leanspike.surgery import fold_norms
from leanspike.synapse import EventConv2d, Stream
from networks import build, draw

T, N = 3, 2


def network(name="padded_shortcut", norm="keep"):
    neuron = LIF(threshold=0.5, leak=0.9, initial="half")
    return spike(
        build(name), example_input=draw(name, 1), timesteps=T, neuron=neuron, norm=norm
    ).eval()


@pytest.mark.parametrize("name", ["padded_shortcut", "functional", "dense", "dropouts"])
@torch.no_grad()
def test_an_observer_changes_nothing_and_may_come_and_go(name):
    snn, x = network(name), draw(name, N)
    plain = watched = None
    for _ in range(T):
        y_NK, after = snn.step(x, plain)
        seen, watched = snn.step(x, watched, observer=lambda *_: None)
        assert torch.equal(y_NK, seen)
        assert after.neurons.keys() == watched.neurons.keys()
        assert list(after.static) == list(watched.static)
        plain, watched = watched, after  # each goes on from the other's state


@torch.no_grad()
def test_a_step_of_a_folded_network_is_that_of_its_own_graph():
    snn, x = fold_norms(network("padded_shortcut", "tebn")), draw("padded_shortcut", N)
    state = None
    for y_NK in snn(x):
        found, state = snn.step(x, state)
        torch.testing.assert_close(found, y_NK)


@torch.no_grad()
def test_hooks_of_layers_are_called_in_each_step():
    snn, x = network(), draw("padded_shortcut", N)
    calls = []
    snn.conv2.register_forward_hook(lambda *_: calls.append(1))
    _, state = snn.step(x)
    snn.step(x, state)
    assert len(calls) == 2


def wide():
    """A network whose second convolution is event-driven, and an image."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 64, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 256, 3)),
    )
    snn = spike(ann.eval(), example_input=torch.zeros(1, 2, 16, 16), neuron=LIF(2.0, 0.9))
    snn.to(memory_format=torch.channels_last)
    x = torch.randn(1, 2, 16, 16).mul(2).to(memory_format=torch.channels_last)
    return snn, x


@pytest.fixture
def packings(monkeypatch):
    if "native" not in candidates() or native.available_instructions() == ("plain",):
        pytest.skip("needs the native convolution")
    count, pack = [], convolution.pack

    def counting(*arguments):
        count.append(1)
        return pack(*arguments)

    monkeypatch.setattr(convolution, "pack", counting)
    return count


@torch.no_grad()
def test_a_stream_lays_its_weights_out_once(packings):
    snn, x = wide()
    assert isinstance(snn.get_submodule("2"), EventConv2d)
    state = None
    for y_NK in snn(x, timesteps=T):
        found, state = snn.step(x, state)
        torch.testing.assert_close(found, y_NK, rtol=1e-4, atol=1e-4)
    assert len(packings) == 1
    snn.step(x, state.keep(torch.tensor([0])))
    assert len(packings) == 1
    snn.step(x)  # another stream
    assert len(packings) == 2


@pytest.mark.parametrize("change", ["in place", "new data", "bias"])
@torch.no_grad()
def test_weights_that_change_on_the_way_are_laid_out_again(packings, change):
    snn, x = wide()
    _, state = snn.step(x)
    layer = snn.get_submodule("2")
    if change == "in place":
        layer.weight.mul_(2)
    elif change == "bias":
        layer.bias.add_(1)
    else:
        layer.weight.data = layer.weight * 2
    found, _ = snn.step(x, state)
    assert len(packings) == 2
    expected, _ = snn.step(x, fresh(state))
    assert torch.equal(found, expected)


def fresh(state):
    """The state without what was laid out."""
    return replace(state, weights=Stream())


@torch.no_grad()
def test_a_state_is_copied_without_the_layers(packings):
    snn, x = wide()
    _, state = snn.step(x)
    assert len(packings) == 1
    size = len(pickle.dumps(state.weights))
    assert size < 200
    assert deepcopy(state.weights) is not state.weights


@torch.no_grad()
def test_a_compiled_step_gives_the_same(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    snn, x = network("vector"), draw("vector", N)
    compiled = torch.compile(snn.step, backend="eager")
    y_NK, state = compiled(x)
    again, _ = compiled(x, state)
    expected, state = snn.step(x)
    torch.testing.assert_close(y_NK, expected)
    torch.testing.assert_close(again, snn.step(x, state)[0])
