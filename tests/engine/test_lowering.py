"""What a network computes, its program computes: the same spikes, and logits to rounding."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, LeanspikeError, spike
from leanspike.engine import compile_engine
from leanspike.engine.entry import channels_last
from leanspike.temporal import temporal_norm
from leanspike_runtime import Engine, Reference, from_bytes, to_bytes
from leanspike_runtime.program import Concat, Layer, Pad, Pool, Relabel, Upsample
from networks import TORCHVISION, ZOO, build, draw
from spiking_networks import NEURONS, PAIRS, N, T

COMPILED = [
    (name, neuron) for name, neuron in PAIRS if neuron not in ("current", "adaptive", "relu")
]


def spiking(name, neuron="papers", **options):
    """In float64 and eval mode, with thresholds at which it fires."""
    fires = deepcopy(NEURONS[neuron])
    if neuron != "relu":
        fires.set_scale(0.2)
    if options.get("norm") == "bntt":
        options["norm"] = temporal_norm("bntt", {"bias": True})
    lead = (1, 1) if options.get("encode") == "frames" else (1,)
    return spike(
        build(name), example_input=draw(name, *lead), timesteps=T, neuron=fires, **options
    ).double()


def program_of(snn, steps=T):
    """Through its file."""
    return from_bytes(to_bytes(compile_engine(snn, timesteps=steps).program))


@torch.no_grad()
def differing(snn, x, program):
    """The share of spikes that differ, and by how much the logits do at most."""
    fired = []

    def note(module, entering, y):  # noqa: ARG001
        fired.append((y != 0).numpy())

    for _, module in snn.neurons():
        module.register_forward_hook(note)
    y_TNK = snn(x).numpy()
    seen = {}
    timed = 1 if snn.plan.encoder.timed else 0
    logits, _ = Reference(program).run(channels_last(x, 1 + timed), watch=seen.__setitem__)
    layers = [n for n, node in enumerate(program.nodes) if getattr(node, "neuron", None)]
    assert len(layers) == len(fired)
    wrong, total, rates = 0, 0, []
    for number, spikes in zip(layers, fired, strict=True):
        image = np.moveaxis(
            spikes.reshape(*spikes.shape[:3], *(1, 1, *spikes.shape[3:])[-2:]), 2, -1
        )
        found = seen[number + 1]
        if image.shape[2:4] == (1, 1):  # of a flattened image, in the edge's own order
            image, found = np.sort(image), np.sort(found)
        wrong += (image != found).sum()
        total += image.size
        rates.append(image.mean())
    assert max(rates) > 0.02
    return wrong / total, np.abs(y_TNK - logits).max()


def check(snn, x, steps=T):
    program = program_of(snn, steps)
    wrong, off = differing(snn, x, program)
    assert wrong <= 1e-5
    assert off < 1e-5
    return program


@pytest.mark.parametrize(("name", "neuron"), COMPILED)
def test_the_networks_of_users_with_every_neuron_of_a_membrane(name, neuron):
    check(spiking(name, neuron), draw(name, N).double())


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TORCHVISION]


@pytest.mark.parametrize("name", [*ZOO, *SLOW])
def test_the_zoo_and_torchvision(name):
    if name.startswith("torchvision"):
        pytest.importorskip("torchvision")
    check(spiking(name, "height"), draw(name, N).double())


@pytest.mark.parametrize("norm", ["bntt", "tdbn", "tebn"])
def test_norms_of_each_step_are_rows_of_scales_and_shifts(norm):
    snn = spiking("padded_shortcut", norm=norm)
    for name, parameter in snn.named_parameters():
        if parameter.shape[:1] == (T,) and "weight" in name:
            parameter.data *= torch.linspace(0.5, 1.5, T).view(T, *[1] * (parameter.dim() - 1))
    program = check(snn, draw("padded_shortcut", N).double())
    rows = {len(s.scale) for n in program.nodes if isinstance(n, Layer) for s in n.synapses}
    assert (T in rows) == (norm != "tdbn")


def test_frames_and_random_spikes_enter_one_step_at_a_time():
    x_TN = draw("padded_shortcut", T, N).double()
    assert not check(spiking("padded_shortcut", encode="frames"), x_TN).input.static
    snn = spiking("vector", encode="poisson").float()
    x = draw("vector", N)
    with torch.no_grad():
        torch.testing.assert_close(compile_engine(snn)(x), snn(x), rtol=1e-5, atol=1e-5)


class Parts(nn.Module):
    """What the zoo lacks: groups, dilation, "same", lines of pixels, upsampling, busy pools."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding="same")
        self.depthwise = nn.Conv2d(8, 16, 4, padding="same", groups=8)
        self.dilated = nn.Conv2d(16, 8, 3, dilation=2, padding=2, stride=(2, 1), groups=2)
        self.up = nn.Upsample(scale_factor=(2, 1))
        self.after = nn.Conv2d(8, 8, 1, bias=False)
        self.line = nn.Conv1d(8, 6, 3, padding=1)
        self.fc = nn.Linear(8 + 6, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(self.depthwise(F.avg_pool2d(x, 3, 1, padding=1)))
        x = F.relu(self.after(self.up(self.dilated(x)))) - 0.5 * x[:, :8]
        x = F.relu(x)
        whole = F.max_pool2d(x, 2).sum((2, 3)) / 64
        line = F.relu(self.line(x.flatten(2).mean(2, keepdim=True).expand(-1, -1, 4)))
        return self.fc(torch.cat([whole, line.mean(2)], 1))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@torch.no_grad()
def test_layers_that_the_zoo_lacks():
    torch.manual_seed(0)
    x = torch.randn(N, 3, 8, 8)
    neuron = LIF(0.2, 0.9, height="threshold", per="channel")
    snn = spike(Parts(), example_input=x[:1], timesteps=T, neuron=neuron).double()
    program = check(snn.eval(), x.double())
    kinds = {type(node) for node in program.nodes}
    assert kinds >= {Layer, Pool, Pad, Upsample}
    groups = [s.groups for n in program.nodes if isinstance(n, Layer) for s in n.synapses]
    assert {2, 8} <= set(groups)


@torch.no_grad()
def test_more_spikes_than_a_count_holds_are_summed_as_numbers():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, 2)
    )
    x = torch.rand(N, 1, 16, 16)
    snn = spike(net.eval(), example_input=x[:1], timesteps=T, neuron=LIF(0.05)).double()
    program = check(snn, x.double())
    assert [node.form for node in program.nodes] == ["spikes", "analog", "analog", "analog"]


