"""Each refusal of the table is met, and its advice followed to the letter: a working network.

Places that refuse are found in the sources, and rows that never run in the table: a new one
without an advice that was followed here fails.
"""

import ast
import operator
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

import leanspike
from leanspike import SurgeryError, spike
from leanspike.graph import disguise
from leanspike.graph.ops import OPERATIONS

T, N = 3, 2
L1, L2 = (4, 8), (4, 6, 6)
SPACES = {"nn": nn, "torch": torch, "F": F, "operator": operator}
GRAPH = Path(leanspike.__file__).parent / "graph"


class After(nn.Module):
    """A layer, a ReLU, and what is refused, or written as the advice says."""

    def __init__(self, op):
        super().__init__()
        self.relu, self.op = nn.ReLU(), op
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.memory = nn.Parameter(torch.rand(2, 4, 8))

    def forward(self, x):
        y = self.relu(x)
        return self.op(self, x, y) if self.op.__code__.co_argcount == 3 else self.op(y)


@dataclass
class Case:
    """What is refused, and the network that follows the advice."""

    bad: Any
    good: Any
    sample: tuple[int, ...] = L1
    options: dict[str, Any] = field(default_factory=dict)


def calling(module):
    """A module as a function of the rectified input, registered as what it is."""
    net = After(lambda y: y)
    net.called = module
    net.op = lambda self, _x, y: self.called(y)
    return net


def net_of(what):
    return calling(what) if isinstance(what, nn.Module) else After(what)


WHOLE = slice(None)


def assigned(x, key, value):
    y = x * 1
    y[key] = value
    return y


class SelfAttention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, **options)

    def forward(self, x):
        return self.inner(x, x, x)[0]


