"""Which kernel serves what, and that torch's machinery sees through the choice."""

import copy
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch
from torch import nn

from leanspike import native as library
from leanspike.errors import LeanspikeError
from leanspike.neuron import LIF, Triangle, kernels
from leanspike.neuron.kernels import Dynamics, native, reference
from leanspike.temporal import broadcast

built = pytest.mark.skipif(not library.is_built(), reason="the native kernel is not built")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("LEANSPIKE_KERNEL", raising=False)
    monkeypatch.delenv("LEANSPIKE_INSTRUCTIONS", raising=False)


def kernel_for(x, leak=None, threshold=None, dynamics=Dynamics()):  # noqa: B008 (frozen)
    """The name of the kernel that serves these arguments."""
    leak = torch.tensor(0.9) if leak is None else leak
    threshold = torch.tensor(0.7) if threshold is None else threshold
    with (
        patch.object(native, "lif", lambda *_: "native"),
        patch.object(reference, "lif", lambda *_: "reference"),
    ):
        return kernels.lif(x, leak, threshold, dynamics)


@dataclass(frozen=True)
class Ours(Triangle):
    def derivative(self, z):
        return torch.ones_like(z)


@built
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native_serves_float32_and_bfloat16_on_the_cpu(dtype):
    assert kernel_for(torch.zeros(2, 3, dtype=dtype)) == "native"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_reference_serves_other_dtypes(dtype):
    assert kernel_for(torch.zeros(2, 3, dtype=dtype)) == "reference"


def test_reference_serves_what_native_does_not_know():
    x = torch.zeros(2, 3)
    assert kernel_for(x.to("meta")) == "reference"
    assert kernel_for(x, leak=torch.tensor(0.9, dtype=torch.float64)) == "reference"
    assert kernel_for(x, threshold=torch.ones(3)) == "reference"  # one threshold per neuron
    assert kernel_for(x, dynamics=Dynamics(surrogate=Ours())) == "reference"
    assert kernel_for(torch.zeros(2)) == "reference"


@built
def test_the_environment_chooses(monkeypatch):
    for choice, kernel in (("reference", "reference"), ("native", "native"), ("auto", "native")):
        monkeypatch.setenv("LEANSPIKE_KERNEL", choice)
        assert kernel_for(torch.zeros(2, 3)) == kernel


def test_an_unknown_choice_is_an_error(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_KERNEL", "fast")
    with pytest.raises(LeanspikeError, match="LEANSPIKE_KERNEL is 'fast'; choose auto, native or"):
        kernel_for(torch.zeros(2, 3))


@pytest.fixture
def not_built(monkeypatch):
    monkeypatch.setattr(library, "_find", lambda: None)
    library._load.cache_clear()
    yield
    library._load.cache_clear()


@pytest.mark.usefixtures("not_built")
def test_native_without_a_build_is_an_error(monkeypatch):
    monkeypatch.setenv("LEANSPIKE_KERNEL", "native")
    with pytest.raises(LeanspikeError, match="native kernel is not built: install a C comp"):
        kernel_for(torch.zeros(2, 3))


@pytest.mark.usefixtures("not_built")
def test_without_a_build_the_reference_serves_and_says_so_once(caplog):
    library._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="leanspike"):
        assert [kernel_for(torch.zeros(2, 3)) for _ in range(2)] == ["reference"] * 2
    assert len(caplog.messages) == 1
    assert "slow reference; the native kernel is not built" in caplog.text


@built
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
@pytest.mark.parametrize("x", [torch.randn(3, 4), torch.randn(3, 4, 2)[..., :1]])
def test_torch_accepts_the_operators(x):
    leak, threshold = torch.tensor(0.9, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    settings = [0, 1, 1, 0], [0.3, 1.0]
    torch.library.opcheck(
        torch.ops.leanspike.lif.default, (x.requires_grad_(), leak, threshold, False, *settings)
    )
    saved = x.detach(), leak.detach(), threshold.detach()
    arguments = (torch.ones_like(x), *saved, False, *settings, True, True)
    torch.library.opcheck(torch.ops.leanspike.lif_backward.default, arguments)


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


@built
def test_the_first_call_imports_no_compiler():
    """It would take longer than the import of torch; so it does with `torch.library.custom_op`."""
    code = (
        "import sys, torch; from leanspike import LIF; "
        "LIF()(torch.ones(2, 3, requires_grad=True)).sum().backward(); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    environment = os.environ | {"LEANSPIKE_KERNEL": "native"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "False"]


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
        with pytest.MonkeyPatch.context() as m:
            m.setenv("LEANSPIKE_KERNEL", "reference")
            expected = results(network, IMAGES)
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * float(b.abs().max()))
