"""What every backend promises of a batch norm in training that no neurons alone read.

Its statistics, currents and gradients are the reference's to rounding, in each layout, and those
of the mean over time that rate gradients go through as well. What it does not serve is PyTorch's.
"""

import pytest
import torch
from backend_calls import (
    any_instructions,
    assert_close,
    computed_by,
    in_all_instructions,
    others,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.backends import NormCall, NormMeanCall, NormRateCall, NormScale
from leanspike.backends.native import norm as behind
from leanspike.backends.native import norm_alone as alone
from leanspike.backends.norms import norm_of_mean

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
LAYOUTS = st.sampled_from(["planes", "channels last", "cut"])
KINDS = ["of all steps", "of each step", "together"]
sizes = st.sampled_from([(), (1,), (3, 5), (7, 1), (50, 43), (2, 3, 2)])
channels = st.sampled_from([1, 2, 3, 8, 13, 100])
every_kind = st.sampled_from(KINDS)
seeds = st.integers(0, 999)


@pytest.fixture(autouse=True, scope="module")
def small_ones_too():
    """Small tensors are served as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behind, "LEAST_WORK", 0)
        patch.setattr(alone, "LEAST_WORK", 0)
        yield


def laid_out(x_TN, layout):
    """Steps that are planes of channels, rows of channels, or apart from each other."""
    if layout == "channels last":
        return x_TN.movedim(2, -1).contiguous().movedim(-1, 2)
    return torch.stack([x_TN, x_TN + 1], 1)[:, 0] if layout == "cut" else x_TN


def drawn(shape, kind, seed, dtype=torch.float32, layout="planes", offset=0.0):
    """Currents, and a norm; no bias where the seed is even."""
    random = torch.Generator().manual_seed(seed)
    x_TN = laid_out((3 * torch.randn(shape, generator=random) + offset).to(dtype), layout)
    shape_RC = (1 if kind == "of all steps" else shape[0], shape[2])
    weight_RC = (0.2 + torch.rand(shape_RC, generator=random)).requires_grad_()
    bias_RC = torch.randn(shape_RC, generator=random).requires_grad_() if seed % 2 else None
    return x_TN, NormScale(weight_RC, bias_RC, 1e-4, kind == "together")


def in_float64(norm):
    parts = [p if p is None else p.detach().double() for p in (norm.weight_RC, norm.bias_RC)]
    wide = [p if p is None else p.requires_grad_() for p in parts]
    return NormScale(*wide, norm.eps, norm.together)


def learned(norm):
    return [p for p in (norm.weight_RC, norm.bias_RC) if p is not None]


def rounding(dtype):
    return 2e-5 if dtype == torch.float32 else 2**-7


@others
@given(sizes, channels, st.integers(1, 5), every_kind, LAYOUTS, DTYPES, seeds, st.data())
@settings(max_examples=60)
def test_currents_and_gradients_are_the_references(
    name, size, channels, steps, kind, layout, dtype, seed, data
):
    shape = (steps, 3, channels, *size)
    x_TN, norm = drawn(shape, kind, seed, dtype, layout, 20.0 * (seed % 3))
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1)).to(dtype)
    with any_instructions(data, name):
        found = computed_by(name)(NormCall(x_TN.requires_grad_(), norm))
        assert found is not None
        gradients = torch.autograd.grad(found.y_TN, [x_TN, *learned(norm)], grad)
    wide_TN, wide = x_TN.detach().double().requires_grad_(), in_float64(norm)
    expected = NormCall(wide_TN, wide).reference()
    exact = torch.autograd.grad(expected.y_TN, [wide_TN, *learned(wide)], grad.double())
    assert found.y_TN.dtype == dtype
    assert found.y_TN.shape == x_TN.shape
    torch.testing.assert_close(found.mean_GC.double(), expected.mean_GC, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.var_GC.double(), expected.var_GC, rtol=5e-5, atol=1e-6)
    assert_close(found.y_TN.float(), expected.y_TN, rounding(dtype), 1.0)
    largest = float(wide_TN.detach().abs().max() * (expected.var_GC + norm.eps).rsqrt().max())
    for a, b in zip(gradients, exact, strict=True):
        of_mean = 2**-23 * largest  # a mean's rounding, beside values that hardly differ
        scale = (x_TN.numel() / channels) ** 0.5
        assert_close(a.float(), b, 10 * rounding(a.dtype) + of_mean, scale)


@others
@given(sizes, channels, st.integers(1, 5), every_kind, LAYOUTS, DTYPES, seeds, st.data())
@settings(max_examples=60)
def test_means_over_time_are_the_references(
    name, size, channels, steps, kind, layout, dtype, seed, data
):
    x_TN, norm = drawn((steps, 3, channels, *size), kind, seed, dtype, layout, 9.0 * (seed % 3))
    with any_instructions(data, name):
        found = computed_by(name)(NormRateCall(x_TN, norm))
    expected = NormRateCall(x_TN, norm).reference()
    for part in ("y_TN", "y_N", "x_N"):
        own, other = getattr(found, part), getattr(expected, part)
        assert own.dtype == dtype
        assert_close(own.float(), other.float(), rounding(dtype), 1.0)
    one, other = found.followed, expected.followed
    assert_close(one.mean_GC, other.mean_GC, 1e-5, 1.0)
    assert_close(one.var_GC, other.var_GC, 1e-4)
    assert_close(one.own_C, other.own_C, 5 * rounding(dtype), 1e-3)
    assert (one.share_TC is None) == (other.share_TC is None)
    if one.share_TC is not None:
        assert_close(one.mean_TC, other.mean_TC, 1e-5, 1.0)
        assert_close(one.share_TC, other.share_TC, 5 * rounding(dtype), 1.0)


@others
@given(sizes, channels, st.integers(1, 5), every_kind, LAYOUTS, seeds, st.data())
@settings(max_examples=60)
def test_gradients_through_a_mean_are_those_of_autograd(
    name, size, channels, steps, kind, layout, seed, data
):
    x_TN, norm = drawn((steps, 3, channels, *size), kind, seed, layout=layout)
    rates = NormRateCall(x_TN, norm).reference()
    x_N, leaves = rates.x_N.requires_grad_(), learned(norm)
    grad = torch.randn(x_N.shape, generator=torch.Generator().manual_seed(seed + 1))
    with any_instructions(data, name):
        y_N = computed_by(name)(NormMeanCall(rates.y_N, x_N, norm, rates.followed))
        found = torch.autograd.grad(y_N, [x_N, *leaves], grad)
    assert torch.equal(y_N, rates.y_N)
    wide, wide_N = in_float64(norm), x_N.detach().double().requires_grad_()
    exact = NormRateCall(x_TN.double(), wide).reference().followed
    through = norm_of_mean(rates.y_N.double(), wide_N, wide, exact)
    expected = torch.autograd.grad(through, [wide_N, *learned(wide)], grad.double())
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 5e-4, (x_N.numel() / channels) ** 0.5)


@in_all_instructions
@pytest.mark.parametrize("layout", ["planes", "channels last"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_no_bit(name, instructions, layout, kind):
    found, before = [], torch.get_num_threads()
    x_TN, norm = drawn((5, 6, 24, 30, 31), kind, 1, layout=layout)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use(instructions):
                call = NormCall(x_TN.requires_grad_(), norm)
                answer = computed_by(name)(call)
                rates = computed_by(name)(NormRateCall(x_TN.detach(), norm))
                by = torch.autograd.grad(answer.y_TN.square().sum(), [x_TN, *learned(norm)])
            found.append([answer.y_TN, answer.mean_GC, answer.var_GC, rates.y_N, rates.x_N, *by])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@others
def test_what_is_not_learned_gets_no_gradient(name):
    x_TN, norm = drawn((3, 2, 8, 4, 4), "of each step", 1)
    fixed = NormScale(norm.weight_RC.detach(), norm.bias_RC, norm.eps)
    y_TN = computed_by(name)(NormCall(x_TN, fixed)).y_TN
    both = computed_by(name)(NormCall(x_TN.requires_grad_(), norm)).y_TN
    weights_TN = torch.randn(x_TN.shape, generator=torch.Generator().manual_seed(4))
    ones = [torch.autograd.grad((weights_TN * y).sum(), norm.bias_RC)[0] for y in (y_TN, both)]
    assert torch.equal(*ones)


@others
@pytest.mark.parametrize("kind", ["expanded", "apart", "float64", "one value"])
def test_the_rest_is_left_to_pytorch(name, kind):
    x_TN, norm = drawn((3, 2, 8, 4, 4), "of all steps", 1)
    x_TN = {
        "expanded": x_TN[:1].expand(3, 2, 8, 4, 4),
        "apart": x_TN[..., ::2],
        "float64": x_TN.double(),
        "one value": x_TN[:, :1, :, :1, :1].contiguous(),
    }[kind]
    assert computed_by(name)(NormCall(x_TN, norm)) is None
