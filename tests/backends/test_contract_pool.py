"""What every backend promises of a max pool for rate gradients.

Its values are the reference's to the bit, their mean and the shares of inputs to rounding. A pool
that it does not serve runs in PyTorch, with the same gradients.
"""

import math

import pytest
import torch
from backend_calls import any_instructions, computed_by, others, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leanspike import LIF, spike
from leanspike.backends import MaxPoolRateCall, Windows, use_backend

sides = st.tuples(st.integers(1, 3), st.integers(1, 3))


def pool_call(kernel, stride, left, channels, kind, seed, dtype=torch.float32, steps=3):
    """A call for channels_last images, whose pixels beyond the last window nobody reads."""
    random = torch.Generator().manual_seed(seed)
    size = tuple((n - 1) * by + k + by - 1 for n, by, k in zip(left, stride, kernel, strict=True))
    x_TN = torch.randn(steps, 2, *size, channels, generator=random).movedim(-1, 2)
    x_TN = (x_TN > 0).to(dtype) if kind == "spikes" else x_TN.to(dtype)
    windows = Windows(kernel, stride, (0, 0), (1, 1), size, left)
    return MaxPoolRateCall(x_TN, windows, 0.25 + torch.rand(steps, generator=random).double())


@others
@given(
    *(sides, sides, sides, st.sampled_from([1, 2, 3, 8, 33])),
    *(st.sampled_from(["spikes", "currents"]), seeds),
    *(st.sampled_from([torch.float32, torch.bfloat16]), st.data()),
)
@settings(max_examples=40)
def test_a_pool_is_the_references(name, kernel, stride, left, channels, kind, seed, dtype, data):
    call = pool_call(kernel, stride, left, channels, kind, seed, dtype)
    with any_instructions(data, name):
        found = computed_by(name)(call)
    expected = call.reference()
    if found is None:
        pytest.skip("PyTorch's")
    assert torch.equal(found.y_TN, expected.y_TN)
    rounding = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found.y_N, expected.y_N, rtol=rounding, atol=1e-6)
    for part, wanted in zip(found.parts, expected.parts, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-6)


@others
def test_a_nan_is_told(name):
    call = pool_call((2, 2), (2, 2), (2, 2), 8, "currents", 0)
    call.x_TN[1, 0, 3, 1, 1] = math.nan
    found = computed_by(name)(call)
    if found is None:
        pytest.skip("PyTorch's")
    assert found.parts is None
    assert call.reference().parts is None


POOLS = {
    "by a module": nn.MaxPool2d(2),
    "strided": nn.MaxPool2d(3, 2),
    "padded": nn.MaxPool2d(3, 2, padding=1),
    "to the edge": nn.MaxPool2d(2, ceil_mode=True),
}


def network(pool):
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(2, 2, 9, 9).contiguous(memory_format=torch.channels_last)
    ann(x)
    return spike(ann, example_input=x[:1], timesteps=3, neuron=LIF(0.4, 0.9)), x


def gradients(snn, x):
    snn.zero_grad()
    snn(x, gradient="rate").square().sum().backward()
    return [p.grad.clone() for p in snn.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("watched", [False, True])
def test_a_network_learns_the_same_by_every_backend(kind, watched):
    snn, x = network(POOLS[kind])
    snn = snn.to(memory_format=torch.channels_last)
    seen = []
    if watched:
        snn.get_submodule("2").register_forward_hook(lambda *_: seen.append(1))
    found = gradients(snn, x)
    assert bool(seen) is watched
    with use_backend("reference"):
        expected = gradients(snn, x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert b.abs().max() > 0
