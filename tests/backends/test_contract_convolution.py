"""What every backend promises, whichever it is: convolutions of spikes.

Each call goes the way of a layer's, with the backend chosen by name: what it does not serve is
PyTorch's. Every registered backend is held to it.
"""

import pytest
import torch
from backend_calls import any_instructions, computed_by, instructions_of, others, use
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from leanspike.backends import ConvolutionCall, Stream
from leanspike.errors import LeanspikeError

ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
LEARNING = {torch.float32: 5e-5, torch.bfloat16: 2**-7}
"""What may be rounded more: gradients, and what only a training step hears of."""


def few_events(shape, dtype, density=0.05, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=random) < density) * torch.randn(shape, generator=random)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def torchs(call):
    how = call.stride, call.padding, call.dilation, call.groups
    return F.conv2d(call.x, call.weight, call.bias, *how)


def found_by(name, call):
    y = computed_by(name)(call)
    return torchs(call) if y is None else y


def with_gradients(answer, x, weight, bias, grad, how, learning=False):
    leaves = [None if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    y = answer(ConvolutionCall(*leaves, *how, learning=learning))
    y.backward(grad)
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


@others
@given(
    st.integers(2, 8),
    st.sampled_from([16, 48, 130]),
    st.sampled_from([64, 96]),
    st.tuples(st.integers(8, 17), st.integers(8, 17)),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([0.0, 0.05, 0.9]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.data(),
)
@settings(max_examples=60)
def test_results_and_gradients_are_those_of_float64(
    name, n, channels, outputs, size, kernel, stride, density, biased, learning, dtype, data
):
    x = few_events((n, channels, *size), dtype, density)
    weight = normal(outputs, channels, kernel, kernel).to(dtype)
    bias = normal(outputs).to(dtype) if biased else None
    how = (stride, stride), (kernel // 2, kernel // 2)
    wide = [t if t is None else t.double() for t in (x, weight, bias)]
    grad = normal(*torchs(ConvolutionCall(*wide, *how)).shape).to(dtype)
    with any_instructions(data, name):
        found = with_gradients(
            lambda call: found_by(name, call), x, weight, bias, grad, how, learning
        )
    expected = with_gradients(torchs, *wide, grad.double(), how)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, dtype)
        rounding = (LEARNING if i or learning else ROUNDING)[dtype]
        atol = rounding * max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a.double(), b, rtol=rounding, atol=atol)


@others
@pytest.mark.parametrize("how", [{"groups": 2}, {"dilation": (2, 2)}])
def test_groups_and_dilations_are_left_alone_or_right(name, how):
    groups = how.get("groups", 1)
    x, weight = few_events((8, 64, 16, 16), torch.float32), normal(64, 64 // groups, 3, 3)
    call = ConvolutionCall(x, weight, None, (1, 1), (1, 1), **how)
    torch.testing.assert_close(found_by(name, call), torchs(call), rtol=1e-5, atol=1e-4)


@others
def test_other_channels_are_torchs_error(name):
    x, weight = few_events((8, 32, 16, 16), torch.float32), normal(64, 64, 3, 3)
    with pytest.raises(RuntimeError, match="to have 64 channels, but got 32 channels"):
        found_by(name, ConvolutionCall(x, weight, None, (1, 1), (1, 1)))


@others
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("density", [0.05, 0.9])
def test_threads_change_no_bit(name, dtype, density):
    x, weight = few_events((8, 64, 16, 16), dtype, density), normal(64, 64, 3, 3).to(dtype)
    grad, found, before = normal(8, 64, 16, 16).to(dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaves = x.requires_grad_(), weight.requires_grad_()
            call = ConvolutionCall(*leaves, None, (1, 1), (1, 1), learning=density > 0.5)
            y = computed_by(name)(call)
            if y is None:
                pytest.skip(f"{name} leaves {dtype} to PyTorch")
            found.append((y.detach(), *torch.autograd.grad(y, leaves, grad)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


@others
def test_weights_are_taken_in_the_inputs_dtype(name):
    x, weight = few_events((8, 64, 16, 16), torch.bfloat16), normal(64, 64, 3, 3)
    call = ConvolutionCall(x, weight, normal(64), (1, 1), (1, 1))
    y = computed_by(name)(call)
    if y is None:
        pytest.skip(f"{name} leaves bfloat16 to PyTorch")
    same = ConvolutionCall(x, weight.bfloat16(), normal(64).bfloat16(), (1, 1), (1, 1))
    assert torch.equal(y, computed_by(name)(same))
    assert y.dtype == torch.bfloat16


@others
@torch.no_grad()
def test_a_stream_changes_nothing_but_the_time_and_heeds_other_weights(name):
    weight, bias, stream = normal(64, 64, 3, 3), normal(64), Stream()
    for instructions in instructions_of(name):
        for seed in range(4):
            x = few_events((2, 64, 16, 16), torch.float32, seed=seed)
            how = (1, 1), (1, 1)
            with use(instructions):
                found = found_by(name, ConvolutionCall(x, weight, bias, *how, stream=stream))
                alone = found_by(name, ConvolutionCall(x, weight, bias, *how))
            torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-4)
            if seed == 2:
                weight.mul_(2)


@others
def test_second_derivatives_are_right_or_refused_with_a_way_out(name):
    x, leaf = few_events((8, 64, 16, 16), torch.float32), normal(64, 64, 3, 3).requires_grad_()
    y = found_by(name, ConvolutionCall(x, leaf, None, (1, 1), (1, 1)))
    (grad,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    refused = None
    try:
        grad.sum().backward()
    except LeanspikeError as error:
        refused = str(error)
    if refused is None:
        ones = torch.ones_like(leaf)
        z = F.conv2d(x, ones, padding=1)
        (expected,) = torch.autograd.grad((F.conv2d(x, leaf, padding=1) * z).sum() * 2, leaf)
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-3, atol=1e-2)
    assert refused is None or refused.endswith("set LEANSPIKE_BACKEND=reference, which has them")
