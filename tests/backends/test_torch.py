"""That torch's machinery sees through the choice of a backend."""

import copy

import pytest
import torch
from torch import nn

from leanspike import native as library
from leanspike.backends import use_backend
from leanspike.neuron import LIF
from leanspike.temporal import broadcast

built = pytest.mark.skipif(not library.is_built(), reason="the native library is not built")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("LEANSPIKE_BACKEND", raising=False)
    monkeypatch.delenv("LEANSPIKE_INSTRUCTIONS", raising=False)


class Network(nn.Module):
    """A static first layer and a second one, both of spikes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3)
        self.neuron = LIF(0.3, 0.9, learn=("leak", "threshold"), height="threshold")
        self.second = nn.Conv2d(4, 5, 3)
        self.neuron2 = LIF(0.1, learn=("leak", "threshold"), initial="half")

    def forward(self, x):
        y = self.first(x)
        y = self.neuron(broadcast(y, 3))
        return self.neuron2(self.second(y.flatten(0, 1)).unflatten(0, (3, -1)))


def results(network, images):
    """The spikes and all gradients."""
    network.zero_grad()
    y = network(images)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    assert 0 < y.count_nonzero() < y.numel()
    return [y.detach(), *(p.grad.clone() for p in network.parameters())]


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@built
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compile_gives_the_same(layout):
    network = Network().to(memory_format=layout)
    images = IMAGES.to(memory_format=layout)
    expected = results(network, images)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(results(compiled, images), expected)


@built
def test_export_contains_the_operator():
    exported = torch.export.export(Network(), (IMAGES,))
    names = [str(node.target) for node in exported.graph.nodes]
    assert names.count("leanspike.lif.default") == 2
    assert torch.equal(exported.module()(IMAGES), Network()(IMAGES))


def test_inference_autocast_and_copies():
    network = Network()
    expected = network(IMAGES)
    with torch.inference_mode():
        assert torch.equal(network(IMAGES), expected)
        assert torch.equal(copy.deepcopy(network)(IMAGES), expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(network, IMAGES)
        with use_backend("reference"):
            expected = results(network, IMAGES)
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * float(b.abs().max()))
