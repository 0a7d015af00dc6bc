"""Layers that convolve by events: where they do, and where not; in networks."""

import copy
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from leanspike import LIF, native, spike
from leanspike.backends.native import convolution
from leanspike.synapse import EventConv2d

if not native.is_built():
    pytest.skip("the native library is not built", allow_module_level=True)

SPARSE = 0.1
NHWC = torch.channels_last
by_events = torch.ops.leanspike.convolution


def mostly_zeros(shape, density, seed=0, kind="spike"):
    """Spikes, or values of both signs, laid out as the native code wants them."""
    random = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=random) < density).float()
    if kind != "spike":
        x = x * torch.randn(shape, generator=random)
    return torch.empty(shape, memory_format=NHWC).copy_(x)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Where it is used.


class Operators(TorchDispatchMode):
    """Writes down the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def is_by_events(module, x):
    with Operators() as ran:
        module(x)
    return by_events in ran.names


@contextmanager
def everything_is_worth_it():
    with patch.object(convolution, "LEAST_WORK", 0):
        yield


@pytest.fixture(autouse=True)
def no_matrix_units():
    """Processors that have them leave convolutions in bfloat16 to PyTorch."""
    with patch.object(convolution, "_has_matrix_units", lambda: False):
        yield


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return EventConv2d.of(nn.Conv2d(64, 64, 3, padding=1).to(memory_format=NHWC))


SHAPE = (8, 64, 16, 16)


@pytest.mark.parametrize(("dtype", "densest"), convolution.DENSEST.items())
def test_what_is_sparse_enough_is_worked_on_by_events(layer, dtype, densest):
    layer.to(dtype)
    for density, expected in ((densest - 0.05, True), (densest + 0.05, False)):
        assert is_by_events(layer, mostly_zeros(SHAPE, density).to(dtype)) == expected


def test_output_channels_that_fill_no_block_must_be_sparser():
    layer = EventConv2d.of(nn.Conv2d(64, 16, 3, padding=1))
    assert is_by_events(layer, mostly_zeros(SHAPE, 0.05))
    assert not is_by_events(layer, mostly_zeros(SHAPE, 0.2))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 64, 3, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 3).double(),
    ],
    ids=["groups", "dilation", "circular", "same", "float64"],
)
def test_what_the_native_code_does_not_know_stays_torchs(conv):
    x = mostly_zeros(SHAPE, SPARSE).to(conv.weight.dtype)
    layer = EventConv2d.of(conv)
    assert not is_by_events(layer, x)
    assert torch.equal(layer(x), conv(x))


def test_few_pixels_must_be_sparser(layer):
    """Since the weights must be laid out once, whatever the batch."""
    few, many = mostly_zeros((2, 64, 8, 8), 0.2), mostly_zeros(SHAPE, 0.2)
    assert [is_by_events(layer, x) for x in (few, many)] == [False, True]
    assert is_by_events(layer, mostly_zeros((2, 64, 8, 8), 0.1))


def test_contiguous_images_are_worked_on_by_events_too_and_give_contiguous_ones(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    assert is_by_events(layer, x.contiguous())
    y = layer(x.contiguous())
    assert torch.equal(y, layer(x))
    assert y.is_contiguous()
    assert not is_by_events(layer, mostly_zeros(SHAPE, 0.9).contiguous())


def test_layouts_with_gaps_little_work_and_single_images_stay_torchs(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    assert not is_by_events(layer, torch.cat([x, x])[::2])
    assert not is_by_events(layer, x.contiguous().transpose(2, 3))
    assert not is_by_events(layer, x[:1, :, :2, :2].contiguous(memory_format=NHWC))
    assert not is_by_events(layer, x[0])
    assert layer(x[0]).shape == SHAPE[1:]


def test_processors_without_vectors_or_with_matrix_units_stay_with_torch(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    with patch.object(native, "available_instructions", lambda: ("plain",)):
        assert not is_by_events(layer, x)
    with patch.object(convolution, "_has_matrix_units", lambda: True):
        assert is_by_events(layer, x)
        assert not is_by_events(layer.bfloat16(), x.bfloat16())


def test_tensors_without_values_stay_with_torch(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer(mode.from_tensor(x)).shape == x.shape
    assert layer.to("meta")(x.to("meta")).shape == x.shape


def test_the_environment_and_the_compiler_can_ask_for_torchs(layer, monkeypatch):
    x = mostly_zeros(SHAPE, SPARSE)
    with patch.object(torch.compiler, "is_compiling", lambda: True):
        assert not is_by_events(layer, x)
    monkeypatch.setenv("LEANSPIKE_BACKEND", "reference")
    assert not is_by_events(layer, x)


def test_autocast_is_torchs(layer):
    conv = nn.Conv2d(64, 64, 3, padding=1)
    conv.load_state_dict(layer.state_dict())
    x, grad = mostly_zeros(SHAPE, SPARSE), normal(*SHAPE)
    found = []
    for module in (layer, conv):
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        y.backward(grad.to(y.dtype))
        found.append((y.detach(), module.weight.grad, module.bias.grad))
    with torch.autocast("cpu", torch.bfloat16):
        assert is_by_events(layer, x)
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2**-6, atol=2**-6 * float(b.abs().max()))


def test_other_channels_are_torchs_error(layer):
    with pytest.raises(RuntimeError, match="to have 64 channels, but got 32 channels"):
        layer(mostly_zeros((8, 32, 32, 32), SPARSE))


def test_autocast_leaves_float64_alone(layer):
    x = mostly_zeros(SHAPE, SPARSE).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.double()(x).dtype == torch.float64


def test_a_layer_of_another_dtype_than_its_input_is_torchs_error(layer):
    with pytest.raises(RuntimeError, match="should be the same"):
        layer(mostly_zeros(SHAPE, SPARSE).bfloat16())


def test_it_is_the_same_layer():
    conv = nn.Conv2d(4, 5, 3, stride=2, bias=False).eval()
    seen = []
    conv.register_forward_hook(lambda *_: seen.append(1))
    layer = EventConv2d.of(conv)
    assert layer.weight is conv.weight
    assert isinstance(layer, nn.Conv2d)
    assert not layer.training
    assert layer.state_dict().keys() == conv.state_dict().keys()
    layer(torch.zeros(1, 4, 8, 8))
    twin = copy.deepcopy(layer)
    assert isinstance(twin, EventConv2d)
    assert twin.weight is not conv.weight
    assert seen == [1]


# In a network.


class Branches(nn.Module):
    """Convolutions on analog, spiking, graded and mixed edges; one of a type of its own."""

    def __init__(self):
        super().__init__()
        self.analog = nn.Conv2d(3, 64, 3, padding=1)
        self.spiking = nn.Conv2d(64, 64, 3, padding=1)
        self.graded = nn.Conv2d(64, 64, 3, padding=1, stride=2)
        self.twice = nn.Conv2d(64, 64, 1)
        self.own = Own(64, 64, 1)
        self.relu, self.pool, self.mean = nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        static = self.analog(x)
        y = self.relu(self.twice(static))
        y = self.relu(self.twice(self.spiking(y)))
        y = self.relu(self.graded(self.pool(y)))
        y = self.relu(self.own(y))
        return self.out(self.mean(y).flatten(1))


class Own(nn.Conv2d):
    """A user's own convolution with a forward of its own, which is left alone."""

    def forward(self, x):
        return super().forward(x)