@torch.no_grad()
def test_where_no_sum_rounds_spikes_and_logits_are_the_same_bits():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()
    )
    net = nn.Sequential(*net, nn.Flatten(), nn.Linear(32, 4))
    for parameter in net.parameters():
        parameter.copy_(torch.randint(-8, 9, parameter.shape) / 16)
    x = torch.randint(-4, 5, (N, 2, 8, 8)) / 8
    for options in (
        {"leak": 0.5},
        {"reset": "hard", "initial": "half"},
        {"reset": "undecayed"},
        {"floor": 0.25},
    ):
        snn = spike(net.eval(), example_input=x[:1], timesteps=T, neuron=LIF(0.5, **options))
        assert differing(snn, x, program_of(snn)) == (0, 0)


def test_a_flattened_image_keeps_its_order_through_neurons():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.BatchNorm1d(108),
        nn.ReLU(),
        nn.Linear(108, 4),
    )
    x = torch.rand(N, 2, 8, 8)
    snn = spike(
        net.eval(), example_input=x[:1], timesteps=T, neuron=LIF(0.1, per="neuron")
    ).double()
    program = check(snn, x.double())
    assert any(isinstance(node, Relabel) for node in program.nodes)


def test_spikes_beside_each_other_are_one_edge():
    program = program_of(spiking("dense"))
    assert any(isinstance(node, Concat) for node in program.nodes)


