"""Tracing: what code asks of shapes is answered where the answer is certain, and else refused."""

import math

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from leanspike import LeanspikeError, SurgeryError, spike

X = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A forward of its own behind a convolution."""

    def __init__(self, forward, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.compute = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.compute(self, F.relu(self.conv(x)))


def asserts(_net, h):
    b, c, height, width = h.shape
    assert c == 8, f"{c} channels"
    assert height == width
    return h.reshape(b, c, height * width)


def pads_to_a_multiple(_net, h):
    if h.shape[-1] % 4:
        h = F.pad(h, (0, 4 - h.shape[-1] % 4))
    return h


def loops_over_channels(net, h):
    parts = [net.one(h[:, k : k + 1]) for k in range(h.size(1))]
    return torch.cat(parts, 1)


def drops_paths(_net, h):
    shape = (h.shape[0],) + (1,) * (h.ndim - 1)
    return h * torch.ones(shape[1:])


def skips_where_it_fits(net, h):
    y = net.one(h)
    if h.shape == y.shape:
        y = y + h
    return y


def by_hand(_net, h):
    heads = int(h.shape[1] ** 0.5) if isinstance(h.shape[1], int) else int(math.sqrt(h.shape[1]))
    return h.view(h.shape[0], heads, -1, *h.shape[2:]).sum(1)


def upsamples_if_smaller(_net, h):
    small = F.max_pool2d(h, 2)
    if small.size()[2:] != h.size()[2:]:
        small = F.interpolate(small, size=h.shape[2:])
    return small + h


def unpacks_a_list(_net, h):
    return torch.cat([part * k for k, part in enumerate(h.chunk(4, 1))], 1)


def counts_axes(_net, h):
    return h.mean(list(range(2, h.dim()))) if len(h.shape) == 4 else h


def rank_and_numbers(_net, h):
    if h.dim() == 4 and h.size(1) in (8, 16):
        return h.flatten(1)
    return h


CONVERTS = {
    "asserts on shapes": (asserts, {}),
    "pads": (pads_to_a_multiple, {}),
    "a loop over channels": (loops_over_channels, {"one": nn.Conv2d(1, 1, 3)}),
    "rank": (drops_paths, {}),
    "same shape": (skips_where_it_fits, {"one": nn.Conv2d(8, 8, 1)}),
    "not the same shape": (skips_where_it_fits, {"one": nn.Conv2d(8, 8, 3)}),
    "square roots": (by_hand, {}),
    "upsampling": (upsamples_if_smaller, {}),
    "a list": (unpacks_a_list, {}),
    "axes": (counts_axes, {}),
    "membership": (rank_and_numbers, {}),
}


@pytest.mark.parametrize("case", CONVERTS)
@torch.no_grad()
def test_code_that_asks_for_shapes_converts(case):
    forward, parts = CONVERTS[case]
    ann = Net(forward, **parts).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2)
    torch.testing.assert_close(snn(X)[1], ann(X))
    torch.testing.assert_close(snn.step(X)[0], ann(X))


def test_samples_of_another_shape_are_refused_where_a_shape_decided_and_the_advice_works():
    ann = Net(pads_to_a_multiple).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    with pytest.raises(
        LeanspikeError, match=r"code branches on shapes, and was traced for samples"
    ):
        snn(X[:, :, :5, :5])
    other = spike(ann, example_input=X[:1, :, :5, :5], neuron=nn.ReLU())
    torch.testing.assert_close(other(X[:, :, :5, :5])[0], ann(X[:, :, :5, :5]))


def test_samples_of_another_shape_go_through_where_none_decided():
    def resizes(_net, h):
        return F.interpolate(F.max_pool2d(h, 2), size=h.shape[2:])

    ann = Net(resizes).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    larger = torch.rand(2, 4, 9, 8)
    torch.testing.assert_close(snn(larger)[0], ann(larger))


def larger_batch(_net, h):
    return h if h.shape[0] > 100 else h * 2


def of_one_shape(_net, h):
    return h if h.shape == (2, 8, 6, 6) else h * 2


def entries(_net, h):
    return h if h.numel() > 10_000 else h * 2


def halves(_net, h):
    return h[: int(h.shape[0] / 2)]


def counts_samples(_net, h):
    return torch.cat([h[k : k + 1] for k in range(len(h))])


def each_sample(_net, h):
    return torch.cat([sample.unsqueeze(0) for sample in h])


def value(_net, h):
    return h if h.max() > 0.5 else h * 2


def item(_net, h):
    return h * float(h.mean())


def asserts_values(_net, h):
    assert h.min() >= 0
    return h


def asserts_samples(_net, h):
    assert h.shape[0] < 64
    return h


def makes(_net, h):
    return h + torch.empty(h.shape[0], 8, 6, 6).zero_()


def assigns(_net, h):
    constant = torch.zeros(2, 8, 6, 6)
    constant[:, :4] = h[:, :4]
    return constant


def assigns_data(net, h):
    net.conv.weight.data = net.conv.weight.data.clamp(-1, 1)
    return h


def draws(_net, h):
    return h + torch.randn(h.shape[0], 8, 6, 6)


def overwrites_what_is_read(_net, h):
    before = h[:, :4]
    h[:, 0] = 0
    return h[:, :4] + before


def gradient(_net, h):
    return h if h.requires_grad else h * 2


def flag(net, h):
    return h if net.flag else h * 2


class Flagged(Net):
    """Holds a buffer that code may read."""

    def __init__(self, forward):
        super().__init__(forward)
        self.register_buffer("flag", torch.tensor(True))


REFUSED = {
    "larger batch": (larger_batch, "on the number of samples in `return h if h.shape[0] > 100"),
    "of one shape": (of_one_shape, "on the number of samples in"),
    "entries": (entries, "on the number of samples in"),
    "half the batch": (halves, "on the number of samples in"),
    "len": (counts_samples, "branches or counts on the number of samples in"),
    "each sample": (each_sample, "counts or loops over the samples in"),
    "a value": (value, "branches or counts on values in `return h if h.max() > 0.5"),
    "an item": (item, "branches or counts on values in `return h * float(h.mean())`"),
    "an assert on values": (asserts_values, "in `assert h.min() >= 0`; take the assert out"),
    "an assert on samples": (asserts_samples, "in `assert h.shape[0] < 64`; take the assert out"),
    "makes": (makes, "makes a tensor of a size that it computes in `return h + torch.empty("),
    "gradient": (gradient, "on the .requires_grad of a tensor"),
    "a buffer": (flag, "branches or counts on values in `return h if net.flag else h * 2`"),
    "assignment": (
        assigns,
        "to a constant in `constant[:, :4] = h[:, :4]`; make the constant for each sample",
    ),
    "assignment to data": (
        assigns_data,
        "assigns to the .data of a tensor in `net.conv.weight.data",
    ),
    "assigned and read": (
        overwrites_what_is_read,
        "add in the network itself reads it; assign to the tensor before any other call reads it",
    ),
    "draws": (draws, "draws random numbers of a size that it computes in `return h + torch.randn("),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("samples", [1, 2])
def test_code_that_one_path_does_not_hold_is_refused_for_what_it_is(case, samples):
    forward, message = REFUSED[case]
    with pytest.raises(SurgeryError) as error:
        spike(Flagged(forward).eval(), example_input=X[:samples])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


MENDED = {
    "made of another": (lambda _net, h: h + 0 * h, {}),
    "an assert taken out": (lambda _net, h: h, {}),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_the_advice_says_converts(case):
    forward, parts = MENDED[case]
    ann = Net(forward, **parts).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))


class Chooses(nn.Module):
    def forward(self, h):
        return h if h.max() > 0.5 else h * 2


def test_a_branch_in_a_declared_module_converts():
    ann = Net(lambda net, h: net.own(h), own=Chooses()).eval()
    spike(ann, example_input=X[:1], ops={Chooses: "analog"})


# -- arguments ---------------------------------------------------------------------------------


class Flags(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 3)

    def forward(self, x, return_hidden=False, *, scale=2.0, mask=None, **_rest):
        h = F.relu(self.conv(x))
        if mask is not None:
            h = h * mask
        return (h, h) if return_hidden else h * scale


class Star(nn.Module):
    def forward(self, *inputs):
        return F.relu(inputs[0])


@pytest.mark.parametrize("make", [Flags, Star])
def test_arguments_take_their_defaults(make):
    ann = make().eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))


class Two(nn.Module):
    def forward(self, x, y):
        return F.relu(x + y)


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x[:, :2], x[:, 2:])


def test_several_inputs_are_refused_and_a_wrapper_of_one_converts():
    with pytest.raises(SurgeryError, match=r"takes 2 inputs \(x, y\); wrap it in a module"):
        spike(Two(), example_input=X)
    snn = spike(Wrapped(Two()), example_input=X, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], Two()(X[:, :2], X[:, 2:]))


# -- functions that take no part in tracing ----------------------------------------------------


def own_function(h):
    return h if float(h.sum()) > 0 else h * 2


def test_a_function_of_ones_own_is_declared_like_a_module():
    ann = Net(lambda _net, h: own_function(h)).eval()
    with pytest.raises(SurgeryError, match="branches or counts on values in `return h if float"):
        spike(ann, example_input=X)
    snn = spike(ann, example_input=X, ops={own_function: "analog"}, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X[:1])[0], ann(X[:1]))


def test_einops_is_refused_by_its_name_and_the_advice_works():
    ann = Net(lambda _net, h: rearrange(h, "b (g c) h w -> b (c g) h w", g=2)).eval()
    with pytest.raises(
        SurgeryError, match=r"rearrange .*declare it with ops={rearrange: 'analog'}"
    ):
        spike(ann, example_input=X)
    snn = spike(ann, example_input=X, ops={rearrange: "same"}, neuron=nn.ReLU(), timesteps=2)
    torch.testing.assert_close(snn(X)[1], ann(X))


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_layers_are_refused_by_name(layer):
    def last(net, h):
        y = net.rnn(h.mean(2) if isinstance(net.rnn, nn.RNNBase) else h.mean((2, 3)))
        return y[0] if isinstance(y, tuple) else y

    size = 6 if issubclass(layer, nn.RNNBase) else 8
    with pytest.raises(SurgeryError, match=f"module rnn: {layer.__name__} .*recurrent layer"):
        spike(Net(last, rnn=layer(size, 3)), example_input=X)


class Noise(nn.Module):
    """Noise in training only, as in many a network."""

    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


def test_code_of_one_mode_in_a_declared_module_converts():
    ann = Net(lambda net, h: net.noise(h), noise=Noise()).eval()
    with pytest.raises(SurgeryError, match=r"computes something else in training .* ops={ThatMod"):
        spike(ann, example_input=X)
    snn = spike(ann, example_input=X, ops={Noise: "analog"}, neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))
    assert not torch.equal(snn.train()(X)[0], ann(X))


# -- what a forward makes and assigns ----------------------------------------------------------


def shifted(_net, h):
    """A shift of channels, as in temporal shift modules."""
    y = torch.zeros_like(h)
    y[:, :4, :, :-1] = h[:, :4, :, 1:]
    y[:, 4:] = h[:, 4:]
    return y


def filled(_net, h):
    y = torch.zeros(len(h), 4, 6, 6)
    y[:, ...] = h[:, :4]
    y[:, 0, 0, 0] = 3.0
    return y


ASSIGNS = {
    "shifted": shifted,
    "filled": filled,
    "len": lambda _net, h: h.view(len(h), len(h.shape), -1),
    "range": lambda _net, h: h + torch.arange(h.shape[3]) / len(h[0, :, 0].shape),
    "full": lambda _net, h: torch.cat([h, torch.full((len(h), 1, 6, 6), 0.5)], 1),
    "places": lambda _net, h: h.flatten(2).topk(2).values + h.flatten(2).max(2, keepdim=True)[0],
    "data": lambda _net, h: h.view(h.data.size(0), -1),
    "gathered": lambda _net, h: h.flatten(1).gather(1, h.flatten(1).argmax(1)[:, None]),
    "same padding": lambda net, h: F.pad(
        h, [(net.conv.weight.shape[-1] - h.shape[-1] + 5) // 2] * 4
    ),
}


@pytest.mark.parametrize("forward", ASSIGNS.values(), ids=ASSIGNS)
def test_what_is_assigned_and_made_of_sizes_converts(forward):
    ann = Net(forward).eval()
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU(), timesteps=2)
    with torch.no_grad():
        torch.testing.assert_close(snn(X)[1], ann(X))
    assert "len" not in globals()
    assert not isinstance(torch.zeros, type(forward))  # PyTorch's own again


# -- modules that a forward makes --------------------------------------------------------------


class Made(nn.Module):
    def __init__(self, forward, held=()):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        self.compute, self.held = forward, list(held)

    def forward(self, x):
        return self.compute(self, x)


@pytest.mark.parametrize(
    ("forward", "neuron"),
    [
        (lambda net, x: net.layers[2:](net.layers[:2](x)), "layers.1"),
        (lambda net, x: net.layers[2](nn.ReLU()(net.layers[0](x))), "neuron_0"),
        (lambda net, x: nn.Softmax(dim=1)(nn.Flatten()(net.layers(x))), "layers.1"),
    ],
)
def test_modules_without_weights_that_a_forward_makes_are_looked_into(forward, neuron):
    ann, x = Made(forward).eval(), torch.rand(2, 4)
    snn = spike(ann, example_input=x[:1], neuron=nn.ReLU())
    assert [path for path, _ in snn.neurons()] == [neuron]
    torch.testing.assert_close(snn(x)[0], ann(x))


def test_a_layer_that_is_no_part_of_the_network_is_refused_and_the_advice_works():
    ann = Made(lambda net, x: net.layers(net.held[0](x)), [nn.Linear(4, 4)]).eval()
    words = "calls a Linear that is not a part of the network .* an nn.ModuleList"
    with pytest.raises(SurgeryError, match=words):
        spike(ann, example_input=torch.rand(1, 4))
    ann.held = nn.ModuleList(ann.held)
    assert spike(ann, example_input=torch.rand(1, 4))(torch.rand(2, 4)).shape == (5, 2, 3)


@pytest.mark.parametrize("cast", [lambda x: x.to(X.dtype), lambda x: x.type_as(x)])
def test_casts_leave_spikes_spikes(cast):
    snn = spike(Net(lambda _net, x: cast(x)).eval(), example_input=X)
    casts = [n for n in snn.plan.graph.nodes if n.target in ("to", "type_as")]
    assert [node.meta["signal"].kind for node in casts] == ["spike"]


def in_half(_net, h):
    return h * 2 if h.dtype == torch.float16 else h


BY_TYPE = {
    "type": in_half,
    "cuda": lambda _net, h: h if h.is_cuda else h * 2,
    "place": lambda _net, h: h if h.device == torch.device("cuda") else h * 2,
    "name of the place": lambda _net, h: h if h.device.type == "mps" else h * 2,
    "one of these places": lambda _net, h: h if h.device.type in ("cuda", "xpu") else h * 2,
    "no such place": lambda _net, h: h if h.device.type != "cuda" else h * 2,
}
ALIKE = {
    "not meta": lambda _net, h: h if h.device.type != "meta" else h * 2,
    "floating": lambda _net, h: h if h.dtype != torch.long else h * 2,
    "of another": lambda net, h: h if h.dtype == net.conv.weight.dtype else h * 2,
    "no branch": lambda _net, h: h + torch.ones(8, 1, 1).to(device=h.device, dtype=h.dtype),
}


@pytest.mark.parametrize("case", BY_TYPE | ALIKE)
def test_a_branch_on_type_or_device_is_the_examples_and_said_where_another_may_differ(case, caplog):
    ann = Net((BY_TYPE | ALIKE)[case]).eval()
    with caplog.at_level("INFO", "leanspike"):
        snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(X)[0], ann(X))
    said = "the network's own forward: the code branches on the type or device of a tensor"
    assert (said in caplog.text) == (case in BY_TYPE)
    assert ("takes the branch for torch.float32 on cpu" in caplog.text) == (case in BY_TYPE)


def test_in_another_type_the_other_branch_is_taken_as_the_advice_says():
    ann = Net(lambda _net, h: h * 2 if h.dtype == torch.float64 else h).double().eval()
    snn = spike(ann, example_input=X[:1].double(), neuron=nn.ReLU())
    torch.testing.assert_close(snn(X.double())[0], ann(X.double()))


def test_what_is_made_of_a_buffer_follows_the_buffer():
    def scaled(net, h):
        return h * (net.flag + 1)

    ann, other = Flagged(scaled).eval(), Flagged(scaled).eval()
    other.flag.fill_(False)
    snn = spike(ann, example_input=X[:1], neuron=nn.ReLU())
    snn.load_ann(other.state_dict())
    torch.testing.assert_close(snn(X)[0], other(X))


class Same(nn.Conv2d):
    """Pads by the size of what comes in, as TensorFlow does."""

    def forward(self, x):
        pad = max((math.ceil(x.shape[-1] / 2) - 1) * 2 + 3 - x.shape[-1], 0)
        x = F.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


def test_sizes_behind_an_opened_layer_are_those_of_the_layer_itself():
    torch.manual_seed(0)
    ann = nn.Sequential(Same(4, 4, 3, 2), nn.ReLU(), Same(4, 4, 3, 2), Same(4, 4, 3, 2)).eval()
    x = torch.rand(2, 4, 21, 21)
    snn = spike(ann, example_input=x[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(x)[0], ann(x))
