"""A norm and the neurons behind it as one, in training: the same network, sooner.

Shapes: T timesteps, N samples.
"""

import math
from copy import deepcopy
from unittest.mock import patch

import pytest
import torch
from torch import nn

from leanspike import LIF, spike
from leanspike.backends import use_backend, watch_backends
from leanspike.backends.native import Native
from leanspike.backends.native import norm as native
from leanspike.execute.fused import TrainingCode, fire_normalised

T, N = 4, 3
NORMS = ["keep", "bntt", "tdbn", "tebn"]
GRADIENTS = ["bptt", "rate"]

pytestmark = pytest.mark.skipif(bool(Native().missing()), reason="the native code is not built")


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    monkeypatch.setattr(native, "LEAST_WORK", 0)


def network(norm="keep", neuron=None):
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(72, 3)),
    )
    with torch.no_grad():
        for layer in ann:
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.3) if norm == "keep" else None
    neuron = neuron or LIF(0.6, 0.9, height="threshold", learn=("leak", "threshold"))
    snn = spike(ann, example_input=torch.zeros(1, 2, 6, 6), neuron=neuron, norm=norm, timesteps=T)
    return snn.to(memory_format=torch.channels_last).train()


def images():
    return torch.randn(N, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def run(snn, gradient, apart=False, backend="auto"):
    """Outputs, gradients and buffers of a copy after a step."""
    copy = deepcopy(snn)
    least = math.inf if apart else 0
    with patch.object(native, "LEAST_WORK", least), use_backend(backend):
        y_TNK = copy(images(), T, gradient=gradient)
        y_TNK.square().sum().backward()
    return (
        y_TNK.detach(),
        {name: p.grad for name, p in copy.named_parameters()},
        dict(copy.named_buffers()),
    )


def fused_calls(snn, gradient="bptt"):
    """How many norms and neurons run as one."""
    with patch.object(Native, "run", autospec=True, side_effect=Native.run) as ran:
        snn(images(), T, gradient=gradient)
    return sum(type(call.args[1]).__name__.startswith("NormLIF") for call in ran.call_args_list)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_outputs_gradients_and_statistics_are_those_of_one_after_the_other(norm, gradient):
    snn = network(norm)
    assert fused_calls(deepcopy(snn), gradient) == 2
    for found, expected in zip(run(snn, gradient), run(snn, gradient, apart=True), strict=True):
        close(found, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_both_gradients_have_the_same_outputs(norm):
    snn = network(norm)
    (bptt, _, buffers), (rate, _, others) = (run(snn, gradient) for gradient in GRADIENTS)
    assert torch.equal(bptt, rate)
    assert all(torch.equal(others[name], value) for name, value in buffers.items())


@pytest.mark.parametrize("norm", NORMS)
def test_in_eval_mode_and_by_the_reference_nothing_is_put_together(norm):
    snn = network(norm)
    with use_backend("reference"):
        assert fused_calls(deepcopy(snn)) == 0
    assert fused_calls(deepcopy(snn).eval()) == 0
    assert fused_calls(deepcopy(snn).eval(), "rate") == 0


def test_where_nothing_serves_it_the_bits_are_those_of_the_plans_own_graph():
    snn = network()
    with patch.object(native, "LEAST_WORK", math.inf):
        y_TNK, expected = (each(images(), T) for each in (deepcopy(snn), observed(deepcopy(snn))))
    assert torch.equal(y_TNK, expected)


def observed(snn):
    """By the plan's graph, operation by operation."""
    return lambda x, timesteps: snn.run(x, timesteps, observer=lambda *_: None)


@pytest.mark.parametrize("path", ["4", "5"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_hook_sees_what_it_always_saw(path, gradient):
    snn, seen = network(), []
    snn.get_submodule(path).register_forward_hook(lambda _module, args, y: seen.append((args, y)))
    assert fused_calls(snn, gradient) == 1  # the other one
    assert len(seen) == 1
    (x,), y = seen[0]
    assert x.shape == y.shape == ((T * N, 8, 6, 6) if path == "4" else (T, N, 8, 6, 6))


def test_a_hook_of_all_modules_sees_each():
    snn, seen = network(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        assert fused_calls(snn, "bptt") == 0
    finally:
        handle.remove()
    assert {snn.get_submodule("4"), snn.get_submodule("5")} <= set(seen)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_every_kind_of_batch_norm_keeps_its_statistics(momentum, tracked, affine):
    snn = network()
    for path in ("4", "8"):
        options = {"affine": affine, "track_running_stats": tracked, "momentum": momentum}
        snn.set_submodule(path, nn.BatchNorm2d(8, **options))
    copies = deepcopy(snn), deepcopy(snn)
    for copy, least in zip(copies, (0, math.inf), strict=True):
        with patch.object(native, "LEAST_WORK", least):
            for _ in range(2):
                copy(images(), T)
    expected = copies[1].state_dict()
    for name, value in copies[0].state_dict().items():
        close(value, expected[name])
    assert copies[0].training
    assert fused_calls(snn) == 2


def test_a_norm_that_others_read_too_is_left_alone():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
            self.act = nn.ReLU()

        def forward(self, x):
            y = self.norm(self.first(torch.relu(x)))
            return self.act(y) + y

    plan = spike(Shortcut(), example_input=torch.zeros(1, 2, 4, 4), norm="keep").plan
    assert not [n for n in TrainingCode.of(plan).graph.nodes if n.target is fire_normalised]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_bfloat16_trains(gradient):
    snn = network()
    with torch.autocast("cpu", torch.bfloat16), watch_backends() as ran:
        y_TNK = snn(images(), T, gradient=gradient)
    y_TNK.float().square().sum().backward()
    assert y_TNK.dtype == torch.bfloat16
    assert ran.backend == "native"
    for name, p in snn.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all()
    assert fused_calls(snn) == 2 or snn.get_submodule("3").weight.dtype == torch.float32