class Gate(nn.Module):
    def __init__(self, gate=True):
        super().__init__()
        self.conv, self.fc, self.gate = nn.Conv2d(2, 4, 3), nn.Linear(4, 3), gate

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = x * x.mean((2, 3), keepdim=True) if self.gate else x
        return self.fc(x.mean((2, 3)))


class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.conv, self.end = nn.Conv2d(2, 4, 3), end

    def forward(self, x):
        return self.end(F.relu(self.conv(x)))


def spiking_of(net, **options):
    options.setdefault("neuron", LIF(0.3))
    example = torch.rand(1, 2, 9, 9)
    return spike(net.eval(), example_input=example, timesteps=T, **options)


def conv_net(*middle, **conv):
    first = nn.Conv2d(2, 4, 3, **conv)
    return nn.Sequential(first, nn.ReLU(), *middle, nn.Flatten(), nn.LazyLinear(3))


def made(net):
    net(torch.rand(1, 2, 9, 9))
    return net


class Folded(nn.Module):
    """Spikes that a norm scales and shifts, some of them below 0, before their maximum."""

    def __init__(self, pool):
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), pool
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.pool(self.norm(F.relu(self.conv(x)))).flatten(1)


@pytest.mark.parametrize(
    "pool",
    [(2, 2, 0), (3, 2, 0), (3, 2, 1), (4, 3, 0), (2, 3, 0), ((2, 3), (2, 1), (0, 1))],
    ids=str,
)
@pytest.mark.parametrize("norm", [False, True])
def test_windows_that_reach_over_the_image(pool, norm):
    """7 rows and columns of spikes, which windows of ceil_mode need not divide."""
    torch.manual_seed(0)
    pool = nn.MaxPool2d(*pool, ceil_mode=True)
    if norm:
        net = Folded(pool)
        net.norm.weight.data.abs_()
    else:
        net = made(conv_net(pool))
    snn, x = spiking_of(net), torch.rand(N, 2, 9, 9)
    engine = compile_engine(snn)
    with torch.no_grad():
        torch.testing.assert_close(engine(x), snn(x), rtol=1e-5, atol=1e-5)
    assert 0.02 < engine.explain(x).layers[-1].density < 0.98