CASES = {
    "all axes": Case(lambda y: y.mean(), lambda y: y.mean((1, 2))),
    "computed axis": Case(lambda y: y.mean(y.shape[1] // y.shape[1]), lambda y: y.mean(1)),
    "axis 0": Case(lambda y: y.mean(0), lambda y: y.mean(1)),
    "axis before the batch": Case(lambda y: y.unsqueeze(-4), lambda y: y.unsqueeze(1)),
    "stacked before the batch": Case(
        lambda y: torch.stack([y, y], -4), lambda y: torch.stack([y, y], 1)
    ),
    "a constant beside the batch": Case(
        lambda net, _x, y: torch.cat([y, net.token], 1),
        lambda net, _x, y: torch.cat([y, net.token.expand(y.size(0), -1, -1)], 1),
    ),
    "permuted batch": Case(lambda y: y.permute(1, 0, 2), lambda y: y.permute(0, 2, 1)),
    "baked size": Case(lambda y: y.view(1, -1), lambda y: y.view(-1, 32)),
    "other pieces": Case(
        lambda y: y.reshape(-1, 8) + y.mean(1), lambda y: y.flatten(1) + y.flatten(1).sum(1, True)
    ),
    "samples that meet": Case(
        lambda y: y[:, :1] + y.mean(1), lambda y: y[:, :1] + y.mean(1, keepdim=True)
    ),
    "half the samples": Case(
        lambda _net, x, y: y.reshape((x.size(0) + 1) // 2, -1), lambda y: y.flatten(1)
    ),
    "selected samples": Case(lambda y: y[0], lambda y: y[:, 0]),
    "padded batch": Case(lambda y: F.pad(y, (0, 0, 0, 0, 1, 1)), lambda y: F.pad(y, (0, 0, 1, 1))),
    "normalised batch": Case(
        lambda y: F.layer_norm(y, (1, 4, 8)), lambda y: F.layer_norm(y, (4, 8))
    ),
    "indices": Case(nn.MaxPool1d(2, return_indices=True), nn.MaxPool1d(2)),
    "attribute": Case(lambda y: y.mT, lambda y: y.transpose(1, 2)),
    "number of samples": Case(lambda y: y / y.shape[0], lambda y: y / 2),
    "no statistics": Case(
        nn.BatchNorm1d(4, track_running_stats=False), nn.BatchNorm1d(4, track_running_stats=True)
    ),
    "no statistics, another norm": Case(
        nn.BatchNorm1d(4, track_running_stats=False), nn.GroupNorm(2, 4)
    ),
    "constant of another batch": Case(
        lambda net, _x, y: y @ net.memory.transpose(1, 2).repeat(1, 1, 2)[:1, :, :3].unsqueeze(0),
        lambda net, _x, y: y @ net.memory[0].transpose(0, 1),
    ),
    "ranks": Case(
        lambda y: y @ y.unsqueeze(1).transpose(2, 3),
        lambda y: y.unsqueeze(1) @ y.unsqueeze(1).transpose(2, 3),
    ),
    "weights of the input": Case(
        lambda y: F.linear(y, y[:, 0]), lambda y: torch.matmul(y, y.transpose(1, 2)), (1, 4)
    ),
    "einsum": Case(
        lambda y: torch.einsum("ncl,mcl->nm", y, y), lambda y: torch.einsum("nid,njd->nij", y, y)
    ),
    "attention of other axes": Case(
        lambda y: F.scaled_dot_product_attention(y, y.unsqueeze(1), y.unsqueeze(1)),
        lambda y: F.scaled_dot_product_attention(y, y, y),
    ),
    "attention, samples second": Case(SelfAttention(), SelfAttention(batch_first=True)),
    "attention that drops": Case(
        SelfAttention(batch_first=True, dropout=0.1), SelfAttention(batch_first=True, dropout=0)
    ),
    "token on another axis": Case(
        lambda net, _x, y: y + net.token.expand(1, y.size(0), -1).sum(1, keepdim=True),
        lambda net, _x, y: y + net.token.expand(y.size(0), -1, -1).sum(1, keepdim=True),
    ),
    "repeated samples": Case(lambda y: y.repeat(2, 1, 1), lambda y: y.repeat(1, 2, 1)),
    "zeros on another axis": Case(
        lambda y: y + y.new_zeros(1, y.size(0), 8).sum(1, keepdim=True),
        lambda y: y + y.new_zeros(y.size(0), 1, 8),
    ),
    "memory as long as the batch": Case(
        lambda net, _x, y: y + net.memory, lambda net, _x, y: y + net.memory[0]
    ),
    "batch norm as a function": Case(
        lambda y: F.batch_norm(y, torch.zeros(4), torch.ones(4)), nn.BatchNorm1d(4)
    ),
    "depth of whole batches": Case(StochasticDepth(0.5, "batch"), StochasticDepth(0.5, "row")),
    "an unknown function": Case(
        lambda y: torch.diff(y, dim=1),
        lambda y: torch.diff(y, dim=1),
        options={"ops": {torch.diff: "analog"}},
    ),
    "viewed as another batch": Case(
        lambda net, _x, y: y.view_as(net.token.repeat(4, 1, 1)), lambda y: y.flatten(1)
    ),
    "assigned samples": Case(lambda y: assigned(y, 0, 1), lambda y: assigned(y, (WHOLE, 0), 1)),
    "assigned by a mask": Case(
        lambda net, _x, y: assigned(y, y.eq(0), net.token.sum()),
        lambda net, _x, y: torch.where(y.eq(0), net.token.sum(), y),
    ),
    "assigned memory as long as the batch": Case(
        lambda net, _x, y: assigned(y, WHOLE, net.memory),
        lambda net, _x, y: assigned(y, WHOLE, net.memory[0]),
    ),
    "assigned where an index says": Case(
        lambda y: assigned(y, (WHOLE, [0, 1]), 0.0), lambda y: y * (torch.arange(4) > 1).view(4, 1)
    ),
    "assigned where samples meet": Case(
        lambda y: assigned(y, (WHOLE, 0), y[:, 0, 0]),
        lambda y: assigned(y, (WHOLE, 0), y[:, 0, 0].unsqueeze(1)),
    ),
    "numbers of samples": Case(
        lambda y: y + torch.arange(y.shape[0]).view(-1, 1, 1), lambda y: y + torch.arange(1)
    ),
    "assigned to a constant": Case(
        lambda net, _x, y: assigned(net.token, (WHOLE, 0), y[:, 0]),
        lambda _net, _x, y: assigned(torch.zeros(y.shape[0], 1, 8), (WHOLE, 0), y[:, 0]),
    ),
}
BATCHED = ("memory as long as the batch", "assigned memory as long as the batch")


def example(case, sample):
    samples = 2 if case in BATCHED else 1
    return torch.rand(samples, *sample)


def message_of(net, x, **options):
    with pytest.raises(SurgeryError) as error:
        spike(net.eval(), example_input=x, **options)
    return str(error.value)


def check_works(net, x, **options):
    snn = spike(net.eval(), example_input=x[:1], timesteps=T, neuron=nn.ReLU(), **options)
    more = torch.rand(N, *x.shape[1:])
    with torch.no_grad():
        for y in snn(more):
            torch.testing.assert_close(y, net(more))


@pytest.mark.parametrize("case", CASES)
def test_each_advice_is_followed(case):
    found = CASES[case]
    x = example(case, found.sample)
    assert "; " in message_of(net_of(found.bad), x)
    check_works(net_of(found.good), x, **found.options)


# -- rows that never run -----------------------------------------------------------------------

NEVER = {
    op: row
    for op, row in OPERATIONS.rows.items()
    if row.kind is None and not (row.activation or row.twin)
}
DRAWN = (torch.rand_like, torch.randn_like, torch.bernoulli, F.gumbel_softmax)
COMPARED = tuple(op for op, row in NEVER.items() if row.check is disguise.compared)
BY_NAME = {  # what is needed beside the input
    **{name: (lambda f: lambda y: f(y, 0.0)) for name in ("clamp", "clamp_min", "clamp_max")},
    **{name: (lambda f: lambda y: f(y, torch.tensor([0.25]))) for name in ("prelu",)},
    "clamp_": lambda f: lambda y: f(y * 1, 0.0),
    "_threshold": lambda f: lambda y: f(y, 0.0, 0.0),
}


def call_of(op):
    name = op if isinstance(op, str) else op.__name__
    if isinstance(op, type):
        return op(0.0, 0.0) if op is nn.Threshold else op()
    function = (lambda y, *rest: getattr(y * 1, op)(*rest)) if isinstance(op, str) else op
    return BY_NAME.get(name, lambda f: lambda y: f(y))(function)


def advised(message):
    """What the message says to write, as it says it."""
    found = {}
    for name in ("activations", "ops"):
        text = re.search(rf"{name}=(\([^)]*\)|{{[^}}]*}})", message)
        if text:
            found[name] = eval(text[1], {**SPACES, **{c.__name__: c for c in OWN}})
    return found


class Own(nn.Module):
    """An activation of the user's, of a part that is refused."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x)


class Act(Own):
    """As the messages call it."""


class Noise(nn.Module):
    """As the messages call it: it draws in training mode only."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x + self.draw(x) if self.training else x


class Kept(nn.Tanh):
    """As the messages call it."""


OWN = (Own, Act, Noise, Kept)

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
TAKEN_OUT = (*RECURRENT, F.batch_norm, *DRAWN, *COMPARED)


@pytest.mark.parametrize(
    "op", [op for op in NEVER if op not in TAKEN_OUT], ids=lambda op: getattr(op, "__name__", op)
)
def test_what_is_no_relu_is_kept_or_replaced_as_the_message_says(op):
    x, what = torch.rand(1, *L1), call_of(op)
    ways = advised(message_of(net_of(what), x))
    assert "activations" in ways or "ops" in ways
    if "ops" in ways:
        check_works(net_of(what), x, ops=ways["ops"])
    if "activations" in ways:
        snn = spike(net_of(what).eval(), example_input=x, activations=ways["activations"])
        assert len(snn.neuron_nodes()) == 2
        assert set(snn(x).unique().tolist()) <= {0.0, 1.0}
    if not isinstance(what, nn.Module) and "ops" in ways:  # a module of the user's, as a whole
        whole = nn.Sequential(nn.ReLU(), Own(what)).eval()
        ways = advised(message_of(whole, x))
        assert ways == {"activations": (Own,), "ops": {Own: "analog"}}
        assert len(spike(whole, example_input=x, activations=(Own,)).neuron_nodes()) == 2
        check_works(whole, x, ops={Own: "analog"})


@pytest.mark.parametrize("op", RECURRENT)
def test_recurrent_layers_are_taken_out(op):
    net = calling(op(8, 8))
    net.op = lambda self, _x, y: self.called(y)[0]
    x = torch.rand(1, *L1)
    message = message_of(net, x[:, 0] if issubclass(op, nn.RNNCellBase) else x)
    assert "a recurrent layer has a time of its own; take it out" in message
    check_works(net_of(lambda y: y), torch.rand(1, *L1))


ZERO = torch.zeros(8)
DISGUISES = {
    "maximum": lambda y: torch.maximum(y, ZERO),
    "max, on the other side": lambda y: torch.max(ZERO, y),
    "maximum, as a method": lambda y: y.maximum(torch.zeros_like(y)),
    "minimum": lambda y: torch.minimum(y, ZERO + 1),
    "leaky": lambda y: torch.max(0.1 * y, y),
    "where": lambda y: torch.where(y > 0.5, y, 0.0),
    "product with a mask": lambda y: y * (y > 0.5).float(),
    "filled": lambda y: y.masked_fill(y < 0.5, 0.0),
    "assigned": lambda y: assigned(y, y < 0.5, 0.0),
    "a step": lambda y: (y > 0.5).float(),
    "heaviside": lambda y: y * torch.heaviside(y - 0.5, ZERO),
}


@pytest.mark.parametrize("op", DISGUISES.values(), ids=DISGUISES)
def test_a_relu_in_disguise_is_replaced_or_kept_as_the_message_says(op):
    x = torch.rand(1, *L1)
    ways = advised(message_of(net_of(op), x))
    if "ops" in ways:
        check_works(net_of(op), x, ops=ways["ops"])
    if ways.get("activations", (Act,)) != (Act,):
        snn = spike(net_of(op).eval(), example_input=x, activations=ways["activations"])
        assert len(snn.neuron_nodes()) == 2
    whole = nn.Sequential(nn.Linear(8, 8), Act(op)).eval()
    ways = advised(message_of(whole, x))
    assert ways["activations"] == (Act,)
    snn = spike(whole, example_input=x, activations=(Act,))
    assert [path for path, _ in snn.neurons()] == ["1"]


@pytest.mark.parametrize("op", COMPARED, ids=lambda op: getattr(op, "__name__", op))
def test_a_comparison_that_selects_something_else_is_kept_as_the_message_says(op):
    def masked(_net, x, y):
        return y * (getattr(x, op)(ZERO) if isinstance(op, str) else op(x, ZERO)).float()

    x = torch.rand(1, *L1)
    check_works(net_of(masked), x, ops=advised(message_of(net_of(masked), x))["ops"])


@pytest.mark.parametrize("draw", DRAWN, ids=lambda op: op.__name__)
def test_noise_is_drawn_in_a_module_of_its_own(draw):
    x = torch.rand(1, *L1)
    ways = advised(message_of(net_of(lambda y: y + draw(y)), x))
    check_works(nn.Sequential(nn.ReLU(), Noise(draw)), x, **ways)


def test_what_takes_two_signals_is_no_activation():
    net, x = net_of(lambda y: torch.maximum(y, y.flip(1))), torch.rand(1, *L1)
    check_works(net, x)
    with pytest.raises(SurgeryError, match=r"maximum takes 2 signals, .* activations=\(Act,\)"):
        spike(net, example_input=x, activations=(torch.maximum,))


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"dropout": 0.0}])
def test_transformers_are_looked_into_and_their_advice_followed(options):
    layer = nn.TransformerEncoderLayer(8, 2, 16, **options)
    net = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    code = re.search(r"say (\[.*\]) before spike", message_of(net, torch.rand(1, *L1)))
    eval(code[1], {"net": net, "nn": nn})
    check_works(net, torch.rand(1, *L1))
    assert len(spike(net, example_input=torch.rand(1, *L1)).neuron_nodes()) == 2


