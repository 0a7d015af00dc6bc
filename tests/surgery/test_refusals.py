"""What is not time-safe is refused, by the place where it stands and with the way out."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LeanspikeError, SurgeryError, spike

IMAGE = (4, 6, 6)


class Outer(nn.Module):
    """A network whose second module is the offending one, at the path "body"."""

    def __init__(self, body):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.body = body

    def forward(self, x):
        return self.body(self.relu(self.conv(x)))


class Body(nn.Module):
    """A module whose forward is a function of itself and its input."""

    def __init__(self, forward, **children):
        super().__init__()
        self.compute = forward
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        return self.compute(self, x)


def body(forward, **children):
    return lambda: Body(forward, **children)


def unused_in_place(_self, x):
    F.relu_(x - 1)
    return x


def read_after_in_place(_self, x):
    y = x - 1
    return F.relu(y, inplace=True) + y


def read_under_another_name(_self, x):
    y = x - 1
    flat = y.flatten(1)
    y += 1
    return flat + y.flatten(1)


def value_dependent_loop(_self, x):
    while x.sum() > 1:
        x = x / 2
    return x


def batch_dependent_branch(_self, x):
    return x if x.shape[0] > 1 else -x


def mode_dependent(self, x):
    return x * 2 if self.training else x


def shorter_in_eval(self, x):
    if self.training:
        x = x + 1
    return x


def baked(_self, x):
    return x.view(1, -1)


def assignment(_self, x):
    y = x * 1
    y[0] = 0
    return y


REFUSALS = {
    "in-place, unused": (
        body(unused_in_place),
        ["relu_ in body", "overwrites its input in place", "its result is not used", "F.relu(x)"],
    ),
    "in-place, read": (
        body(read_after_in_place),
        ["relu in body", "overwrites its input in place", "add in body reads it", "F.relu(x)"],
    ),
    "in-place, a view read": (
        body(read_under_another_name),
        ["iadd in body", "overwrites its input in place", "add in body reads it", "x = x + y"],
    ),
    "in-place, ReLU module": (
        body(lambda s, x: s.r(x) + s.r(x), r=nn.ReLU(inplace=True)),
        ["module body.r", "overwrites its input in place", "module body.r reads it", "F.relu(x)"],
    ),
    "clamp": (
        body(lambda _s, x: x.clamp(min=0)),
        [
            "clamp in body",
            "a part of Body",
            "activations=(Body,)",
            "{Body: 'analog'}",
        ],
    ),
    "torch.clamp": (
        body(lambda _s, x: torch.clamp(x, 0)),
        ["clamp in body", "activations=(Body,)"],
    ),
    "clamp_min": (body(lambda _s, x: x.clamp_min(0)), ["clamp_min in body", "activations=(Body,)"]),
    "nn.GELU": (nn.GELU, ["module body", "GELU is not a ReLU", "activations=(nn.GELU,)"]),
    "nn.SiLU": (nn.SiLU, ["module body", "SiLU is not a ReLU", "activations=(nn.SiLU,)"]),
    "nn.LeakyReLU": (nn.LeakyReLU, ["module body", "LeakyReLU is not a ReLU", "nn.ReLU"]),
    "nn.ReLU6": (nn.ReLU6, ["module body", "ReLU6 is not a ReLU", "activations=(nn.ReLU6,)"]),
    "F.gelu": (body(lambda _s, x: F.gelu(x)), ["gelu in body", "activations=(F.gelu,)"]),
    "torch.sigmoid": (
        body(lambda _s, x: torch.sigmoid(x)),
        ["sigmoid in body", "a part of Body", "{Body: 'ana"],
    ),
    "sigmoid method": (body(lambda _s, x: x.sigmoid()), ["sigmoid in body", "activations=(Body,)"]),
    "tanh method": (body(lambda _s, x: x.tanh()), ["tanh in body", "activations=(Body,)"]),
    "mean over samples": (
        body(lambda _s, x: x - x.mean(0)),
        ["mean in body", "axis 0, which holds the samples", "use the other axes only"],
    ),
    "softmax over samples": (
        body(lambda _s, x: x.softmax(0)),
        ["softmax in body", "axis 0, which holds the samples", "use the other axes only"],
    ),
    "baked batch size": (
        body(baked),
        ["view in body", "bakes the batch size 1 in", "write flatten(1), or -1 for the batch"],
    ),
    "samples indexed": (
        body(lambda _s, x: x[0]),
        ["getitem in body", "selects samples (axis 0)", "begin the index with ':'"],
    ),
    "torch.stack": (
        body(lambda _s, x: torch.stack([x, x])),
        ["stack in body", "works on axis 0", "use the other axes only"],
    ),
    "loop on values": (
        body(value_dependent_loop),
        ["module body", "branches or counts on values in `while x.sum() > 1:`", "ops={ThatModul"],
    ),
    "branch on the batch size": (
        body(batch_dependent_branch),
        ["module body", "branches or counts on the number of samples", "the same for any number"],
    ),
    "assignment to samples": (
        body(assignment),
        ["assigned in body", "assigns to samples", "begin the index"],
    ),
    "self.training": (
        body(mode_dependent),
        [
            "computes something else in training",
            "(it uses self.training",
            "ops={ThatModule: 'analog'}",
        ],
    ),
    "self.training at the end": (body(shorter_in_eval), ["computes something else in training"]),
    "F.dropout always on": (
        body(lambda _s, x: F.dropout(x, 0.5)),
        ["dropout in body", "drops in eval mode too", "nn.Dropout", "training=self.training"],
    ),
    "F.alpha_dropout": (
        body(lambda s, x: F.alpha_dropout(x, 0.5, s.training)),
        ["computes something else in training"],
    ),
    "nn.AlphaDropout": (
        nn.AlphaDropout,
        ["module body", "AlphaDropout is not known", "ops={nn.Alp"],
    ),
    "nn.LSTM": (
        body(lambda s, x: s.rnn(x.flatten(2))[0], rnn=nn.LSTM(36, 4)),
        ["module body.rnn", "LSTM", "recurrent layer has a time of its own; take it out"],
    ),
    "functional convolution": (
        body(lambda _s, x: F.conv2d(x, x[:, :4, :3, :3])),
        ["conv2d in body", "takes weights that depend on the input", "as torch.matmul"],
    ),
    "functional linear": (
        body(lambda _s, x: F.linear(x, x.mean((0, 1)))),
        ["mean in body", "works on axis 0"],
    ),
    "matmul of several ranks": (
        body(lambda _s, x: x @ x.mean((1, 2)).unsqueeze(2)),
        ["matmul in body", "signals of 4 and 3 axes", "as x.unsqueeze(1)"],
    ),
    "functional batch norm": (
        body(lambda s, x: F.batch_norm(x, s.n.running_mean, s.n.running_var), n=nn.BatchNorm2d(4)),
        ["batch_norm in body", "use the module nn.BatchNorm2d"],
    ),
    "constant beside the batch": (
        body(lambda s, x: torch.cat([x, s.n.weight], 1), n=nn.Conv2d(4, 1, 6)),
        ["cat in body", "puts a constant beside the batch", "give it to the input"],
    ),
    "an unknown function": (
        body(lambda _s, x: torch.rot90(x, 1, (0, 1))),
        [
            "rot90 in body",
            "rot90 is not known to keep timesteps and samples apart",
            "torch.rot90: 'an",
        ],
    ),
    "an unknown method": (
        body(lambda _s, x: x.diff()),
        ["diff in body", "declare it with ops={'diff': 'analog'}; else take it out"],
    ),
    "an unknown module": (
        lambda: nn.LPPool2d(2, 2),
        ["module body", "declare it with ops={nn.LPPool2d: 'analog'}"],
    ),
    "a size for an output": (
        body(lambda _s, x: x.shape[1]),
        ["getitem in body: the network returns this, but it is no tensor", "leave it out"],
    ),
}


ONE_SAMPLE = (
    "baked batch size",
    "constant beside the batch",
    "matmul of several ranks",
)  # of more, the ANN refuses them


@pytest.mark.parametrize(
    ("case", "samples"),
    [(case, n) for case in REFUSALS for n in (1, 3) if n == 1 or case not in ONE_SAMPLE],
)
def test_it_is_refused_by_its_place_with_the_way_out(case, samples):
    make, fragments = REFUSALS[case]
    with pytest.raises(SurgeryError) as error:
        spike(Outer(make()), example_input=torch.rand(samples, *IMAGE))
    message = str(error.value)
    assert [fragment for fragment in fragments if fragment not in message] == [], message
    assert "\n" not in message


def test_each_place_in_the_network_itself_is_called_so():
    with pytest.raises(
        SurgeryError,
        match="clamp in the network itself: a clamp may be an activation",
    ):
        spike(Body(lambda _s, x: F.relu(x).clamp(min=0)), example_input=torch.rand(1, 4))
    with pytest.raises(SurgeryError, match="the network's own forward: branches or counts on val"):
        spike(Body(value_dependent_loop), example_input=torch.rand(1, 4))


class StaticSize(nn.Module):
    def forward(self, x):
        y = F.relu(x)
        return y.view(x.size(0), -1)


class StaticShape(nn.Module):
    def forward(self, x):
        return F.relu(x).view(x.shape)


def test_the_shape_of_a_static_tensor_is_that_of_a_timed_one():
    snn = spike(StaticShape(), example_input=torch.rand(1, *IMAGE), timesteps=3)
    assert snn(torch.rand(2, *IMAGE)).shape == (3, 2, *IMAGE)
    snn = spike(StaticSize(), example_input=torch.rand(1, *IMAGE), timesteps=3)
    assert snn(torch.rand(2, *IMAGE)).shape == (3, 2, 4 * 6 * 6)
    snn = spike(StaticSize(), example_input=torch.rand(3, 1, *IMAGE), encode="frames")
    assert snn(torch.rand(3, 2, *IMAGE)).shape == (3, 2, 4 * 6 * 6)  # the same stream


def test_other_sizes_of_a_static_tensor_are_taken():
    class Net(nn.Module):
        def forward(self, x):
            _, channels, height, width = x.shape
            return F.relu(x).view(-1, channels, height * width).mean(2)

    x = torch.rand(2, *IMAGE)
    snn = spike(Net(), example_input=x[:1], neuron=nn.ReLU(), timesteps=3)
    torch.testing.assert_close(snn(x)[2], Net()(x))


def test_a_constant_as_long_as_the_batch_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = nn.Parameter(torch.rand(3, *IMAGE))

        def forward(self, x):
            return F.relu(x) + self.memory

    message = r"add .*: combines the batch with a constant of shape \(3, 4, 6, 6\); give the const"
    with pytest.raises(SurgeryError, match=message):
        spike(Net(), example_input=torch.rand(3, *IMAGE))


@pytest.mark.parametrize(
    ("forward", "inputs"),
    [
        (lambda _self, x, y: F.relu(x + y), "2 inputs (x, y)"),
        (lambda _self, x, *, scale: F.relu(x * scale), "2 inputs (x, scale)"),
        (lambda _self: F.relu(torch.ones(2, 2)), "0 inputs ()"),
    ],
)
def test_a_network_of_other_than_one_input_is_refused(forward, inputs):
    net = type("Net", (nn.Module,), {"forward": forward})()
    message = f"takes {inputs}; wrap it in a module that takes one tensor"
    with pytest.raises(SurgeryError, match=re.escape(message)):
        spike(net, example_input=torch.rand(1, 4))


@pytest.mark.parametrize("shape", [(1, 3, 6, 6), (1, 4), (4, 6, 6)])
def test_an_example_that_the_network_does_not_accept_is_refused(shape, capfd):
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    message = f"does not accept the example input of shape {shape} ("
    with pytest.raises(SurgeryError, match=re.escape(message)) as error:
        spike(net, example_input=torch.rand(shape))
    assert "pass an example_input that it accepts" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # no traceback of torch.fx


@pytest.mark.parametrize("most", [16, 31], ids=["one sample", "two samples"])
def test_memory_that_ends_is_no_fault_of_the_example_and_the_advice_works(most):
    class Large(nn.Module):
        def forward(self, x):
            if x.numel() >= most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")
            return 1 * x

    net, ops = nn.Sequential(Large(), nn.ReLU()), {Large: "analog"}
    with pytest.raises(SurgeryError, match=r"memory ended on an example of shape \(1, 16\); pass"):
        spike(net, example_input=torch.rand(1, 16), ops=ops)
    spike(net, example_input=torch.rand(1, 2), ops=ops)


def test_a_network_without_an_activation_is_refused():
    with pytest.raises(SurgeryError, match=r"no activation to replace; use nn\.ReLU"):
        spike(nn.Sequential(nn.Linear(4, 3)), example_input=torch.rand(1, 4))


def test_a_network_of_other_activations_alone_is_told_which():
    with pytest.raises(SurgeryError, match="module 1: ReLU6 is not a ReLU"):
        spike(nn.Sequential(nn.Linear(4, 3), nn.ReLU6()), example_input=torch.rand(1, 4))


def test_a_refusal_is_an_error_of_leanspike():
    assert issubclass(SurgeryError, LeanspikeError)


# -- the ways out ------------------------------------------------------------------------------


class Swish(nn.Module):
    """An activation of the user's, which branches on values."""

    def forward(self, x):
        return x * torch.sigmoid(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (nn.GELU, nn.GELU),
        (nn.ReLU6, nn.ReLU6),
        (body(lambda _s, x: F.gelu(x)), F.gelu),
        (body(lambda _s, x: torch.sigmoid(x)), torch.sigmoid),
        (body(lambda _s, x: x.sigmoid()), "sigmoid"),
        (body(lambda _s, x: x.clamp(min=0)), "clamp"),
        (Swish, Swish),
    ],
)
def test_named_activations_become_neurons(make, key):
    x = torch.rand(2, *IMAGE)
    snn = spike(Outer(make()), example_input=x, activations=(key,))
    assert len(snn.neuron_nodes()) == 2
    assert set(snn(x).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (nn.GELU, nn.GELU),
        (body(lambda _s, x: x.clamp(0, 0.5)), "clamp"),
        (body(lambda _s, x: torch.rot90(x, 1, (2, 3))), torch.rot90),
        (body(lambda _s, x: x.cumprod(1)), "cumprod"),
        (body(lambda s, x: F.conv2d(x, s.c.weight), c=nn.Conv2d(4, 4, 3)), F.conv2d),
        (Swish, Swish),
    ],
)
@pytest.mark.parametrize(
    ("kind", "declared"), [("analog", "analog"), ("graded", "graded"), ("same", "spike")]
)
def test_declared_operations_stay_and_emit_what_is_declared(make, key, kind, declared):
    torch.manual_seed(0)
    ann, x = Outer(make()).eval(), torch.rand(2, *IMAGE)
    snn = spike(ann, example_input=x, ops={key: kind})
    assert snn.plan.graph.output_node().meta["signal"].kind == declared
    snn = spike(ann, example_input=x, ops={key: kind}, neuron=nn.ReLU(), timesteps=3)
    torch.testing.assert_close(snn(x)[2], ann(x))
