"""Tiled average pooling against PyTorch's; where it is used, and where not."""

import copy
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from leanspike import spike
from leanspike.synapse import TiledAvgPool2d, pooling

NHWC, NCHW = torch.channels_last, torch.contiguous_format
windows = st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 4), st.integers(1, 11)))
layouts = st.sampled_from([NHWC, NCHW])
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(pool, x, grad):
    """Output and gradient of the layer and of PyTorch's."""
    found = []
    for layer in (TiledAvgPool2d.of(pool), pool):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        y.backward(grad)
        found.append((y.detach(), leaf.grad))
    return found


@given(windows, st.tuples(*[st.integers(1, 5)] * 4), layouts, layouts, dtypes)
@settings(max_examples=200)
def test_it_is_pytorchs_bit_for_bit(window, shape, x_layout, grad_layout, dtype):
    n, c, h, w = shape
    high, wide = (window, window) if isinstance(window, int) else window
    x = normal(n, c, h * high, w * wide).to(dtype).contiguous(memory_format=x_layout)
    grad = normal(n, c, h, w, seed=1).to(dtype).contiguous(memory_format=grad_layout)
    with patch.object(pooling.F, "interpolate", wraps=F.interpolate) as spread:
        (y, found), (expected_y, expected) = both(nn.AvgPool2d(window), x, grad)
    spread.assert_called_once()
    assert torch.equal(y, expected_y)
    assert found.stride() == x.stride() or 1 in x.shape
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, stride=2),
        nn.AvgPool2d(2, padding=1),
        nn.AvgPool2d(4),  # leaves something over
        nn.AvgPool2d(4, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
    ],
)
def test_windows_that_do_not_tile_are_pytorchs(pool):
    with patch.object(pooling.F, "interpolate", side_effect=AssertionError):
        y = pool(normal(2, 3, 10, 10))
        for a, b in zip(*both(pool, normal(2, 3, 10, 10), torch.ones_like(y)), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(TiledAvgPool2d.of(nn.AvgPool2d(2))(torch.ones(3, 4, 4)), torch.ones(3, 2, 2))


def test_gradients_of_gradients():
    layer, x = TiledAvgPool2d.of(nn.AvgPool2d(2)), normal(1, 2, 4, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("window", [(2,), [2], [2, 1]])
def test_windows_in_any_form(window):
    pool, x = nn.AvgPool2d(window), normal(1, 2, 4, 4)
    assert torch.equal(TiledAvgPool2d.of(pool)(x), pool(x))


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:.torch.jit.script")
@pytest.mark.parametrize("layout", [NHWC, NCHW])
def test_function_transforms_are_pytorchs(layout):
    pool, x = nn.AvgPool2d(2), normal(1, 3, 4, 4).contiguous(memory_format=layout)
    layer, several = TiledAvgPool2d.of(pool), normal(3, 1, 2, 4, 4)
    assert torch.equal(torch.vmap(layer)(several), torch.vmap(pool)(several))
    assert torch.equal(torch.func.jacrev(layer)(x), torch.func.jacrev(pool)(x))
    for a, b in zip(*(torch.func.jvp(f, (x,), (x,)) for f in (layer, pool)), strict=True):
        assert torch.equal(a, b)


def test_autocast_is_pytorchs():
    pool, x = nn.AvgPool2d(2), normal(2, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        (y, found), (expected_y, expected) = both(pool, x, normal(2, 3, 4, 4).bfloat16())
    assert torch.equal(y, expected_y)
    assert torch.equal(found, expected)


def test_it_is_the_same_layer():
    pool, seen = nn.AvgPool2d(2).eval(), []
    pool.register_forward_hook(lambda *_: seen.append(1))
    layer = copy.deepcopy(TiledAvgPool2d.of(pool))
    layer(torch.zeros(1, 1, 4, 4))
    assert isinstance(layer, TiledAvgPool2d)
    assert not layer.training
    assert repr(layer).removeprefix("Tiled") == repr(pool)
    assert seen == [1]


class Own(nn.AvgPool2d):
    """A user's own pooling with a forward of its own, which is left alone."""

    def forward(self, x):
        return super().forward(x)


def test_the_surgery_puts_it_in():
    ann = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AvgPool2d(2), Own(2), nn.Flatten())
    snn = spike(ann, timesteps=2, example_input=torch.zeros(1, 1, 8, 8), ops={Own: "graded"})
    assert [type(m) for m in snn.modules() if isinstance(m, nn.AvgPool2d)] == [TiledAvgPool2d, Own]
    assert type(ann[2]) is nn.AvgPool2d
