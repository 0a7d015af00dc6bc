"""What every backend promises, whichever it is: the gradients of LIF neurons.

Each call goes the way of a layer's, with the backend chosen by name: what it does not serve is the
reference's. Every registered backend is held to it.
"""

import pytest
import torch
from backend_calls import (
    LARGE,
    PASSING,
    RESETS,
    any_instructions,
    assert_close,
    assert_close_sums,
    computed_by,
    dtypes,
    dynamics,
    every,
    in_all_instructions,
    inputs,
    laid_out,
    layouts,
    leaks,
    lif_call,
    others,
    reference,
    seeds,
    shapes,
    steepest,
    thresholds,
    use,
    with_gradients,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike.backends import (
    Dynamics,
    LIFCall,
    LIFStepCall,
)
from leanspike.backends.reference import initial_membrane
from leanspike.errors import LeanspikeError
from leanspike.surrogate import Arctan, Rectangle, Sigmoid, Triangle

NAN = torch.tensor(float("nan"))


@others
@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, seeds, st.data())
@settings(max_examples=250)
def test_gradients_are_the_references(name, shape, layout, dtype, d, leak, threshold, seed, data):
    x = laid_out(inputs(shape, threshold, seed).to(dtype), layout)
    grad = inputs(shape, 1.0, seed + 1).to(dtype)
    with any_instructions(data, name):
        found = with_gradients(computed_by(name), x, leak, threshold, d, grad)
    expected = with_gradients(reference, x, leak, threshold, d, grad)
    rounding = 1e-4 if dtype == torch.float32 else 2**-7
    if layout == "static":  # what the broadcast's backward will add up
        found[1], expected[1] = found[1].float().sum(0), expected[1].float().sum(0)
    assert_close(
        found[1], expected[1], rounding, shape[0] * float(grad.abs().max()) * steepest(d, threshold)
    )
    assert_close_sums(found[2:], expected[2:], x.numel(), threshold)


@every
@given(
    dynamics,
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([0.5, 0.7, 2.0]),
    seeds,
    st.data(),
)
@settings(max_examples=150)
def test_float32_stays_near_float64_away_from_ties(name, d, leak, threshold, seed, data):
    leak = torch.tensor(leak).item()  # the float32 values, in both
    threshold = torch.tensor(threshold).item()
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(seed))
    x = x[:, distance_to_kinks(x, leak, threshold, d) > 1e-4]
    assert x.shape[1] > 300
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    with any_instructions(data, name):
        found = with_gradients(computed_by(name), x, leak, threshold, d, grad)
    expected = with_gradients(reference, x.double(), leak, threshold, d, grad.double())
    assert torch.equal(found[0].double(), expected[0])
    assert_close(found[1], expected[1], 2e-4)
    assert_close_sums(found[2:], expected[2:], x.numel(), threshold)


def distance_to_kinks(x_TN, leak, threshold, d):
    """How far the worst step of each neuron is from a jump of the spike or of its surrogate."""
    kinks = [0.0]
    if isinstance(d.surrogate, Rectangle):
        kinks += [d.surrogate.width / 2, -d.surrogate.width / 2]
    pair = torch.tensor(leak, dtype=torch.float64), torch.tensor(threshold, dtype=torch.float64)
    u_N = initial_membrane(x_TN[0].double(), pair[1], d)
    worst_N = torch.full_like(u_N, float("inf"))
    for x_N in x_TN.double():
        before_N = pair[0] * u_N + x_N
        if d.reset == "undecayed":
            before_N = before_N - pair[1] * (u_N > pair[1])
        z_N = before_N / pair[1] - 1
        for kink in kinks:
            worst_N = torch.minimum(worst_N, (z_N - kink).abs())
        u_N = LIFStepCall(u_N, x_N, *pair, d).reference()[1]
    return worst_N


@others
@pytest.mark.parametrize("surrogate", [Triangle(), Arctan(), Sigmoid(), Rectangle()])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_infinities_and_nans_pass_through_the_gradients_alike(name, surrogate, reset, dtype):
    x = inputs((4, 500), 1.0, 0, special=True).to(dtype)
    grad = inputs((4, 500), 1.0, 1, special=True).to(dtype)
    grad = torch.where(grad.isfinite() & (grad.abs() < 100), grad, NAN)
    how = x, 0.9, 0.7, Dynamics(reset, surrogate=surrogate), grad
    found = with_gradients(computed_by(name), *how)
    for a, b in zip(found, with_gradients(reference, *how), strict=True):
        assert_close(a, b, 1e-4 if dtype == torch.float32 else 2**-7)
    assert found[1].isnan().any()


@others
def test_no_payload_of_a_nan_becomes_a_number(name):
    nan = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32).item()
    x = inputs((3, 200), 1.0, 0).bfloat16()
    for leak, threshold in ((nan, 0.7), (0.9, nan)):
        how = x, leak, threshold, Dynamics(), torch.ones_like(x)
        found = with_gradients(computed_by(name), *how)
        for a, b in zip(found, with_gradients(reference, *how), strict=True):
            assert torch.equal(a.isnan(), b.isnan())


@every
def test_second_derivatives_are_right_or_refused_with_a_way_out(name):
    def second(answer):
        x = torch.linspace(0.1, 0.9, 12).view(3, 4).requires_grad_()
        y = answer(lif_call(x, d=Dynamics(surrogate=Arctan())))
        (grad,) = torch.autograd.grad((y + x).square().sum(), x, create_graph=True)
        grad.sum().backward()
        return x.grad

    expected = second(computed_by("reference"))
    assert expected.count_nonzero() > 0
    try:
        found = second(computed_by(name))
    except LeanspikeError as error:
        refused = str(error)
    else:
        refused = None
        torch.testing.assert_close(found, expected)
    assert refused is None or refused.endswith("set LEANSPIKE_BACKEND=reference, which has them")


