"""What a target cannot hold is refused by its path, and the way out works when it is followed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from leanspike import LIF, AdaptiveLIF, CurrentLIF, LeanspikeError, spike, to_nir
from leanspike.export import TARGETS, prove, write_nir
from leanspike.optional import installed
from leanspike.recipes import load_recipe
from portable_networks import Parallel, portable_network

pytest.importorskip("nir")
SHAPE = (3, 8, 8)


def network(ann: nn.Module | None = None, shape=SHAPE, norm="keep", neuron=None, **options):
    """A small network, or another, with thresholds that differ where there are several."""
    neuron = LIF(**options) if neuron is None else neuron
    ann = small() if ann is None else ann
    snn = spike(ann.eval(), example_input=torch.zeros(1, *shape), neuron=neuron, norm=norm)
    for _, neuron in snn.neurons():
        if neuron.threshold.ndim:
            neuron.threshold.data[0] += 1
    return snn


def small(pool: nn.Module | None = None) -> nn.Module:
    """Two layers of neurons, a norm and a pool."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), pool or nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    )


def vectors() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def image(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *layers)


def with_head(*layers: nn.Module) -> nn.Module:
    found = image(*layers, nn.Flatten(), nn.LazyLinear(3))
    found(torch.zeros(1, *SHAPE))
    return found


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), *layers)