REFUSED = {
    r"2 .*ceil_mode unless": (
        lambda: spiking_of(made(conv_net(nn.AvgPool2d(2, ceil_mode=True)))),
        lambda: spiking_of(made(conv_net(nn.AvgPool2d(2)))),
    ),
    r"2 .*without dilation": (
        lambda: spiking_of(made(conv_net(nn.MaxPool2d(2, dilation=2)))),
        lambda: spiking_of(made(conv_net(nn.MaxPool2d(2, ceil_mode=True)))),
    ),
    r"2 neither scales, adds, moves nor pools samples of shape \(4, 7, 7\)": (
        lambda: spiking_of(made(conv_net(nn.GroupNorm(2, 4)))),
        lambda: spiking_of(made(conv_net())),
    ),
    r"2 multiplies signals .*; use convolutions with zero padding": (
        lambda: spiking_of(made(conv_net(nn.ConvTranspose2d(4, 4, 3)))),
        lambda: spiking_of(made(conv_net(nn.Conv2d(4, 4, 3, padding=2)))),
    ),
    r"0 .*use convolutions with zero padding": (
        lambda: spiking_of(made(conv_net(padding=1, padding_mode="reflect"))),
        lambda: spiking_of(made(conv_net(padding=1))),
    ),
    r"mul .*; leave it out": (lambda: spiking_of(Gate()), lambda: spiking_of(Gate(False))),
    r"returns several tensors": (
        lambda: spiking_of(Ending(lambda x: (x.mean((2, 3)), x.flatten(1)))),
        lambda: spiking_of(Ending(lambda x: x.mean((2, 3)))),
    ),
    r"returns a sample of shape \(4, 7, 7\).*end the network with": (
        lambda: spiking_of(Ending(lambda x: x)),
        lambda: spiking_of(Ending(lambda x: x.flatten(1))),
    ),
    r"getitem .*moves the entries|getitem.* \(4, 6, 7\).*leave it out": (
        lambda: spiking_of(Ending(lambda x: F.max_pool2d(x[:, :, 1:], 2).mean((2, 3)))),
        lambda: spiking_of(Ending(lambda x: F.max_pool2d(x, 2).mean((2, 3)))),
    ),
    r"2 is a linear layer over samples of shape \(4, 7, 7\).*flatten each sample": (
        lambda: spiking_of(made(conv_net(nn.Linear(7, 2)))),
        lambda: spiking_of(made(conv_net(nn.Flatten(), nn.Linear(196, 2)))),
    ),
    r"1 has another spike height at each pixel.*per='channel'": (
        lambda: spiking_of(made(conv_net()), neuron=LIF(0.3, height="threshold", per="neuron")),
        lambda: spiking_of(made(conv_net()), neuron=LIF(0.3, height="threshold", per="channel")),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_compiled_is_refused_and_what_is_advised_works(message):
    torch.manual_seed(0)
    refused, advised = REFUSED[message]
    snn = refused()
    if "another spike height" in message:
        snn.get_submodule("1").threshold.data[0, 0, 0] = 0.2
    with pytest.raises(LeanspikeError, match=message) as told:
        compile_engine(snn)
    assert "\n" not in str(told.value)
    snn, x = advised(), torch.rand(N, 2, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(compile_engine(snn)(x), snn(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("neuron", ["current", "adaptive", "relu"])
def test_neurons_of_another_kind_are_refused_by_their_path(neuron):
    with pytest.raises(LeanspikeError, match=r"neuron_0 is a \w+, .*neuron=leanspike\.LIF\(\)"):
        compile_engine(spiking("functional", neuron))


def test_membranes_are_held_at_their_floor(tmp_path):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2)).eval()
    x = torch.randn(6, 50, 3) * 4
    held, plain = (
        spike(ann, example_input=x[:, :1], neuron=LIF(0.2, floor=floor), encode="frames")
        for floor in (0.25, None)
    )
    expected = held(x).detach()
    assert not torch.equal(expected, plain(x))
    engine = compile_engine(held)
    torch.testing.assert_close(torch.as_tensor(engine(x)), expected)
    engine.save(tmp_path / "held.leanspike")
    again = Engine.load(tmp_path / "held.leanspike")
    found = again(x[:, :, None, None].numpy())
    torch.testing.assert_close(torch.as_tensor(found), expected)


def test_more_steps_than_a_norm_has_rows_are_refused():
    snn = spiking("vector", norm="bntt")
    snn.get_submodule("layers.2").weight.data[0] *= 2
    with pytest.raises(LeanspikeError, match=rf"no row for each of {T + 1} steps; give timesteps"):
        compile_engine(snn, timesteps=T + 1)
    engine = compile_engine(snn, timesteps=T)
    with pytest.raises(LeanspikeError, match=f"{T + 1} steps are asked for"):
        engine(draw("vector", 1), timesteps=T + 1)


def test_what_is_no_spiking_network_or_no_kind_of_weights_is_refused():
    with pytest.raises(LeanspikeError, match="snn is a Linear; give a spiking network, made with"):
        compile_engine(nn.Linear(2, 3))
    with pytest.raises(LeanspikeError, match="weights is 'int4'; choose one of f32, int8, int6"):
        compile_engine(spiking("vector"), weights="int4")


def test_the_network_stays_as_it_was():
    snn, x = spiking("dense"), draw("dense", N).double()
    with torch.no_grad():
        before = snn(x)
        compile_engine(snn)
        assert torch.equal(snn(x), before)