@pytest.fixture
def networks():
    """The same network twice: as the surgery makes it, and with PyTorch's convolutions."""
    torch.manual_seed(0)
    ann = Branches().to(memory_format=NHWC)
    neuron = LIF(0.3, learn=("leak", "threshold"))
    how = {"timesteps": 3, "neuron": neuron, "ops": {Own: "analog"}}
    snn = spike(ann, example_input=torch.zeros(1, 3, 16, 16), **how)
    dense = copy.deepcopy(snn)
    for path in ("spiking", "graded"):
        layer = getattr(dense, path)
        plain = nn.Conv2d(64, 64, 3, padding=1, stride=layer.stride)
        plain.load_state_dict(layer.state_dict())
        setattr(dense, path, plain.to(memory_format=NHWC))
    return snn, dense


def test_the_surgery_makes_those_event_driven_that_spikes_enter(networks):
    kinds = {path: type(m) for path, m in networks[0].named_modules() if isinstance(m, nn.Conv2d)}
    assert {path for path, kind in kinds.items() if kind is EventConv2d} == {"spiking", "graded"}
    assert kinds["own"] is Own
    assert kinds["analog"] is kinds["twice"] is nn.Conv2d


def test_a_network_learns_the_same(networks):
    x = normal(16, 3, 16, 16).to(memory_format=NHWC)
    outputs, gradients = [], []
    for network in networks:
        with patch.dict(convolution.DENSEST, {torch.float32: 1.0}), everything_is_worth_it():
            assert is_by_events(network, x) == (network is networks[0])
            y = network(x)
        y.sum(0).logsumexp(1).sum().backward()
        outputs.append(y.detach())
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    close = torch.isclose(*outputs, rtol=1e-4, atol=1e-4)
    assert close.float().mean() > 0.99  # a membrane at the threshold may fire in one of them
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert F.cosine_similarity(gradient.flatten(), other.flatten(), 0) > 0.999, name


def test_step_by_step_is_the_whole_sequence(networks):
    snn = networks[0].eval()
    x, state, steps = normal(4, 3, 16, 16).to(memory_format=NHWC), None, []
    with patch.dict(convolution.DENSEST, {torch.float32: 1.0}), everything_is_worth_it():
        whole = snn(x)
        for _ in range(3):
            y, state = snn.step(x, state)
            steps.append(y)
    close = torch.isclose(torch.stack(steps), whole, rtol=1e-4, atol=1e-4)
    assert close.float().mean() > 0.97
