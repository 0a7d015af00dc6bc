"""What every backend promises of a batch norm in training and the LIF neurons behind it.

A backend that does not serve such a call leaves it to PyTorch. Of one that does: statistics and
gradients are the reference's to rounding; spikes are those of the currents that its statistics
give, bit for bit.
"""

from dataclasses import replace

import pytest
import torch
from backend_calls import (
    SOFT,
    any_instructions,
    assert_close,
    computed_by,
    dynamics,
    in_all_instructions,
    others,
    seeds,
    use,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leanspike.backends import LIFRateCall, NormLIFCall, NormLIFRateCall, NormScale
from leanspike.backends.native import norm as native
from leanspike.backends.normalised import norm_lif
from leanspike.backends.norms import normalised
from leanspike.backends.reference import lif
from leanspike.surrogate import Rectangle

DTYPES = [torch.float32, torch.bfloat16]
groups = st.sampled_from([False, True])
sizes = st.sampled_from([(), (1,), (3, 5), (1, 7)])
channels = st.sampled_from([2, 3, 8, 13, 40, 100])


@pytest.fixture(autouse=True, scope="module")
def small_ones_too():
    """Small tensors are served as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LEAST_WORK", 0)
        yield


def channels_last(x_TN):
    if x_TN.dim() != 5:
        return x_TN.movedim(2, -1).contiguous().movedim(-1, 2)
    last = x_TN.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return last.unflatten(0, x_TN.shape[:2])


def norm_call(shape, seed=0, dtype=torch.float32, d=SOFT, per_step=False, offset=0.0):
    random = torch.Generator().manual_seed(seed)
    x_TN = channels_last(3 * torch.randn(shape, generator=random) + offset).to(dtype)
    shape_GC = (shape[0] if per_step else 1, shape[2])
    weight_RC = (0.2 + torch.rand(shape_GC, generator=random)).requires_grad_()
    bias_RC = torch.randn(shape_GC, generator=random).requires_grad_() if seed % 2 else None
    norm = NormScale(weight_RC, bias_RC, 1e-4)
    pair = (torch.tensor(value, requires_grad=True) for value in (0.9, 0.7))
    return NormLIFCall(x_TN.requires_grad_(), norm, *pair, d)


def leaves_of(call):
    found = [call.x_TN, call.norm.weight_RC, call.norm.bias_RC, call.leak, call.threshold]
    return [leaf for leaf in found if leaf is not None]


def with_statistics(call, mean_GC, var_GC):
    """Spikes by the reference of the currents that these statistics give."""
    y_TN = normalised(call.x_TN.float(), call.norm, mean_GC, var_GC)
    return lif(y_TN, call.leak, call.threshold, call.dynamics).to(call.x_TN.dtype)


def exact_gradients(call, grad):
    """The reference's, in float64, where its spikes are those of float32."""
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves_of(call)]
    x_TN, weight_RC, *bias_RC, leak, threshold = wide
    norm = NormScale(weight_RC, bias_RC[0] if bias_RC else None, call.norm.eps)
    exact = norm_lif(x_TN, norm, leak, threshold, call.dynamics)
    return exact.o_TN, torch.autograd.grad(exact.o_TN, wide, grad.double())


@others
@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes, channels, st.integers(1, 5), groups, dynamics, seeds, st.data())
@settings(max_examples=40)
def test_spikes_are_those_of_its_statistics_and_these_the_references(
    name, dtype, size, channels, steps, per_step, d, seed, data
):
    call = norm_call((steps, 3, channels, *size), seed, dtype, d, per_step, 50.0 * (seed % 3))
    with any_instructions(data, name):
        found = computed_by(name)(call)
    if found is None:
        pytest.skip(f"{name} leaves it to PyTorch")
    pair = call.leak, call.threshold
    expected = norm_lif(call.x_TN.detach().double(), call.norm, *pair, d)
    assert found.o_TN.dtype == dtype
    with torch.no_grad():
        spikes = with_statistics(call, found.mean_GC, found.var_GC)
    assert torch.equal(found.o_TN, spikes)
    torch.testing.assert_close(found.mean_GC.double(), expected.mean_GC, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.var_GC.double(), expected.var_GC, rtol=5e-5, atol=1e-6)


