"""What every backend promises, whichever it is: spikes of LIF neurons, whole and step by step.

Each call goes the way of a layer's, with the backend chosen by name: what it does not serve is the
reference's. Every registered backend is held to it.
"""

import pytest
import torch
from backend_calls import (
    RESETS,
    any_instructions,
    compute_call,
    computed_by,
    dtypes,
    dynamics,
    every,
    inputs,
    instructions_of,
    laid_out,
    layouts,
    leaks,
    lif_call,
    others,
    reference,
    seeds,
    shapes,
    thresholds,
    use,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.backends import (
    ConvolutionCall,
    Dynamics,
    LIFCall,
    LIFStepCall,
    use_backend,
    watch_backends,
)
from leanspike.backends.reference import initial_membrane

# Spikes.


@every
def test_it_serves_something(name):
    """A float32 layer, a step of one, or a convolution of few events."""
    x, weight = torch.zeros(8, 64, 16, 16), torch.ones(64, 64, 3, 3)
    x_TN, d = torch.zeros(2, 3), Dynamics()
    calls = [
        lif_call(x_TN),
        LIFStepCall(None, x_TN[0], torch.tensor(0.9), torch.tensor(0.7), d),
        ConvolutionCall(x.to(memory_format=torch.channels_last), weight, None, (1, 1), (1, 1)),
    ]
    with watch_backends() as ran:
        for call in calls:
            computed_by(name)(call)
    assert name in ran.names
    assert ran.names <= {name, "reference"}


@others
@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, seeds, st.data())
@settings(max_examples=250)
def test_spikes_are_identical(name, shape, layout, dtype, d, leak, threshold, seed, data):
    x = laid_out(inputs(shape, threshold, seed, special=True).to(dtype), layout)
    call = lif_call(x, leak, threshold, d)
    with any_instructions(data, name):
        spikes = computed_by(name)(call)
    assert spikes.dtype == dtype
    assert torch.equal(spikes, call.reference())


@others
@pytest.mark.parametrize("threshold", [-0.7, -0.0, 0.0, 1e-40, float("inf"), float("nan")])
@pytest.mark.parametrize("d", [*map(Dynamics, RESETS), Dynamics("hard", "half", "threshold")])
def test_spikes_are_identical_for_thresholds_out_of_range(name, threshold, d):
    x = torch.cat([inputs((4, 50), 1.0, 0, special=True), inputs((4, 50), 1e-40, 0)], 1)
    call = lif_call(x, 0.9, threshold, d)
    for instructions in instructions_of(name):
        with use(instructions):
            spikes = computed_by(name)(call)
        assert torch.equal(spikes.nan_to_num(-1), call.reference().nan_to_num(-1))


@every
@given(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 3))
@settings(max_examples=250)
def test_the_comparison_agrees_with_the_division_at_every_threshold(name, bits, neighbour):
    threshold = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    u = torch.tensor(max(min(bits + neighbour, 2**31 - 1), -(2**31)), dtype=torch.int32)
    u = u.view(torch.float32).reshape(1, 1)
    spikes = computed_by(name)(LIFCall(u, torch.tensor(0.0), threshold, Dynamics()))
    assert spikes.item() == float(u / threshold - 1 > 0)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", ["plain", "channels_last", "swapped", "static", "cut"])
def test_the_same_call_twice_is_the_same_and_leaves_its_inputs_alone(name, dtype, layout):
    x = laid_out(inputs((3, 2, 4, 5, 6), 1.0, 0).to(dtype), layout)
    kept, first = x.clone(), computed_by(name)(lif_call(x))
    assert torch.equal(computed_by(name)(lif_call(x)), first)
    assert torch.equal(x, kept)
    assert (first.shape, first.dtype) == (x.shape, dtype)
    if layout == "channels_last":
        assert first.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@every
def test_autocast_and_inference_change_nothing(name):
    for dtype in (torch.float32, torch.bfloat16):
        call = lif_call(inputs((3, 2, 4), 1.0, 0).to(dtype))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(computed_by(name)(call), call.reference())
        with torch.inference_mode():
            assert torch.equal(computed_by(name)(call), call.reference())


@every
@pytest.mark.parametrize("kind", ["whole", "step"])
def test_it_is_computed_under_torch_compile(name, kind):
    """Also where its code cannot be traced: choosing and noting leave nothing behind."""
    x, u = inputs((3, 2, 4), 1.0, 0), torch.rand(2, 4)
    leak, threshold, d = torch.tensor(0.9), torch.tensor(0.7), Dynamics()

    def compute(x_TN, u_N):
        if kind == "whole":
            return compute_call(LIFCall(x_TN, leak, threshold, d))
        step = LIFStepCall(u_N, x_TN[0], leak, threshold, d)
        return compute_call(step)

    torch._dynamo.reset()
    with use_backend(name), torch.no_grad():
        found = torch.compile(compute, backend="aot_eager", fullgraph=True)(x, u)
        torch.testing.assert_close(found, compute(x, u), rtol=0, atol=0)


# Steps.


@others
@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, seeds, st.data())
@settings(max_examples=250)
def test_a_step_is_the_references(name, shape, layout, dtype, d, leak, threshold, seed, data):
    x_TN = laid_out(inputs(shape, threshold, seed, special=True).to(dtype), layout)
    pair = torch.tensor(leak), torch.tensor(threshold, dtype=torch.float32)
    u = expected_u = data.draw(st.sampled_from([None, initial_membrane(x_TN[0], pair[1], d)]))
    for x in x_TN:
        kept = None if u is None else u.clone()
        with any_instructions(data, name):
            o, after = computed_by(name)(LIFStepCall(u, x, *pair, d))
        assert u is None or torch.equal(u, kept) or kept.isnan().any()  # a state is a value
        expected_o, expected_u = LIFStepCall(expected_u, x, *pair, d).reference()
        u = after
        for found, expected in ((o, expected_o), (u, expected_u)):
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@every
def test_a_step_takes_a_membrane_of_another_layout(name):
    x = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    call = LIFStepCall(torch.rand(2, 3, 4, 5), x, torch.tensor(0.9), torch.tensor(0.7), Dynamics())
    for a, b in zip(computed_by(name)(call), call.reference(), strict=True):
        assert torch.equal(a, b)


@every
def test_a_step_broadcasts_as_the_reference(name):
    pair = torch.tensor(0.9), torch.tensor(0.7)
    for u, x in ((torch.rand(5, 1), torch.rand(5)), (torch.rand(5), torch.rand(1, 5))):
        call = LIFStepCall(u, x, *pair, Dynamics())
        for a, b in zip(computed_by(name)(call), call.reference(), strict=True):
            assert torch.equal(a, b)


@every
def test_a_step_has_gradients(name):
    gradients = []
    for answer in (computed_by(name), reference):
        values = ([0.2, 1.5], [0.6, 0.3], 0.9, 0.7)
        leaves = [torch.tensor(value, requires_grad=True) for value in values]
        o, u = answer(LIFStepCall(*leaves, Dynamics()))
        (o + u).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*gradients)
