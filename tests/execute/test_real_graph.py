"""The network is a real graph: seen in tracebacks, compiled, exported, copied, transformed."""

import inspect
import pickle
import traceback
from copy import copy, deepcopy

import pytest
import torch
from torch import fx, nn

from leanspike import LIF, spike
from networks import build, draw

T, N = 3, 2
NEWEST = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)
newest = pytest.mark.skipif(not NEWEST, reason="compiles whole with torch 2.14 or newer")


def network(name="padded_shortcut", norm="keep", encode="direct"):
    lead = (1, 1) if encode == "frames" else (1,)
    neuron = LIF(threshold=0.5, leak=0.9, learn=("leak", "threshold"))
    options = {"encode": encode, "timesteps": T, "neuron": neuron, "norm": norm}
    return spike(build(name), example_input=draw(name, *lead), **options).eval()


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# -- what a reader sees --------------------------------------------------------------------------


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(torch.relu(x))


@pytest.mark.parametrize("call", ["whole", "first step", "later step"])
def test_a_traceback_shows_the_line_of_the_graph(call):
    snn, x = spike(Failing().eval(), example_input=torch.zeros(1, 4)), torch.zeros(2, 4)
    _, state = snn.step(x)

    def fail(*_):
        raise ValueError("here")

    snn.get_submodule("inner").register_forward_hook(fail)
    run = {"whole": lambda: snn(x), "first step": lambda: snn.step(x)}
    with pytest.raises(ValueError, match="here") as caught:
        run.get(call, lambda: snn.step(x, state))()
    assert "self.inner(" in "".join(traceback.format_exception(caught.value))


def test_the_graph_is_a_module_of_torchs_on_the_networks_own_modules():
    snn, x = network(), draw("padded_shortcut", N)
    graph = snn.plan.module
    assert isinstance(graph, fx.GraphModule)
    assert "self.conv1(" in inspect.getsource(type(graph).forward)
    assert torch.equal(graph(x, T), snn(x))
    snn.double()
    snn.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False).double()
    assert graph.get_submodule("conv1") is snn.conv1
    assert torch.equal(graph(x.double(), T), snn(x.double()))


# -- compiled and exported -------------------------------------------------------------------------


@newest
@pytest.mark.parametrize(
    ("name", "norm", "encode"),
    [
        ("padded_shortcut", "keep", "direct"),
        ("padded_shortcut", "tebn", "direct"),
        ("functional", "keep", "frames"),
    ],
)
def test_a_fresh_network_compiles_whole_forward_and_backward(name, norm, encode):
    x = draw(name, T, N) if encode == "frames" else draw(name, N)
    snn, plain = network(name, norm, encode).train(), network(name, norm, encode).train()
    compiled = torch.compile(snn, fullgraph=True, backend="aot_eager")
    y_TNK = compiled(x)
    same(y_TNK, plain(x))
    y_TNK.square().sum().backward()
    plain(x).square().sum().backward()
    for (path, parameter), (_, other) in zip(
        snn.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert (parameter.grad is None) == (other.grad is None), path
        if parameter.grad is not None and "running" not in path:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-2, atol=1e-2)


@newest
@pytest.mark.parametrize("norm", ["keep", "tebn"])
def test_steps_compile_whole(norm):
    snn, x = network(norm=norm), draw("padded_shortcut", N)
    compiled, state, answers = torch.compile(snn.step, fullgraph=True, backend="eager"), None, []
    for _ in range(T):
        y_NK, state = compiled(x, state)
        answers.append(y_NK)
    same(torch.stack(answers), snn(x))


@newest
@torch.no_grad()
def test_it_exports():
    snn, x = network(), draw("padded_shortcut", N)
    exported = torch.export.export(snn, (x,))
    same(exported.module()(x), snn(x))


# -- copied ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_shallow_copy_runs_on_modules_of_its_own():
    snn, x = network(), draw("padded_shortcut", N)
    other = copy(snn)
    assert torch.equal(other(x), snn(x))


@torch.no_grad()
def test_a_deep_network_is_copied_and_pickled():
    layers = [part for _ in range(200) for part in (nn.Linear(3, 3), nn.ReLU())]
    snn = spike(nn.Sequential(*layers), example_input=torch.zeros(1, 3)).eval()
    x = torch.randn(2, 3)
    for other in (deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert torch.equal(other(x), snn(x))
        assert other.plan.graph is not snn.plan.graph
        facts = [n.meta.get("signal") for n in snn.plan.graph.nodes]
        assert [n.meta.get("signal") for n in other.plan.graph.nodes] == facts


# -- torch.func -----------------------------------------------------------------------------------


def test_gradients_by_function_are_those_of_backward():
    snn, x = network(), draw("padded_shortcut", N)
    parameters = {k: p for k, p in snn.named_parameters() if p.requires_grad}

    def loss(parameters):
        return torch.func.functional_call(snn, parameters, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    snn(x).square().sum().backward()
    for key, parameter in parameters.items():
        torch.testing.assert_close(found[key], parameter.grad, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_it_maps_over_batches():
    snn, x = network(), draw("padded_shortcut", 2, N)
    found = torch.func.vmap(snn)(x)
    same(found, torch.stack([snn(part) for part in x]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # says torch.func.jvp
def test_forward_mode_is_refused_clearly_where_there_is_none():
    snn, x = network(), draw("padded_shortcut", N)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(snn, (x,), (torch.ones_like(x),))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_is_the_surrogates_as_backward():
    snn, x = network(encode="frames"), draw("padded_shortcut", T, N)
    along = torch.func.jvp(snn, (x,), (torch.ones_like(x),))[1]
    x.requires_grad_()
    (back,) = torch.autograd.grad(snn(x).sum(), x)
    same(along.sum(), back.sum())
    assert along.abs().sum() > 0