def test_an_activation_that_is_an_output_too_is_written_twice():
    x = torch.rand(1, *L1)
    said = message_of(nn.Sequential(nn.Tanh(), nn.Linear(8, 3), nn.Tanh()), x)
    assert "write a kept nn.Tanh as a module of your own, class Kept, and say" in said
    ways = advised(said.partition("for all that")[2])
    net = nn.Sequential(nn.Tanh(), nn.Linear(8, 3), Kept()).eval()
    assert [path for path, _ in spike(net, example_input=x, **ways).neurons()] == ["0"]


def test_an_activation_of_modules_is_named_as_a_whole_beside_a_gate_of_the_same():
    class Swish(Own):
        def forward(self, x):
            return x * self.part(x)

    class Net(Gated):
        def forward(self, x):
            x = self.act(x)
            return self.a(x) * self.sigmoid(self.b(x))

    net, x = Net().eval(), torch.rand(1, *L1)
    net.act = Swish(nn.Sigmoid())
    said = message_of(net, x)
    assert said.endswith("say activations=(Swish,), ops={nn.Sigmoid: 'analog'}")
    snn = spike(net, example_input=x, activations=(Swish,), ops={nn.Sigmoid: "analog"})
    assert [path for path, _ in snn.neurons()] == ["act"]