Make = Callable[[], object]
REFUSALS: dict[str, tuple[str, Make, str, Make]] = {
    "max pools": (
        "norse",
        lambda: network(small(nn.MaxPool2d(2))),
        "module 2: MaxPool2d takes maxima, .*model.options.pool=avg, or nn.AvgPool2d",
        lambda: network(small(nn.AvgPool2d(2))),
    ),
    "norms of each step": (
        "norse",
        lambda: network(small(), norm="bntt"),
        r'module 4: this norm differs .* train with norm="tdbn" or norm="keep"',
        lambda: network(small(), norm="tdbn"),
    ),
    "leaks of images": (
        "sinabs",
        lambda: network(image(), leak=0.5),
        r"module 1: sinabs reads no leaks of layers of images \(leak=1.0 is none\); train a net",
        lambda: network(image(), leak=1.0, learn=("threshold",)),
    ),
    "half a threshold": (
        "norse",
        lambda: network(initial="half"),
        r"module 1: its membranes begin at half a threshold, .*spike.neuron.initial=z",
        lambda: network(initial="zero"),
    ),
    "soft reset": (
        "snntorch",
        lambda: network(),
        r'module 1: it subtracts the threshold, and snnTorch .*reset="hard"',
        lambda: network(reset="hard"),
    ),
    "hard reset": (
        "sinabs",
        lambda: network(reset="hard"),
        r'module 1: it resets to 0, and sinabs subtracts it at once; train with reset="soft"',
        lambda: network(reset="soft"),
    ),
    "undecayed reset": (
        "norse",
        lambda: network(reset="undecayed", leak=0.5),
        r'subtracts the threshold after the leak, and Norse .*reset="soft"',
        lambda: network(reset="soft", leak=0.5),
    ),
    "leaks": (
        "speck",
        lambda: network(leak=0.5),
        r"its membranes leak, but those of Speck do not; train with leak=1.0, learn=",
        lambda: network(leak=1.0, learn=("threshold",)),
    ),
    "floors": (
        "norse",
        lambda: network(floor=1.0),
        r"it holds membranes at -1 thresholds, but those of Norse may fall lower; .*floor=N",
        lambda: network(floor=None),
    ),
    "other floors": (
        "sinabs",
        lambda: network(floor=0.5),
        r"it holds membranes at -0.5 thresholds, .* sinabs are held at -1; .*floor=1.0 \(",
        lambda: network(floor=1.0),
    ),
    "a threshold for each channel": (
        "snntorch",
        lambda: network(per="channel", reset="hard"),
        r'have thresholds or leaks of their own, but snnTorch has one .*per="layer"',
        lambda: network(per="layer", reset="hard"),
    ),
    "heights of each neuron": (
        "norse",
        lambda: network(
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU()),
            per="neuron",
            height="threshold",
        ),
        r'module 2: it would need a factor for each entry, .*per="channel" or per="layer"',
        lambda: network(
            nn.Sequential(
                nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Identity()
            ),
            per="channel",
        ),
    ),
    "other neurons": (
        "norse",
        lambda: spike(
            small().eval(), example_input=torch.zeros(1, *SHAPE), neuron=AdaptiveLIF(), norm="keep"
        ),
        r"module 1: other libraries have no AdaptiveLIF; .*neuron=LIF\(\) \(spike.neuron.name=lif",
        lambda: network(),
    ),
    "no neurons": (
        "norse",
        lambda: spike(small().eval(), example_input=torch.zeros(1, *SHAPE), neuron=nn.ReLU()),
        r"module 1: other libraries have no ReLU",
        lambda: network(),
    ),
    "uneven windows": (
        "norse",
        lambda: network(with_head(nn.AvgPool2d(3, ceil_mode=True))),
        "module 2: its windows do not all have the same size",
        lambda: network(with_head(nn.AvgPool2d(3, ceil_mode=False))),
    ),
    "adaptive windows": (
        "norse",
        lambda: network(with_head(nn.AdaptiveAvgPool2d(3))),
        r"module 2: pooling from \(4, 8, 8\) to \(4, 3, 3\) has windows of several sizes",
        lambda: network(with_head(nn.AdaptiveAvgPool2d(4))),
    ),
    "padded pools": (
        "snntorch",
        lambda: network(with_head(nn.AvgPool2d(2, padding=1)), reset="hard"),
        "module 2: readers of NIR leave out the padding of a pool; train with padding=0",
        lambda: network(with_head(nn.AvgPool2d(2, padding=0)), reset="hard"),
    ),
    "other padding": (
        "norse",
        lambda: network(image(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))),
        r"module 2: it pads with padding_mode='circular', .* train with padding_mode='zeros'",
        lambda: network(image(nn.Conv2d(4, 4, 3, padding=1, padding_mode="zeros"))),
    ),
    "uneven padding": (
        "norse",
        lambda: network(image(nn.Conv2d(4, 4, 2, padding="same"))),
        r"module 2: padding='same' pads \(2, 2\) on one side .* train with odd kernels",
        lambda: network(image(nn.Conv2d(4, 4, 3, padding="same"))),
    ),
    "sequences": (
        "norse",
        lambda: network(sequence(), (2, 8)),
        "module 0: Norse reads no Conv1d; .*: spikingjelly, spinnaker2",
        lambda: network(nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU()), (2, 8)),
    ),
    "convolutions": (
        "xylo",
        lambda: network(),
        "module 0: Xylo reads no Conv2d; .*: norse, ",
        lambda: network(vectors(), (4,), neuron=CurrentLIF()),
    ),
    "synapses without a leak": (
        "xylo",
        lambda: network(vectors(), (4,), leak=0.5),
        r"module 1: its synapses have no leak, but those of Xylo have one; .*neuron.name=cuba_lif",
        lambda: network(vectors(), (4,), neuron=CurrentLIF(leak=0.5)),
    ),
    "membranes that keep nothing": (
        "xylo",
        lambda: network(vectors(), (4,), neuron=CurrentLIF(leak=0.0)),
        r"module 1: its membranes keep nothing .* as leak=0.9 \(spike.neuron.leak=0.9\)",
        lambda: network(vectors(), (4,), neuron=CurrentLIF(leak=0.9)),
    ),
    "parallel branches": (
        "norse",
        lambda: network(Parallel()),
        "module relu3: Norse reads no two branches with layers of their own .*: spikingjelly",
        lambda: portable_network("skip"),
    ),
    "branches": (
        "speck",
        lambda: portable_network("skip"),
        "module relu3: Speck reads no branches; train a network without",
        lambda: network(),
    ),
    "linear layers of images": (
        "norse",
        lambda: network(image(nn.Linear(8, 8))),
        r"module 2: this linear layer reads the shape \(4, 8, 8\), .* put nn.Flatten\(\) before it",
        lambda: network(image(nn.Flatten(), nn.Linear(256, 8))),
    ),
    "other operations": (
        "norse",
        lambda: network(image(nn.Upsample(scale_factor=2))),
        "module 2: Upsample cannot be exported, since NIR holds convolutions",
        lambda: network(image()),
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_leave_is_refused_by_its_path_and_the_way_out_works(what):
    target, refused, message, mended = REFUSALS[what]
    with pytest.raises(LeanspikeError, match=message) as error:
        to_nir(refused(), target)
    assert "\n" not in str(error.value)
    to_nir(mended(), target)
    for keys in re.findall(r"\(((?:spike|model)\.[^(), ]+(?: spike\.[^() ]+)*)", str(error.value)):
        load_recipe("digits", keys.split())


APPROXIMATED = [
    "half a threshold",
    "soft reset",
    "hard reset",
    "undecayed reset",
    "leaks",
    "floors",
]


@pytest.mark.parametrize("what", [*APPROXIMATED, "a threshold for each channel"])
def test_with_approximate_it_is_written_and_said(what):
    target, refused, _, _ = REFUSALS[what]
    snn = refused()
    with pytest.raises(
        LeanspikeError, match=r"or write an approximation with approximate=True \(--"
    ):
        to_nir(snn, target)
    said = to_nir(snn, target, approximate=True).metadata["approximated"]
    assert said.count("module ") == len(list(snn.neurons()))


def test_what_nothing_comes_near_is_refused_with_approximate_too():
    with pytest.raises(LeanspikeError, match="takes maxima"):
        to_nir(network(small(nn.MaxPool2d(2))), approximate=True)


def test_several_outputs_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.relu = nn.Linear(2, 2), nn.ReLU()

        def forward(self, x):
            x = self.relu(self.one(x))
            return x, x + x

    with pytest.raises(LeanspikeError, match="returns several tensors"):
        to_nir(network(Two(), (2,)))


def test_a_target_that_is_none_is_refused():
    with pytest.raises(LeanspikeError, match=r"target is 'snntorc'.*did you mean 'snntorch'"):
        to_nir(network(), "snntorc")


WRONG = {
    "initial": "half",
    "leak": 0.5,
    "per": "channel",
    "floor": 0.5,
}
"""Options each of which some target has not."""


def followed(target: str, kind: type, given: dict) -> tuple[object, object, list[str]]:
    """Ask until the network can leave, each time with what the message says: network and graph."""
    options, pool, told = dict(given), nn.MaxPool2d(2), []
    norm = "keep" if target == "xylo" else "bntt"
    while len(told) < 10:
        ann, shape = (vectors(), (4,)) if target == "xylo" else (small(pool), SHAPE)
        snn = network(ann, shape, norm, neuron=kind(**options))
        try:
            return snn, to_nir(snn, target), told
        except LeanspikeError as error:
            told.append(str(error))
        assert told.count(told[-1]) == 1, "what it said did not help"
        advice = re.search(r"train with (\w+=.*?) \((?:spike|model)", told[-1])
        if "nn.AvgPool2d" in told[-1]:
            pool = nn.AvgPool2d(2)
        elif "norm=" in told[-1]:
            norm = "keep"
        elif "leak=1.0 is none" in told[-1]:
            options["leak"] = 1.0
        elif advice and advice[1].startswith("neuron="):
            kind = CurrentLIF
        else:
            assert advice, told[-1]
            options |= eval(f"dict({advice[1]})")
    raise AssertionError(told)


@pytest.mark.filterwarnings("ignore")  # those of the libraries that read
@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("target", TARGETS)
def test_who_follows_what_each_target_says_ends_with_a_file_that_it_reads(target, reset, tmp_path):
    torch.manual_seed(1)
    snn, graph, told = followed(target, LIF, {**WRONG, "reset": reset})
    assert len(told) >= 3
    path = write_nir(graph, tmp_path / "net.nir")
    x = torch.rand(4, *snn.plan.sample_shape)  # numbers are no grid: a spike or two may flip
    proof = prove(snn, path, target, [(x, None)], by_rules=True)
    spikes = sum(sum(layer.spikes) for layer in proof.layers)
    assert proof.mismatches <= spikes / 50
    if target in ("norse", "spikingjelly", "snntorch") and installed(target):
        assert prove(snn, path, target, [(x, None)]).mismatches <= spikes / 50