@in_all_instructions
@pytest.mark.parametrize("steps", [8, 200])
def test_sums_of_many_equal_terms_are_exact_to_float32(name, instructions, steps):
    x, grad = torch.full((steps, 2048), 0.3), torch.full((steps, 2048), 0.1)
    d = Dynamics(height="threshold")
    with use(instructions):
        found = with_gradients(computed_by(name), x, 0.9, 0.7, d, grad)
    pair = (torch.tensor(value).item() for value in (0.9, 0.7))
    expected = with_gradients(reference, x.double(), *pair, d, grad.double())
    for a, b in zip(found[2:], expected[2:], strict=True):
        assert a.item() == pytest.approx(b.item(), rel=2e-5)


@others
@pytest.mark.parametrize("threshold", [1e-20, 1e30])
@pytest.mark.parametrize("surrogate", [Triangle(), Arctan(), Sigmoid(), Rectangle()])
def test_gradients_at_thresholds_of_any_size(name, threshold, surrogate):
    x = torch.linspace(-1, 3, 9)[None] * threshold
    how = x, 0.9, threshold, Dynamics(surrogate=surrogate), torch.ones_like(x)
    found, expected = with_gradients(computed_by(name), *how), with_gradients(reference, *how)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=0)


@every
def test_no_slope_is_left_far_from_the_threshold(name):
    x = torch.full((1, 4), 1e38)
    d = Dynamics(surrogate=Sigmoid())
    assert with_gradients(computed_by(name), x, 0.9, 0.7, d, torch.ones_like(x))[3] == 0


@in_all_instructions
@pytest.mark.parametrize("layout", ["plain", "static"])
@pytest.mark.parametrize(
    "d", [Dynamics("soft"), Dynamics("undecayed"), Dynamics("hard", "half", "threshold")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_too_large_for_the_caches_are_the_references(name, instructions, layout, d, dtype):
    x = laid_out(inputs(PASSING, 1.0, 0).to(dtype), layout)
    grad = inputs(PASSING, 1.0, 1).to(dtype)
    assert x.numel() * x.element_size() >= 2**22  # PASSING in lif.c
    with use(instructions):
        found = with_gradients(computed_by(name), x, 0.9, 0.7, d, grad)
    expected = with_gradients(reference, x, 0.9, 0.7, d, grad)
    assert torch.equal(found[0], expected[0])
    if layout == "static":
        found[1], expected[1] = found[1].float().sum(0), expected[1].float().sum(0)
    assert_close(found[1], expected[1], 1e-4 if dtype == torch.float32 else 2**-7, 1.0)
    assert_close_sums(found[2:], expected[2:], x.numel(), 0.7)


@in_all_instructions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_change_no_bit(name, instructions, dtype):
    x, grad = inputs(LARGE, 1.0, 0).to(dtype), inputs(LARGE, 1.0, 1).to(dtype)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use(instructions):
                found.append(with_gradients(computed_by(name), x, 0.9, 0.7, Dynamics(), grad))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(found[0][0], lif_call(x).reference())


@every
def test_a_static_input_gets_the_sum_over_the_steps(name):
    x_N, grad = inputs((2, 4, 5, 6), 1.0, 0), inputs((3, 2, 4, 5, 6), 1.0, 1)
    for dtype, rounding in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        gradients = []
        for answer in (computed_by(name), reference):
            leaf = x_N.to(dtype).detach().clone().requires_grad_()
            answer(lif_call(leaf.unsqueeze(0).expand(3, *leaf.shape))).backward(grad.to(dtype))
            gradients.append(leaf.grad)
        assert_close(*gradients, rounding)


@every
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)])
@pytest.mark.parametrize("layout", ["plain", "static"])
def test_only_what_is_wanted_is_computed(name, wanted, layout):
    wanted = [bool(w) for w in wanted]
    x, grad = laid_out(inputs((3, 50), 1.0, 0), layout), inputs((3, 50), 1.0, 1)
    some = with_gradients(computed_by(name), x, 0.9, 0.7, Dynamics(), grad, wanted)
    everything = with_gradients(computed_by(name), x, 0.9, 0.7, Dynamics(), grad)
    for found, full, want in zip(some[1:], everything[1:], wanted, strict=True):
        assert torch.equal(found, full) if want else found is None


@every
def test_empty_batches(name):
    x = torch.zeros(3, 0, 4)
    spikes, *gradients = with_gradients(computed_by(name), x, 0.9, 0.7, Dynamics(), x)
    assert spikes.shape == x.shape
    assert [g.tolist() for g in gradients] == [[[], [], []], 0.0, 0.0]


@every
def test_transforms_of_torch_func_are_those_of_the_reference(name):
    """Gradients by function, of inputs and of parameters alone, and maps over a further axis."""
    x, d = inputs((3, 2, 4), 1.0, 0), Dynamics(height="threshold")
    pair = torch.tensor(0.9), torch.tensor(0.7)

    def whole(answer):
        def loss(x, leak, threshold):
            return answer(LIFCall(x, leak, threshold, d)).square().sum()

        def mapped(x):
            return answer(LIFCall(x, *pair, d))

        of_input = torch.func.grad(loss)(x, *pair)
        of_threshold = torch.func.grad(loss, argnums=2)(x, *pair)
        return of_input, of_threshold, torch.func.vmap(mapped, in_dims=1, out_dims=1)(x)

    torch.testing.assert_close(whole(computed_by(name)), whole(reference))