def test_all_that_is_unknown_is_told_at_once_and_that_no_activation_is_left():
    net, x = nn.Sequential(nn.LPPool1d(2, 2), Own(torch.diff)), torch.rand(1, *L1)
    said = message_of(net, x)
    assert "for all that this network has, say ops={nn.LPPool1d: 'analog', torch.diff: " in said
    assert "besides, the network has no activation to replace" in said
    net.append(nn.ReLU())
    check_works(net, x, **advised(message_of(net, x).partition("for all that")[2]))


class Gated(nn.Module):
    """A gate: the product of a signal and a sigmoid of another."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.sigmoid = nn.Linear(8, 8), nn.Linear(8, 8), nn.Sigmoid()

    def forward(self, x):
        x = F.relu(x)
        return self.a(x) * self.sigmoid(self.b(x))


class Swished(nn.Module):
    """A hand-written swish without a module of its own."""

    def forward(self, x):
        x = F.relu(x) - 0.5
        return x * torch.sigmoid(x)


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class HardSwish(nn.Module):
    def forward(self, x):
        return x * F.relu6(x + 3) / 6


class Mish(nn.Module):
    def forward(self, x):
        return x * torch.tanh(F.softplus(x))


@pytest.mark.parametrize("own", [HardSwish, Mish])
def test_an_activation_of_the_users_is_named_as_a_whole(own):
    net, x = nn.Sequential(nn.Linear(8, 8), own(), nn.Linear(8, 3)), torch.rand(1, *L1)
    assert f"activations=({own.__name__},)" in message_of(net, x)
    snn = spike(net, example_input=x, activations=(own,))
    assert [path for path, _ in snn.neurons()] == ["1"]


def test_a_gate_and_an_output_are_kept_and_a_swish_is_an_activation():
    x = torch.rand(1, *L1)
    gate = message_of(Gated(), x)
    assert "module sigmoid: Sigmoid is a gate, which no neuron can replace; keep it" in gate
    check_works(Gated(), x, **advised(gate))
    output = message_of(nn.Sequential(nn.ReLU(), nn.Sigmoid()), x)
    assert "Sigmoid is an output" in output
    check_works(nn.Sequential(nn.ReLU(), nn.Sigmoid()), x, **advised(output))
    own = message_of(Swished(), x)
    assert "the product with its own input are an activation" in own
    assert "activations=(Swish,)" in own
    net = nn.Sequential(nn.ReLU(), nn.Linear(8, 8), Swish())
    assert "a part of Swish" in message_of(net, x)
    assert len(spike(net, example_input=x, activations=(Swish,)).neuron_nodes()) == 2


class NormAct(nn.BatchNorm1d):
    """As timm's BatchNormAct2d."""

    def forward(self, x):
        return F.gelu(super().forward(x))