@others
@given(sizes, channels, st.integers(1, 5), groups, dynamics, seeds, st.data())
@settings(max_examples=40)
def test_gradients_are_the_references(name, size, channels, steps, per_step, d, seed, data):
    call = norm_call((steps, 3, channels, *size), seed, torch.float32, d, per_step)
    random = torch.Generator().manual_seed(seed + 1)
    grad = channels_last(torch.randn(call.x_TN.shape, generator=random))
    with any_instructions(data, name):
        found = computed_by(name)(call)
        gradients = torch.autograd.grad(found.o_TN, leaves_of(call), grad)
    spikes, expected = exact_gradients(call, grad)
    assume(torch.equal(spikes != 0, found.o_TN != 0))  # else a membrane took another course
    assume(not isinstance(d.surrogate, Rectangle))  # which jumps, and rounding decides where
    largest = float(d.surrogate.derivative(torch.zeros(1))) / 0.7 * steps
    for a, b in zip(gradients, expected, strict=True):
        terms = 1 if a.shape == call.x_TN.shape else a.numel() and call.x_TN.numel() / a.numel()
        assert_close(a, b, 2e-4, largest * terms**0.5)


@others
def test_gradients_in_bfloat16_are_near_those_in_float32(name):
    call = norm_call((4, 3, 40, 5, 6), 1, torch.bfloat16)
    wide = replace(call, x_TN=call.x_TN.detach().float().requires_grad_())
    grad = channels_last(torch.randn(call.x_TN.shape, generator=torch.Generator().manual_seed(2)))
    found = [
        torch.autograd.grad(computed_by(name)(each).o_TN, leaves_of(each), grad.to(each.x_TN.dtype))
        for each in (call, wide)
    ]
    for a, b in zip(*found, strict=True):
        assert_close(a.float(), b, 2**-6, float(b.abs().max()))


@others
@given(sizes, channels, st.integers(1, 5), st.sampled_from(DTYPES), dynamics, seeds, st.data())
@settings(max_examples=40)
def test_rates_are_the_references(name, size, channels, steps, dtype, d, seed, data):
    plain = norm_call((steps, 3, channels, *size), seed, dtype, d)
    learned = ("leak", "threshold")
    pair = plain.leak.detach(), plain.threshold.detach()
    call = NormLIFRateCall(plain.x_TN.detach(), plain.norm, *pair, d, learned)
    with any_instructions(data, name):
        found = computed_by(name)(call)
    if found is None:
        pytest.skip(f"{name} leaves it to PyTorch")
    with torch.no_grad():
        statistics = found.followed.mean_GC, found.followed.var_GC
        y_TN = normalised(call.x_TN.float(), call.norm, *statistics)
    expected = LIFRateCall(y_TN, *pair, d, learned).reference()
    assert torch.equal(found.rates.o_TN, expected.o_TN.to(dtype))
    rounding = 1e-5 if dtype == torch.float32 else 2**-7
    assert_close(found.x_N.float(), call.x_TN.float().mean(0), rounding)
    assert_close(found.rates.mean().float(), expected.mean(), rounding)
    assert_close(found.rates.by_input, expected.by_input, 1e-4)
    for parameter in learned:
        assert_close(found.rates.by[parameter], expected.by[parameter], 1e-4, 1.0)


@in_all_instructions
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_step", [False, True])
def test_threads_change_no_bit(name, instructions, dtype, per_step):
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            call = norm_call((5, 3, 24, 60, 61), 1, dtype, per_step=per_step)
            with use(instructions):
                answer = computed_by(name)(call)
                gradients = torch.autograd.grad(answer.o_TN.float().square().sum(), leaves_of(call))
            found.append([answer.o_TN, answer.mean_GC, answer.var_GC, *gradients])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@others
def test_what_is_not_learned_gets_no_gradient(name):
    call = norm_call((3, 2, 8, 4, 4), 1)
    frozen = replace(call, x_TN=call.x_TN.detach(), leak=call.leak.detach())
    frozen = replace(frozen, threshold=call.threshold.detach())
    both = call.norm.weight_RC, call.norm.bias_RC
    answers = [computed_by(name)(each) for each in (call, frozen)]
    some, every = (torch.autograd.grad(a.o_TN.square().sum(), both) for a in reversed(answers))
    assert all(torch.equal(a, b) for a, b in zip(some, every, strict=True))


@others
def test_layouts_with_channels_apart_and_still_inputs_are_left_to_pytorch(name):
    call = norm_call((3, 2, 8, 4, 4))
    for x_TN in (call.x_TN.contiguous(), call.x_TN[:1].expand(3, 2, 8, 4, 4), call.x_TN.double()):
        assert computed_by(name)(replace(call, x_TN=x_TN)) is None
