"""Convolutions by Winograd's minimal filtering: what is computed so, and how."""

import pytest
import torch
from torch.nn import functional as F

from leanspike import native
from leanspike.backends import ConvolutionCall, ConvolutionGradientCall, choose, use_backend
from leanspike.backends.native import convolution, winograd
from leanspike.errors import LeanspikeError

if not native.is_built() or len(native.available_instructions()) < 2:
    pytest.skip("the native library has no vector instructions", allow_module_level=True)

NHWC = torch.channels_last


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learning(x, weight, stride=(1, 1), padding=(1, 1), **how):
    return ConvolutionCall(x, weight, None, stride, padding, learning=True, **how)


def images(channels=32, size=16, number=8, seed=0):
    return normal(number, channels, size, size, seed=seed).to(memory_format=NHWC)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (learning(images(), normal(32, 32, 3, 3)), True),
        (learning(images(), normal(32, 32, 3, 3), padding=(0, 2)), True),
        (learning(images().contiguous(), normal(32, 32, 3, 3)), True),
        (learning(images(), normal(32, 32, 3, 3), padding=(3, 3)), False),
        (learning(images(), normal(32, 32, 3, 3), stride=(2, 2)), False),
        (learning(images(), normal(32, 32, 3, 3), dilation=(2, 2)), False),
        (learning(images(), normal(32, 16, 3, 3), groups=2), False),
        (learning(images(), normal(32, 32, 5, 5)), False),
        (learning(images(), normal(30, 32, 3, 3)), False),
        (learning(images(8), normal(32, 8, 3, 3)), False),
        (learning(images(size=2), normal(32, 32, 3, 3), padding=(0, 0)), False),
        (learning(images(number=1, size=4), normal(32, 32, 3, 3)), False),
        (learning(images()[:, :, ::2], normal(32, 32, 3, 3)), False),
        (learning(images().bfloat16(), normal(32, 32, 3, 3).bfloat16()), False),
        (learning(images().double(), normal(32, 32, 3, 3).double()), False),
    ],
)
def test_what_is_computed_so(call, expected):
    assert winograd.knows(call) == expected
    assert (choose(call) is not None) == expected
    with use_backend("reference"):
        assert choose(call) is None


def test_only_a_training_step_gets_more_rounding():
    x, weight = images(), normal(32, 32, 3, 3)
    assert choose(ConvolutionCall(x, weight, None, (1, 1), (1, 1))) is None
    assert choose(learning(x, weight)) is not None


def test_few_events_stay_events():
    call = learning(images() * 0, normal(32, 32, 3, 3))
    backend = choose(call)
    assert torch.equal(backend.run(call), torch.zeros(8, 32, 16, 16))
    assert convolution.is_worth_it(call)
    assert not convolution.is_worth_it(learning(images(), normal(32, 32, 3, 3)))


@pytest.mark.parametrize("weight_layout", [torch.contiguous_format, NHWC])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2), (2, 0)])
@pytest.mark.parametrize("channels", [(16, 16), (24, 40), (40, 104)])
def test_it_is_the_convolution_of_float64(padding, channels, weight_layout):
    """For images of odd sizes, whose last tiles are cut, in any layout of the weights."""
    x = normal(5, channels[0], 13, 10).to(memory_format=NHWC)
    weight = normal(channels[1], channels[0], 3, 3, seed=1).to(memory_format=weight_layout)
    bias = normal(channels[1], seed=2)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    wide = [t.detach().double().requires_grad_() for t in leaves]
    y = torch.ops.leanspike.winograd(*leaves, list(padding))
    expected = F.conv2d(*wide, padding=padding)
    grad = normal(*y.shape, seed=3)
    found = torch.autograd.grad(y, leaves, grad)
    for a, b in zip(
        (y, *found), (expected, *torch.autograd.grad(expected, wide, grad.double())), strict=True
    ):
        assert float(((a - b).abs().max() / b.abs().max()).detach()) < 2e-5


def test_gradients_are_the_same_as_pytorchs_in_any_combination():
    x, weight, grad = images(), normal(32, 32, 3, 3, seed=1), images(seed=2)
    for wanted in ((True, False, False), (False, True, True), (True, True, False)):
        call = ConvolutionGradientCall(grad, x, weight, (1, 1), (1, 1), wanted=wanted)
        found = choose(call).run(call)
        for a, b, want in zip(found, call.by_pytorch(), wanted, strict=True):
            assert (a is not None) == want
            if want:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_no_images_are_none():
    x, weight = torch.empty(0, 16, 8, 8, memory_format=NHWC), normal(24, 16, 3, 3)
    weight.requires_grad_()
    y = torch.ops.leanspike.winograd(x, weight, None, [1, 1])
    assert y.shape == (0, 24, 8, 8)
    y.sum().backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_second_derivatives_are_refused():
    x, weight = images().requires_grad_(), normal(32, 32, 3, 3)
    y = torch.ops.leanspike.winograd(x, weight, None, [1, 1])
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(LeanspikeError, match="no second derivatives"):
        grad.sum().backward()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
def test_pytorch_can_check_the_operators():
    x, weight, bias = images(16, 6, 2), normal(16, 16, 3, 3), normal(16)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    ours = torch.ops.leanspike
    torch.library.opcheck(ours.winograd.default, (*leaves, [1, 1]))
    how = images(16, 6, 2), x.detach(), weight.detach(), [1, 1]
    torch.library.opcheck(ours.winograd_input_gradient.default, how)
    torch.library.opcheck(ours.winograd_weight_gradient.default, how)
