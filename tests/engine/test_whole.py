"""Weights that stay whole numbers in training: what is rounded, kept, resumed, refused."""

from __future__ import annotations

import io
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from leanspike import LIF, LeanspikeError, compile_engine, spike
from leanspike.engine import train_whole, whole_layers
from leanspike.engine.quantise import steps_of
from leanspike.engine.whole import nearest
from leanspike.train import create_optimizer
from leanspike_runtime import Reference
from leanspike_runtime.program import LARGEST, Layer

T = 3
X = torch.rand(12, 2, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(12) % 5


class Net(nn.Module):
    """With a norm, pools, a shortcut, a concatenation of spikes and counts, groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.same = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.join = nn.Conv2d(16, 6, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x):
        x = self.relus[0](self.norm(self.stem(x)))
        small = self.pool(x)
        both = self.relus[1](self.same(small) + small)
        joined = self.join(torch.cat([both, self.mean(x)], 1))
        return self.head(self.relus[2](self.norm2(joined)).flatten(1))


def spiking(norm="keep", **neuron):
    torch.manual_seed(0)
    options = {"threshold": 0.3, "height": "threshold", "learn": ("leak", "threshold"), **neuron}
    ann = Net().eval()
    snn = spike(ann, example_input=X[:1], timesteps=T, norm=norm, neuron=LIF(**options))
    snn.doubts.uncalibrated = False
    return snn


def steps(snn, optimizer, count, gradient="bptt"):
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(snn(X, gradient=gradient).sum(0), LABELS)
        loss.backward()
        optimizer.step()
        snn.keep_in_range()


def spikes_of(program):
    """The spikes of each layer, by the reference."""
    found = {}
    reference = Reference(program)
    x = X.permute(0, 2, 3, 1).numpy()
    logits, _ = reference.run(x, watch=lambda edge, values: found.setdefault(edge, values.copy()))
    return [found[k] for k, form in enumerate(program.forms) if form == "spikes"], logits


@pytest.mark.parametrize("weights", ["int6", "int8"])
@pytest.mark.parametrize("gradient", ["bptt", "rate"])
@pytest.mark.parametrize("norm", ["keep", "bntt", "fold"])
def test_a_network_trained_so_compiles_without_a_change(weights, gradient, norm):
    snn = spiking(norm)
    optimizer = create_optimizer(snn, learning_rate=0.05, weight_decay=1e-3)
    assert train_whole(snn, optimizer, weights) == ("same.weight", "join.weight", "head.weight")
    before = {name: p.detach().clone() for name, p in snn.named_parameters()}
    steps(snn.train(), optimizer, 2, gradient)
    changed = [name for name, p in snn.named_parameters() if not p.equal(before[name])]
    assert {"stem.weight", "same.weight", "join.weight", "head.weight"} <= set(changed)
    own = compile_engine(snn, X).program
    whole = compile_engine(snn, X, weights=weights).program
    types = [s.type for node in whole.nodes if isinstance(node, Layer) for s in node.synapses]
    assert types.count({"int6": "i6", "int8": "i8"}[weights]) >= 4
    (first, logits), (second, same) = spikes_of(own), spikes_of(whole)
    for one, other in zip(first, second, strict=True):
        assert 0.005 < one.mean() < 0.995
        assert (one != other).mean() < 1e-4
    np.testing.assert_allclose(same, logits, rtol=1e-4, atol=1e-4)


def test_weights_of_6_bits_stay_in_8_and_others_do_not():
    snn = spiking()
    train_whole(snn, create_optimizer(snn, learning_rate=0.1), "int6")
    own, eight = (
        spikes_of(compile_engine(snn, X, weights=weights).program)[1] for weights in ("f32", "int8")
    )
    np.testing.assert_allclose(eight, own, rtol=1e-4, atol=1e-4)
    plain = spiking()
    own, six = (
        spikes_of(compile_engine(plain, X, weights=weights).program)[1]
        for weights in ("f32", "int6")
    )
    assert np.abs(six - own).max() > 0.01


def test_a_norm_behind_a_layer_changes_no_whole_number():
    """The engine rounds the weights of an output together, and a norm scales them together."""
    torch.manual_seed(0)
    kept = Net().eval()
    for norm in (kept.norm, kept.norm2):
        nn.init.uniform_(norm.weight, 0.2, 2)
        nn.init.uniform_(norm.running_var, 0.2, 2)
    found = []
    for norms in ("keep", "fold"):
        snn = spike(kept, example_input=X[:1], timesteps=T, norm=norms, neuron=LIF(0.3))
        assert whole_layers(snn, "int6") == ("same.weight", "join.weight", "head.weight")
        nodes = compile_engine(snn, weights="int6").program.nodes
        layers = [node for node in nodes if isinstance(node, Layer)]
        found.append([s.weights for layer in layers for s in layer.synapses if s.type == "i6"])
    assert len(found[0]) == len(found[1]) >= 4
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_it_goes_on_to_the_same_bits(kind):
    def begin():
        snn = spiking().train()
        optimizer = create_optimizer(snn, kind, learning_rate=0.01, weight_decay=1e-3)
        train_whole(snn, optimizer, "int6")
        return snn, optimizer

    whole, optimizer = begin()
    steps(whole, optimizer, 2)
    saved = io.BytesIO()
    torch.save({"network": whole.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    steps(whole, optimizer, 2)
    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    other, its_own = begin()
    other.load_state_dict(state["network"])
    its_own.load_state_dict(state["optimizer"])
    steps(other, its_own, 2)
    for name, value in whole.state_dict().items():
        assert value.equal(other.state_dict()[name]), name


def test_small_steps_add_up():
    """A weight moves to the next whole number after many steps that are each too small."""
    snn = spiking()
    weight = snn.get_parameter("head.weight")
    optimizer = torch.optim.SGD([weight], lr=1e-5)
    train_whole(snn, optimizer, "int6")
    begun = weight.detach().clone()
    largest = begun.abs().argmax(1, keepdim=True)
    few, most = 2, 300  # a step of the whole numbers is about 0.0033
    changed = []
    for count in (few, most - few):
        for _ in range(count):
            weight.grad = torch.ones_like(weight).scatter_(1, largest, 0)  # so that steps stay
            optimizer.step()
        changed.append(((weight - begun).abs() > 1e-3).float().mean().item())
    assert changed[0] < 0.05
    assert changed[1] > 0.6


def test_what_is_rounded_is_on_a_grid_of_each_output():
    weights = torch.randn(5, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    weights[2] = 0
    found = nearest(weights, LARGEST["i6"])
    table = found.permute(2, 3, 1, 0).numpy()
    np.testing.assert_allclose(
        steps_of(table, 31), weights.abs().amax((1, 2, 3)).numpy() / 31, rtol=1e-5
    )
    off = (found - weights).abs().amax((1, 2, 3))
    assert (off <= weights.abs().amax((1, 2, 3)) / 62 * 1.001).all()
    assert not steps_of(weights.permute(2, 3, 1, 0).numpy(), 31).any()


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Linear(4, 4), nn.ReLU()
        self.weight = nn.Parameter(torch.rand(3, 4))

    def forward(self, x):
        return nn.functional.linear(self.relu(self.first(x)), self.weight * 2)


def small(net, **neuron):
    snn = spike(net.eval(), example_input=torch.zeros(1, 4), timesteps=T, neuron=LIF(**neuron))
    return snn, create_optimizer(snn, learning_rate=0.1)


def plain_net(*between):
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), *between, nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("net", "neuron", "message"),
    [
        (Computed(), {}, r"^\S+ computes its weights, .*; put plain weights there, or train with"),
        (
            plain_net(),
            {"per": "channel", "height": "threshold", "learn": ("threshold",)},
            r"^2 reads spikes that another scale multiplies .* per='layer' or height='unit' and",
        ),
        (plain_net(nn.BatchNorm1d(4)), {}, r"^3 reads spikes .* put no norm between, or train"),
    ],
)
def test_what_cannot_be_whole_is_refused_by_its_path(net, neuron, message):
    snn, optimizer = small(net, **neuron)
    begun = deepcopy(snn.state_dict())
    with pytest.raises(LeanspikeError, match=message):
        train_whole(snn, optimizer, "int6")
    assert all(value.equal(begun[name]) for name, value in snn.state_dict().items())


def test_the_ways_out_work():
    for per, height in (("layer", "threshold"), ("channel", "unit")):
        snn, optimizer = small(plain_net(), per=per, height=height, learn=("threshold",))
        assert train_whole(snn, optimizer) == ("2.weight",)


def test_twice_other_weights_and_other_networks_are_refused():
    snn, optimizer = small(plain_net())
    train_whole(snn, optimizer)
    with pytest.raises(LeanspikeError, match=r"rounds weights already, .* once for each optimizer"):
        train_whole(snn, optimizer)
    with pytest.raises(LeanspikeError, match=r"^weights is 'f32'; choose one of int8, int6$"):
        train_whole(snn, optimizer, "f32")
    with pytest.raises(LeanspikeError, match=r"^Linear is no spiking network; make one with"):
        train_whole(nn.Linear(2, 2), optimizer)


def test_a_state_without_unrounded_weights_is_refused():
    snn, optimizer = small(plain_net())
    state = optimizer.state_dict()
    train_whole(snn, optimizer)
    with pytest.raises(LeanspikeError, match=r"weights of nothing, .* those of 2\.weight; load a"):
        optimizer.load_state_dict(state)
