"""Membranes that are held from below, as sinabs and chips hold them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leanspike import LIF, CurrentLIF, LeanspikeError, load, save, spike
from leanspike.backends import LIFCall, backends, choose
from leanspike.neuron import create_neuron
from leanspike.neuron.rates import rates_by_steps


def test_a_membrane_does_not_fall_below_it():
    x_TN = torch.tensor([[-5.0], [0.75], [1.5], [1.5]])
    assert LIF()(x_TN).flatten().tolist() == [0, 0, 0, 0]
    neuron = LIF(floor=1.0)  # u = −1 | −0.25 | 1.25 fires | 1.75 fires
    assert neuron(x_TN).flatten().tolist() == [0, 0, 1, 1]
    state, membranes = None, []
    for x_N in x_TN:
        _, state = neuron.step(x_N, state)
        membranes.append(state.item())
    assert membranes == [-1.0, -0.25, 0.25, 0.75]


def test_it_is_counted_in_thresholds():
    neuron = LIF(threshold=torch.tensor([1.0, 2.0]), floor=0.5)
    _, u_N = neuron.step(torch.full((1, 2), -9.0), None)
    assert u_N.tolist() == [[-0.5, -1.0]]
    _, (_, u_N) = CurrentLIF(threshold=2.0, floor=0.5).step(torch.full((1, 2), -9.0), None)
    assert u_N.tolist() == [[-1.0, -1.0]]


def test_the_native_backend_computes_it():
    call = LIFCall(torch.zeros(2, 3), torch.tensor(1.0), torch.tensor(1.0), LIF(floor=1.0).dynamics)
    assert type(choose(call)) is backends.find("native")


@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_gradients_pass_by_what_is_held(height):
    neuron = LIF(leak=0.9, floor=1.0, learn=("leak", "threshold"), height=height)
    x_TN = torch.tensor([[-5.0], [0.5], [0.5]], requires_grad=True)
    neuron(x_TN).sum().backward()
    assert x_TN.grad[0].item() == 0  # what brought it to the floor is forgotten
    assert x_TN.grad[1].item() > 0
    assert neuron.threshold.grad.item() != 0


@pytest.mark.parametrize("reset", ["soft", "hard", "undecayed"])
def test_rate_gradients_are_those_of_its_steps(reset):
    torch.manual_seed(0)
    neuron = LIF(leak=0.9, floor=0.5, reset=reset, learn=("leak", "threshold"))
    x_TN = torch.randn(6, 64) * 2
    learned = ("leak", "threshold")
    found, expected = neuron.rates(x_TN, learned), rates_by_steps(neuron, x_TN, learned)
    assert torch.equal(found.o_TN, expected.o_TN)
    torch.testing.assert_close(found.by_input, expected.by_input)
    for name in learned:
        torch.testing.assert_close(found.by[name], expected.by[name])


def test_it_is_saved_and_costs_nothing(tmp_path):
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    held, plain = (
        spike(ann, example_input=torch.zeros(3, 1, 4), neuron=LIF(floor=floor), encode="frames")
        for floor in (0.25, None)
    )
    x = torch.randn(3, 32, 4, generator=torch.Generator().manual_seed(0)) * 4
    again = load(save(held, tmp_path), ann)
    assert torch.equal(again(x), held(x))
    assert not torch.equal(held(x), plain(x))
    assert create_neuron("lif", held.get_submodule("1").options).dynamics.floor == 0.25
    assert "floor=0.25" in repr(again)
    costs = [network.get_submodule("1").update_cost() for network in (held, plain)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("floor", [0, -1.0, float("inf"), "low", True])
def test_what_is_no_floor_is_refused(floor):
    with pytest.raises(LeanspikeError, match=r"floor is .*; give a number above 0, in thresholds"):
        LIF(floor=floor)
