"""Event-driven convolutions against PyTorch's in float64; where they are used, and where not."""

import copy
import os
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from leanspike import LIF, native, spike
from leanspike.errors import LeanspikeError
from leanspike.synapse import EventConv2d, convolution

if not native.is_built():
    pytest.skip("the native library is not built", allow_module_level=True)

SPARSE = 0.1
NHWC = torch.channels_last
by_events = torch.ops.leanspike.convolution

sizes = st.integers(1, 9)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
dtypes = st.sampled_from([torch.float32, torch.bfloat16])
instructions = st.sampled_from(native.available_instructions())


def use(name):
    return patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS=name)


def mostly_zeros(shape, density, seed=0, kind="spike"):
    """Spikes, or values of both signs, laid out as the native code wants them."""
    random = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=random) < density).float()
    if kind != "spike":
        x = x * torch.randn(shape, generator=random)
    return torch.empty(shape, memory_format=NHWC).copy_(x)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def results(convolve, x, weight, bias, grad):
    """The output and the gradients of all that there is."""
    leaves = [t if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    y = convolve(*leaves)
    y.backward(grad)
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


def assert_close(found, expected, dtype):
    """Equal up to some roundings of the largest value."""
    rounding = 1e-5 if dtype == torch.float32 else 2**-7
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == dtype
        atol = rounding * max(1.0, float(b.abs().max()) if b.numel() else 0.0)
        torch.testing.assert_close(a.double(), b, rtol=rounding, atol=atol)


@given(
    st.integers(1, 3),
    st.sampled_from([1, 3, 16, 33, 130]),
    st.sampled_from([1, 5, 64, 70]),
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pairs,
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(["spike", "graded"]),
    st.booleans(),
    dtypes,
    instructions,
    st.integers(0, 99),
)
@settings(max_examples=250)
def test_results_and_gradients_are_those_of_float64(
    n, channels, outputs, size, kernel, stride, padding, density, kind, biased, dtype, name, seed
):
    padding = [min(p, k) for p, k in zip(padding, kernel, strict=True)]
    size = [max(s, k - 2 * p) for s, k, p in zip(size, kernel, padding, strict=True)]
    x = mostly_zeros((n, channels, *size), density, seed, kind).to(dtype)
    weight = normal(outputs, channels, *kernel, seed=seed).to(dtype)
    bias = normal(outputs, seed=seed).to(dtype) if biased else None

    def exact(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding)

    wide = [t if t is None else t.double() for t in (x, weight, bias)]
    grad = normal(*exact(*wide).shape, seed=seed).to(dtype)
    with use(name):
        found = results(lambda *t: by_events(*t, list(stride), padding), x, weight, bias, grad)
    expected = results(exact, *wide, grad.double())
    if dtype == torch.bfloat16 and stride != (1, 1):
        del found[2], expected[2]  # torch's, which is garbage on maps of one pixel (docs/log.md)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("name", native.available_instructions())
@pytest.mark.parametrize("stride", [1, 2])
def test_exact_where_the_arithmetic_is(name, stride):
    """Sums of eighths: no order of adding them up rounds."""
    x = mostly_zeros((2, 40, 9, 9), 0.3)
    weight = normal(70, 40, 3, 3).mul(8).round().div(8)
    with use(name):
        y = by_events(x, weight, None, [stride] * 2, [1, 1])
    assert torch.equal(y, F.conv2d(x, weight, stride=stride, padding=1))
    assert y.is_contiguous(memory_format=NHWC)


@pytest.mark.parametrize("shape", [(1, 64, 70, 90), (3, 200, 30, 30), (2, 8, 3, 400), (9, 4, 2, 2)])
def test_images_that_are_worked_on_in_pieces(shape):
    """More than fits a strip, a tile, a block; fewer images than threads, and more."""
    x, weight = mostly_zeros(shape, SPARSE), normal(130, shape[1], 3, 3)
    grad = normal(shape[0], 130, *shape[2:])
    found = results(lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, grad)
    wide = x.double(), weight.double(), None
    assert_close(found, results(lambda *t: F.conv2d(*t, padding=1), *wide, grad.double()), x.dtype)


@pytest.mark.parametrize("pool", ["torch's threads", "threads of its own"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(pool, dtype, monkeypatch):
    if pool == "threads of its own":
        monkeypatch.setattr(native, "_parallel", lambda _: None)
    x, weight = mostly_zeros((6, 64, 12, 12), SPARSE).to(dtype), normal(96, 64, 3, 3).to(dtype)
    grad, found, before = normal(6, 96, 12, 12).to(dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = by_events(x, weight, None, [1, 1], [1, 1])
            gradient = torch.ops.leanspike.convolution_weight_gradient(
                grad.contiguous(memory_format=NHWC), x, weight, [1, 1]
            )
            found.append((y, gradient))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


def test_nan_reaches_what_it_reaches_elsewhere():
    x, weight = mostly_zeros((1, 16, 8, 8), SPARSE), normal(16, 16, 3, 3)
    x[0, 3, 4, 5] = float("nan")
    y = by_events(x, weight, None, [1, 1], [1, 1])
    assert torch.equal(y.isnan(), F.conv2d(x, weight, padding=1).isnan())


@pytest.mark.parametrize("shape", [(2, 7, 6, 6), (2, 8, 6, 2), (2, 8, 1, 6)])
def test_what_does_not_fit_the_weights_is_an_error(shape):
    x, weight = mostly_zeros(shape, SPARSE), normal(4, 8, 3, 3)
    with pytest.raises(RuntimeError, match=r"does not fit weights of shape \(4, 8, 3, 3\)"):
        by_events(x, weight, None, [1, 1], [0, 0])


def test_other_layouts_of_input_and_gradient_are_taken_too():
    x, weight, grad = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(2, 4, 6, 6)
    expected = results(lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, grad)
    strange = torch.cat([x, x], 2).contiguous()[:, :, :6]
    turned = grad.transpose(2, 3).contiguous().transpose(2, 3)
    found = results(lambda *t: by_events(*t, [1, 1], [1, 1]), strange, weight, None, turned)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[1], expected[1])  # torch's, whose order may differ


def test_an_empty_batch_has_gradients_of_zero():
    x, weight = torch.zeros(0, 16, 8, 8), normal(8, 16, 3, 3)
    y, _, gradient = results(
        lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, torch.zeros(0, 8, 8, 8)
    )
    assert y.shape == (0, 8, 8, 8)
    assert torch.equal(gradient, torch.zeros_like(weight))


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_only_what_is_wanted_is_computed(wanted, stride):
    x, weight, bias = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(4)
    grad = normal(2, 4, 6 // stride, 6 // stride)
    how = [stride] * 2, [1, 1]
    leaves = [t.requires_grad_(bool(w)) for t, w in zip((x, weight, bias), wanted, strict=True)]
    by_events(*leaves, *how).backward(grad)
    full = results(lambda *t: by_events(*t, *how), x, weight, bias, grad)[1:]
    for leaf, expected, want in zip(leaves, full, wanted, strict=True):
        assert torch.equal(leaf.grad, expected) if want else leaf.grad is None


def test_gradients_lie_as_the_weights_do():
    x, weight = mostly_zeros((2, 16, 6, 6), SPARSE), normal(8, 16, 3, 3).to(memory_format=NHWC)
    _, grad_x, grad_weight = results(
        lambda *t: by_events(*t, [1, 1], [1, 1]), x, weight, None, normal(2, 8, 6, 6)
    )
    assert grad_x.stride() == x.stride()
    assert grad_weight.stride() == weight.stride()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
def test_torch_accepts_the_operators():
    x, weight, bias = mostly_zeros((2, 8, 6, 6), SPARSE), normal(4, 8, 3, 3), normal(4)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    torch.library.opcheck(by_events.default, (*leaves, [1, 1], [1, 1]))
    grad = mostly_zeros((2, 4, 6, 6), 1.0)
    torch.library.opcheck(
        torch.ops.leanspike.convolution_weight_gradient.default,
        (grad, x.detach(), weight.detach(), [1, 1]),
    )


def test_too_little_memory_is_an_error():
    call = convolution._Call(images=1, channels=2**45, outputs=1, weight=1)
    call.rows = call.columns = convolution._Axis(1, 1, 1, 1, 0)
    with pytest.raises(MemoryError, match="native convolution"):
        convolution._run(call)


def test_density_is_that_of_a_sample_spread_evenly():
    for dtype in (torch.float32, torch.bfloat16):
        x = mostly_zeros((8, 64, 32, 32), 0.2).to(dtype)
        assert convolution.density(x) == pytest.approx(0.2, abs=0.02)
        assert convolution.density(-0.0 * x) == 0.0
    half = torch.cat([torch.ones(2**20), torch.zeros(2**20)])
    assert convolution.density(half) == 0.5
    assert convolution.density(torch.zeros(0)) == 0.0


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


def test_other_layouts_little_work_and_single_images_stay_torchs(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    assert not is_by_events(layer, x.contiguous())
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
    monkeypatch.setenv("LEANSPIKE_KERNEL", "reference")
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


def test_second_derivatives_are_refused(layer):
    x = mostly_zeros(SHAPE, SPARSE)
    y = by_events(x, layer.weight, None, [1, 1], [1, 1])
    (grad,) = torch.autograd.grad(y.square().sum(), layer.weight, create_graph=True)
    with pytest.raises(LeanspikeError, match="no second derivatives"):
        grad.sum().backward()


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
    """A user's own convolution, which is left alone."""


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