def test_a_norm_that_activates_is_no_activation_as_a_whole():
    net, x = nn.Sequential(nn.Linear(8, 8), NormAct(8), nn.Linear(8, 8)), torch.rand(2, 8)
    text = message_of(net, x)
    assert "activations=(F.gelu,)" in text
    assert "NormAct" not in text.partition(":")[2]
    snn = spike(net, example_input=x, **advised(text))
    assert isinstance(snn.get_submodule("1"), nn.BatchNorm1d)
    assert len(snn.neuron_nodes()) == 1


# -- that none is forgotten --------------------------------------------------------------------


def sites():
    """The reason of each refusal in the sources, as a pattern; those in a row are the row's."""
    found = {}
    for path in sorted(GRAPH.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and called in ("call.refuse", "self.refuse"):
                reason = node.args[0]
                if isinstance(reason, ast.Starred):
                    continue
                parts = reason.values if isinstance(reason, ast.JoinedStr) else [reason]
                texts = [p.value if isinstance(p, ast.Constant) else None for p in parts]
                pattern = "".join(".*" if text is None else re.escape(text) for text in texts)
                found[f"{path.name}:{node.lineno}"] = re.compile(pattern)
    return found


SITES = sites()


def test_each_place_that_refuses_has_an_advice_that_is_followed():
    said = [
        message_of(net_of(case.bad), example(name, case.sample)) for name, case in CASES.items()
    ]
    x = torch.rand(1, *L1)
    said += [message_of(net_of(call_of(op)), x) for op in NEVER if op not in TAKEN_OUT]
    said += [message_of(net_of(op), x) for op in DISGUISES.values()]
    both = net_of(lambda y: torch.maximum(y, y.flip(1)))
    said += [message_of(both, x, activations=(torch.maximum,))]
    said += [message_of(nn.Sequential(nn.ReLU(), Own(torch.sigmoid)), x)]
    said += [message_of(nn.Sequential(nn.ReLU(), Own(torch.floor)), x)]
    said += [message_of(net, x) for net in (Gated(), Swished())]
    said += [message_of(nn.Sequential(nn.ReLU(), nn.GLU(1)), x, activations=(nn.GLU,))]
    missing = [
        place for place, site in SITES.items() if not any(site.search(text) for text in said)
    ]
    assert missing == []
    assert len(SITES) > 25


class Slopes(nn.Module):
    """One learned activation that is called once, one that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.once, self.twice = nn.Linear(8, 8), nn.PReLU(), nn.PReLU()
        self.last = nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.twice(self.twice(self.once(self.first(x)))))


def test_the_very_anns_state_dict_loads_where_activations_have_learned():
    ann, x = Slopes(), torch.rand(1, *L1)
    ways = advised(message_of(ann, x))
    assert ways == {"activations": (nn.PReLU,)}
    snn = spike(Slopes().eval(), example_input=x, **ways)
    snn.load_ann(ann.state_dict())
    assert torch.equal(snn.get_submodule("last").weight, ann.last.weight)
    with pytest.raises(leanspike.LeanspikeError, match=r"has 1 that are not .*: once\.threshold"):
        snn.load_ann({**ann.state_dict(), "once.threshold": torch.ones(())})
