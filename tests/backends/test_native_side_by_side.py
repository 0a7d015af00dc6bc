"""Gradients of weights over small images that are laid side by side, in bfloat16."""

from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import native
from leanspike.backends import (
    ConvolutionCall,
    ConvolutionGradientCall,
    choose,
    use_backend,
    watch_backends,
)
from leanspike.backends.native import side_by_side
from leanspike.errors import LeanspikeError
from leanspike.evaluation.macs import MacCounter
from leanspike.synapse import EventConv2d, convolving_faster

if not native.is_built():
    pytest.skip("the native library is not built", allow_module_level=True)


@pytest.fixture(autouse=True)
def with_matrix_units():
    """Processors without them compute the same, slowly."""
    with (
        patch.object(side_by_side, "has_matrix_units", lambda: True),
        patch.object(side_by_side, "has_bfloat16", lambda: True),
    ):
        yield


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("images", "outputs", "size"), [(16, 64, (8, 8)), (32, 72, (3, 5)), (8, 128, (15, 9))]
)
def test_they_are_the_gradients_of_float64(images, outputs, size, layout, bias):
    x = normal(images, 64, *size).contiguous(memory_format=layout)
    leaves = [x, normal(outputs, 64, 3, 3, seed=1)] + [normal(outputs, seed=2)] * bias
    leaves = [t.detach().requires_grad_() for t in leaves]
    wide = [t.detach().double().requires_grad_() for t in leaves]
    call = ConvolutionCall(*leaves, *[None] * (not bias), (1, 1), (1, 1), learning=True)
    assert side_by_side.knows(call)
    y, expected = side_by_side.run(call), F.conv2d(*wide, padding=1)
    grad = normal(*y.shape, seed=3)
    found = torch.autograd.grad(y, leaves, grad)
    exact = torch.autograd.grad(expected, wide, grad.double())
    for a, b in zip((y, *found), (expected, *exact), strict=True):
        assert a.dtype == torch.bfloat16
        largest = float(b.detach().abs().max())
        torch.testing.assert_close(a.double(), b, rtol=2**-7, atol=2**-8 * largest)


def test_only_what_is_wanted_is_computed():
    x, weight, grad = (
        normal(16, 64, 4, 4),
        normal(64, 64, 3, 3, seed=1),
        normal(16, 64, 4, 4, seed=2),
    )
    for wanted in ((True, False, False), (False, True, True), (True, True, False)):
        call = ConvolutionGradientCall(grad, x, weight, (1, 1), (1, 1), wanted=wanted)
        found = choose(call).run(call)
        assert tuple(each is not None for each in found) == wanted


def test_products_are_counted_as_those_of_the_plain_convolution():
    x, weight, grad = (normal(*shape) for shape in ((16, 64, 4, 4), (64, 64, 3, 3), (16, 64, 4, 4)))
    call = ConvolutionGradientCall(grad, x, weight, (1, 1), (1, 1), wanted=(True, True, False))
    counted = []
    for compute in (call.by_pytorch, lambda: choose(call).run(call)):
        with MacCounter() as counter:
            compute()
        counted.append(counter.products)
    assert counted[0] == counted[1]
    assert counted[0].macs == 2 * 16 * 64 * 64 * 9 * 16


def test_second_derivatives_are_refused():
    x, weight = normal(16, 64, 4, 4).requires_grad_(), normal(64, 64, 3, 3).requires_grad_()
    call = ConvolutionCall(x, weight, None, (1, 1), (1, 1), learning=True)
    y = side_by_side.run(call).float().square().sum()
    (by_weight,) = torch.autograd.grad(y, weight, create_graph=True)
    with pytest.raises(LeanspikeError, match="LEANSPIKE_BACKEND=reference"):
        by_weight.sum().backward()


def test_what_it_does_not_know_is_pytorchs():
    x, weight = normal(16, 64, 8, 8), normal(64, 64, 3, 3)
    one = (1, 1)
    assert side_by_side.knows(ConvolutionCall(x, weight, None, one, one))
    for other in (
        ConvolutionCall(x.float(), weight, None, one, one),
        ConvolutionCall(x, weight, None, (2, 2), one),
        ConvolutionCall(x, weight, None, one, (0, 0)),
        ConvolutionCall(x, weight, None, one, one, (2, 2)),
        ConvolutionCall(x, weight[:, :32], None, one, one, groups=2),
        ConvolutionCall(x, normal(64, 64, 5, 5), None, one, one),
        ConvolutionCall(x[:15], weight, None, one, one),
        ConvolutionCall(x[:0], weight, None, one, one),
        ConvolutionCall(normal(16, 64, 9, 9), weight, None, one, one),
        ConvolutionCall(normal(16, 64, 17, 17), normal(128, 64, 3, 3), None, one, one),
    ):
        assert not side_by_side.knows(other)
    with patch.object(side_by_side, "has_matrix_units", lambda: False):
        assert not side_by_side.knows(ConvolutionCall(x, weight, None, one, one))


@pytest.mark.parametrize("kind", [nn.Conv2d, EventConv2d])
def test_a_network_that_trains_in_bfloat16_takes_them(kind):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    layer = EventConv2d.of(layer) if kind is EventConv2d else layer
    network, x = nn.Sequential(layer), torch.randn(16, 64, 8, 8)

    def learnt():
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            network(x).float().square().sum().backward()
        return layer.weight.grad.clone()

    expected = learnt()
    with convolving_faster(network), watch_backends() as ran:
        found = learnt()
    assert ran.names == {"native"}
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, expected, rtol=2**-6, atol=2**-7 * float(expected.abs().max())
    )
    with convolving_faster(network), use_backend("reference"):
        assert torch.equal(learnt(), expected)
    autocast = torch.autocast("cpu", torch.bfloat16)
    with convolving_faster(network), torch.no_grad(), autocast, watch_backends() as ran:
        network(x)
    assert ran.names == set()
