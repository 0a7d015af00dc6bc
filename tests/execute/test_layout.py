"""How images lie inside a network: its answers do not depend on it, and it turns them back."""

import copy
import pickle

import pytest
import torch
from torch import nn

from leanspike import LIF, spike
from leanspike.execute.state import State
from networks import NETWORKS, build, draw

LAST = torch.channels_last
T = 3


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
        *(nn.ReLU(), nn.Conv2d(8, 4, 3)),
    ).eval()


def spiking(ann, x, **how):
    return spike(ann, example_input=x[:1], timesteps=T, neuron=LIF(threshold=0.4), **how).eval()


def images(channels=3, n=2):
    return torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def layouts_inside(snn, x):
    seen = []

    def observe(node, _values, value):
        if node.op == "call_module" and value.dim() == 4:
            seen.append(value.is_contiguous(memory_format=LAST) and not value.is_contiguous())

    with torch.no_grad():
        snn.run(x, observer=observe)
    return seen


@pytest.mark.parametrize("channels", [1, 3])
def test_contiguous_images_are_computed_in_channels_last(channels):
    x = images(channels)
    ann = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    snn = spiking(ann, x)
    weights = [p.stride() for p in snn.parameters()]
    assert layouts_inside(snn, x)
    assert all(layouts_inside(snn, x))
    assert [p.stride() for p in snn.parameters()] == weights


@torch.no_grad()
def test_answers_lie_as_the_input_does():
    x = images()
    snn = spiking(small(), x)
    y, y_last = snn(x), snn(x.to(memory_format=LAST))
    assert y.is_contiguous()
    assert y_last[0].is_contiguous(memory_format=LAST)
    torch.testing.assert_close(y, y_last)
    state, after = None, []
    for _ in range(T):
        step, state = snn.step(x, state)
        assert step.is_contiguous()
        after.append(step)
    torch.testing.assert_close(torch.stack(after), y)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("torchvision")])
@torch.no_grad()
def test_every_network_takes_its_images_turned(name):
    x = draw(name, 2)
    snn = spiking(build(name), x)
    kept = copy.deepcopy(snn)
    kept.layout = type(snn.layout)(turns=False)
    close = torch.isclose(snn(x), kept(x), rtol=1e-4, atol=1e-4)
    assert close.float().mean() > 0.9  # a membrane at the threshold may fire in one of them


def test_gradients_are_those_of_the_other_layout():
    x = images(n=4).requires_grad_()
    snn = spiking(small(), x.detach())
    other = copy.deepcopy(snn)
    other.layout = type(snn.layout)(turns=False)
    for network in (snn, other):
        network(x).square().sum().backward()
    learned = [name for name, p in snn.named_parameters() if p.grad is not None]
    assert len(learned) >= 6
    for a, b in ((n.get_parameter(p) for n in (snn, other)) for p in learned):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
        assert a.grad.stride() == a.stride()
    assert x.grad.is_contiguous()


class Own(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1)


def test_a_users_own_code_gets_what_it_is_given():
    ann = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), Own(), nn.Linear(128, 3))
    x = images()
    snn = spiking(ann.eval(), x, ops={Own: "graded"})
    assert not snn.layout.turns
    assert not any(layouts_inside(snn, x))
    assert snn(x).shape == (T, 2, 3)


class Plain(nn.Module):
    def forward(self, x):
        return x.view(*x.shape[:2], -1).clamp(0, 1).view(x.shape)


def test_so_does_a_users_own_module_in_a_neurons_place():
    x = images()
    snn = spike(small(), example_input=x[:1], timesteps=T, neuron=Plain())
    assert not snn.layout.turns
    assert snn(x).shape[:2] == (T, 2)


def test_other_types_frames_and_networks_without_convolutions_of_spikes():
    x = images()
    assert not any(layouts_inside(spiking(small().double(), x.double()), x.double()))
    frames = torch.rand(T, 2, 3, 8, 8)
    snn = spike(small(), example_input=frames[:, :1], encode="frames").eval()
    assert all(layouts_inside(snn, frames))
    assert not spiking(nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU()), x).layout.turns
    assert not spiking(small(), x, lower=()).layout.turns


@torch.no_grad()
def test_it_survives_copies_pickles_and_states(tmp_path):
    x = images()
    snn = spiking(small(), x)
    for twin in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert twin.layout == snn.layout
        assert torch.equal(twin(x), snn(x))
    _, state = snn.step(x)
    read = State.load(state.save(tmp_path / "state.safetensors"))
    assert torch.equal(snn.step(x, state)[0], snn.step(x, read)[0])
    other = State(
        1,
        {k: v.contiguous() for k, v in state.neurons.items()},
        state.static,
        network=state.network,
    )
    torch.testing.assert_close(snn.step(x, other)[0], snn.step(x, state)[0])


class Heads(nn.Module):
    """Two outputs, one of images."""

    def __init__(self):
        super().__init__()
        self.body, self.head = small(), nn.Linear(4, 2)

    def forward(self, x):
        y = torch.relu(self.body(x))
        return {"pixels": y, "class": (self.head(y.mean((2, 3))), None)}


@torch.no_grad()
def test_each_of_several_outputs_lies_contiguous():
    x = images()
    snn = spiking(Heads().eval(), x)
    assert snn.layout.turns
    whole, last = snn(x), snn(x.contiguous(memory_format=LAST))
    state = None
    for t in range(T):
        step, state = snn.step(x, state)
        torch.testing.assert_close(step["pixels"], whole["pixels"][t])
        assert step["pixels"].is_contiguous()
        assert step["class"][1] is None
    assert whole["pixels"].is_contiguous()
    assert torch.equal(whole["pixels"], last["pixels"])
    assert torch.equal(whole["class"][0], last["class"][0])
