"""What every backend promises, whichever it is: rate gradients of LIF neurons.

Each call goes the way of a layer's, with the backend chosen by name: what it does not serve is the
reference's. Every registered backend is held to it.
"""

import pytest
import torch
from backend_calls import (
    LARGE,
    RESETS,
    SOFT,
    any_instructions,
    computed_by,
    dtypes,
    dynamics,
    every,
    in_all_instructions,
    inputs,
    laid_out,
    layouts,
    leaks,
    others,
    seeds,
    shapes,
    steepest,
    thresholds,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.backends import Dynamics, LIFRateCall

LEARNED = [(), ("leak",), ("threshold",), ("leak", "threshold")]


def rate_call(x_TN, leak=0.9, threshold=0.7, d=SOFT, learned=LEARNED[-1], arrival_T=None):
    return LIFRateCall(x_TN, torch.tensor(leak), torch.tensor(threshold), d, learned, arrival_T)


def assert_same_rates(found, expected, dtype, steepest=0.0):
    """Spikes to the bit, the rest to rounding (that of the spikes' height in bfloat16)."""
    assert found.o_TN.dtype == dtype
    assert torch.equal(found.o_TN, expected.o_TN)
    rounding = 1e-5 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found.mean(), expected.mean(), rtol=rounding, atol=1e-6)
    assert found.by.keys() == expected.by.keys()
    slopes = {"input": (found.by_input, expected.by_input)}
    slopes |= {name: (slope, expected.by[name]) for name, slope in found.by.items()}
    for name, (a, b) in slopes.items():
        assert a.shape == b.shape
        largest = max([1e-6, steepest, *b[b.isfinite()].abs().flatten().tolist()])
        of = rounding if name == "threshold" else 1e-5  # which knows the height as it is stored
        torch.testing.assert_close(a, b, rtol=10 * of, atol=of * largest, equal_nan=True)


@others
@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, seeds, st.data())
@settings(max_examples=40)
def test_rates_are_the_references(name, shape, layout, dtype, d, leak, threshold, seed, data):
    x_TN = laid_out(inputs(shape, threshold, seed).to(dtype), layout)
    shares = torch.linspace(1.5, 0.5, len(x_TN)) if data.draw(st.booleans()) else None
    call = rate_call(x_TN, leak, threshold, d, data.draw(st.sampled_from(LEARNED)), shares)
    kept = x_TN.clone()
    with any_instructions(data, name):
        found = computed_by(name)(call)
    assert_same_rates(found, call.reference(), dtype, steepest(d, threshold))
    assert torch.equal(x_TN, kept)


@others
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_infinities_and_nans_fire_alike(name, reset, dtype):
    x_TN = inputs((4, 500), 1.0, 0, special=True).to(dtype)
    call = rate_call(x_TN, d=Dynamics(reset))
    found, expected = computed_by(name)(call), call.reference()
    assert torch.equal(found.o_TN, expected.o_TN)
    assert torch.equal(found.by_input.isnan(), expected.by_input.isnan())
    assert found.by_input.isnan().any()


@in_all_instructions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit_of_rates(name, instructions, dtype):
    x_TN, found, before = inputs(LARGE, 1.0, 0).to(dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use(instructions):
                found.append(computed_by(name)(rate_call(x_TN)))
    finally:
        torch.set_num_threads(before)
    one, several = ([r.o_TN, r.mean(), r.by_input, *r.by.values()] for r in found)
    assert all(torch.equal(a, b) for a, b in zip(one, several, strict=True))


@every
def test_of_one_step_it_is_the_derivative_of_the_spike(name):
    x_TN = torch.tensor([[0.35, 0.7, 1.05, 3.0]])
    found = computed_by(name)(rate_call(x_TN))
    torch.testing.assert_close(found.by_input, 0.3 / 0.7 * torch.tensor([[0.5, 1.0, 0.5, 0.0]])[0])
    assert found.o_TN.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert found.by["leak"].count_nonzero() == 0


@every
@pytest.mark.parametrize("height", ["unit", "threshold"])
def test_shares_weigh_the_steps(name, height):
    """Derivatives of a mean in which steps count by shares are sums of those of single steps."""
    x_TN, shares = inputs((4, 500), 0.7, 0), torch.tensor([1.75, 1.25, 0.75, 0.25])
    d = Dynamics(height=height)
    found = computed_by(name)(rate_call(x_TN, d=d, arrival_T=shares))
    single = [computed_by(name)(rate_call(x_TN, d=d, arrival_T=one)) for one in torch.eye(4)]
    assert torch.equal(found.mean(), found.o_TN.mean(0))
    for slope, parts in (
        (found.by_input, [each.by_input for each in single]),
        *((found.by[key], [each.by[key] for each in single]) for key in found.by),
    ):
        expected = sum(share * part for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.by_input, computed_by(name)(rate_call(x_TN, d=d)).by_input)


@every
def test_it_leaves_no_gradients(name):
    x_TN = torch.rand(3, 4, requires_grad=True)
    found = computed_by(name)(rate_call(x_TN))
    assert not any(t.requires_grad for t in (found.o_TN, found.mean(), found.by_input))


@every
def test_a_batch_may_be_empty(name):
    found = computed_by(name)(rate_call(torch.zeros(3, 0, 4)))
    assert found.o_TN.shape == (3, 0, 4)
    assert found.mean().shape == found.by["leak"].shape == (0, 4)
