"""Runs that halt: in little memory as in much, the same to the last bit."""

from copy import deepcopy
from unittest.mock import patch

import pytest
import torch
from torch import nn

from leanspike import LIF, calibrate, spike
from leanspike.surgery import sweep
from leanspike.surgery.frontier import PackedSpikes, pack, packed_bytes, unpack
from leanspike.surgery.sweep import Sweep
from networks import build, draw

T = 3
HOW = {
    "layerwise": {"preset": "paper", "percentile": 95},
    "one_pass": {"method": "one_pass", "scale": (0.5, 0.9), "statistics": "reestimate"},
    "reestimate": {"method": "layerwise", "scale": 0.7, "statistics": "reestimate"},
}


def spiking(name, **neuron):
    x = draw(name, 20)
    torch.manual_seed(0)
    return spike(build(name), example_input=x[:1], timesteps=T, neuron=LIF(**neuron)), x


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["resnet12", "same_block_twice", "padded_shortcut"])
def test_little_room_changes_no_bit(name, how):
    snn, x = spiking(name, height="threshold", initial="half")
    copy = deepcopy(snn)
    table = calibrate(snn, x, batch_size=6, **HOW[how])
    with patch.object(sweep, "ROOM", 0):
        assert calibrate(copy, x, batch_size=6, **HOW[how]) == table
    for key, value in snn.state_dict().items():
        assert torch.equal(value, copy.state_dict()[key]), key


class Heads(nn.Module):
    """Three outputs: one that no neuron reaches, and two in containers."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.norm = nn.Linear(6, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x):
        static = self.stem(x)
        early = torch.relu(static)
        late = torch.relu(self.norm(self.body(early)))
        return {"early": self.b(early), "late": [self.a(late), None], "static": static}


@pytest.mark.parametrize("how", HOW)
def test_several_outputs_are_answered_whatever_the_room(how):
    torch.manual_seed(0)
    x = torch.randn(20, 6)
    snn = spike(Heads().eval(), example_input=x[:1], timesteps=T, neuron=LIF(height="threshold"))
    copy = deepcopy(snn)
    table = calibrate(snn, x, batch_size=6, **HOW[how])
    with patch.object(sweep, "ROOM", 0):
        assert calibrate(copy, x, batch_size=20, **HOW[how]).agreement == table.agreement
    y = snn.eval()(x)
    assert [len(answers) for answers in Sweep(snn, x, T, 8).answers()] == [T, T]
    late = y["late"][0].cumsum(0).argmax(2)
    assert torch.equal(Sweep(snn, x, T, 8).answers()[1], late)


@torch.no_grad()
def test_where_there_is_little_room_batches_are_kept_as_bits():
    snn, x = spiking("resnet12")
    snn.eval()
    over = Sweep(snn, x, T, 5)
    stops = dict.fromkeys(snn.neuron_nodes())
    packed = []

    def visit(_node, inputs):
        for entering in inputs:
            assert entering.shape[:2] == (T, 5)
        packed.append(any(isinstance(v, PackedSpikes) for v in inputs.kept[-1].values()))
        assert len(inputs.kept) == 4

    with patch.object(sweep, "ROOM", 0):
        answers = over.halting(stops, visit)
    assert sum(packed) > len(packed) // 2
    assert [a.tolist() for a in answers] == [a.tolist() for a in over.answers()]


@torch.no_grad()
def test_large_images_are_computed_fewer_at_a_time():
    snn, x = spiking("functional")
    largest = 4 * 6 * 8 * 8 * T  # bytes of an image's largest value at all steps
    for images in (1, 3):
        with patch.object(sweep, "LARGEST", images * largest):
            assert {len(chunk) for chunk in Sweep(snn, x, T, 64).chunks} <= {images, 20 % images}
    assert [len(chunk) for chunk in Sweep(snn, x, T, 64).chunks] == [20]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("height", [1.0, 0.3])
def test_packed_spikes_are_the_spikes_again(layout, height):
    torch.manual_seed(0)
    x = height * (torch.rand(9, 5, 4, 4) < 0.3).float().contiguous(memory_format=layout)
    packed = PackedSpikes.of(x)
    again = packed.unpacked()
    assert torch.equal(again, x)
    assert again.stride() == x.stride()
    assert packed.bits.nbytes == x.numel() // 8


def test_heights_may_differ_from_place_to_place_and_nothing_else_is_packed():
    spikes = (torch.rand(9, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    of_each = spikes * torch.rand(5)
    assert torch.equal(PackedSpikes.of(of_each).unpacked(), of_each)
    for other in (spikes * torch.rand(9, 1), -spikes, spikes[:, ::2], spikes.bool(), spikes[:0]):
        assert PackedSpikes.of(other) is None


@torch.no_grad()
def test_memory_is_counted_once_for_what_views_share():
    snn = spike(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), example_input=torch.zeros(1, 4)
    )
    nodes = [node for node in snn.plan.graph.nodes if node.op != "get_attr"]
    x = torch.zeros(100, 8)
    assert packed_bytes({nodes[0]: x, nodes[1]: x[None]}) == x.nbytes
    env = {nodes[0]: x, nodes[1]: 3}
    assert unpack(pack(env)) == env
