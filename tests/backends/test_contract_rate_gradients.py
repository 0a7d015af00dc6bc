"""What every backend promises of the gradients of neurons' mean outputs."""

import pytest
import torch
from backend_calls import any_instructions, assert_close, computed_by, others, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leanspike import LIF, native, spike
from leanspike.backends import RateGradientCall, choose, use_backend

sizes = st.sampled_from([(1,), (3, 5), (2, 33), (2, 8, 3, 5), (2, 3, 40, 50)])


def rate_gradient(size, parameters, dtype, seed, layouts):
    """A call whose tensors lie as said: contiguous ("c") or channels last ("l")."""
    random = torch.Generator().manual_seed(seed)

    def normal(layout):
        x = torch.randn(size, generator=random)
        last = layout == "l" and x.dim() == 4
        return x.contiguous(memory_format=torch.channels_last) if last else x

    grad_N, by_input = normal(layouts[0]).to(dtype), normal(layouts[1])
    return RateGradientCall(grad_N, by_input, tuple(normal(layouts[1]) for _ in range(parameters)))


@others
@given(
    *(sizes, st.integers(0, 2), st.sampled_from([torch.float32, torch.bfloat16]), seeds),
    *(st.sampled_from(["cc", "cl", "lc", "ll"]), st.data()),
)
@settings(max_examples=40)
def test_they_are_the_references(name, size, parameters, dtype, seed, layouts, data):
    call = rate_gradient(size, parameters, dtype, seed, layouts)
    with any_instructions(data, name):
        found = computed_by(name)(call)
    if found is None:
        pytest.skip("PyTorch's")
    by_x, sums = call.reference()
    assert found[0].dtype == dtype
    assert_close(found[0].float(), by_x, 1e-6 if dtype == torch.float32 else 2**-8)
    assert len(found[1]) == parameters
    for a, b, by in zip(found[1], sums, call.by, strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, 1e-5, float((call.grad_N.float() * by).abs().sum()))


def test_what_must_be_differentiated_again_or_is_no_number_for_a_layer_is_pytorchs():
    call = rate_gradient((2, 3), 1, torch.float32, 0, "cc")
    call.grad_N.requires_grad_()
    assert choose(call) is None
    with torch.no_grad():
        assert (choose(call) is None) == (not native.is_built())
    assert choose(rate_gradient((2, 3), 3, torch.float32, 0, "cc")) is None
    assert choose(rate_gradient((2, 3), 1, torch.float64, 0, "cc")) is None


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_learns_the_same_by_every_backend(per, bf16):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 3))
    x = torch.randn(2, 2, 9, 9)
    neuron = LIF(0.4, 0.9, learn=("leak", "threshold"), per=per)
    snn = spike(ann, example_input=x[:1], timesteps=3, neuron=neuron)

    def gradients():
        snn.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            snn(x, gradient="rate").float().square().sum().backward()
        return {name: p.grad.clone() for name, p in snn.named_parameters() if p.requires_grad}

    found = gradients()
    with use_backend("reference"):
        expected = gradients()
    assert found.keys() == expected.keys()
    assert any("leak" in name for name in found)
    for name, grad in found.items():
        assert grad.shape == expected[name].shape
        assert_close(grad, expected[name], 2**-6 if bf16 else 1e-5, 1e-3)
