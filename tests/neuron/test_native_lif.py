"""The native kernel against the reference: spikes bit for bit, gradients to rounding."""

import os
import warnings
from typing import get_args
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike import native as library
from leanspike.errors import LeanspikeError
from leanspike.neuron import kernels
from leanspike.neuron.kernels import Dynamics, native, reference
from leanspike.neuron.surrogate import Arctan, Rectangle, Sigmoid, Triangle

if not library.is_built():
    pytest.skip("the native kernel is not built", allow_module_level=True)

SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-40, -0.0, 3e38])
LARGE = (5, 3, 300, 259)  # more than one block and one thread, and a broken last block
NAN = torch.tensor(float("nan"))
PASSING = (5, 3, 240, 608)  # written past the caches: steps are whole lines

RESETS = get_args(kernels.Reset)

positive = st.floats(0.25, 4.0, width=32)
dynamics = st.builds(
    Dynamics,
    st.sampled_from(RESETS),
    st.sampled_from(["zero", "half"]),
    st.sampled_from(["unit", "threshold"]),
    st.one_of(
        st.builds(Triangle, positive, positive),
        st.builds(Arctan, positive),
        st.builds(Sigmoid, positive),
        st.builds(Rectangle, positive),
    ),
)
per_sample = [(), (1,), (7,), (2051,), (3, 5), (4, 2, 3), (1, 3, 3), (3, 4, 1), (2, 3, 2, 2)]
shapes = st.builds(
    lambda t, n, rest: (t, n, *rest),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from(per_sample),
)
layouts = st.sampled_from(["plain", "channels_last", "static", "strided", "cut", "swapped"])
dtypes = st.sampled_from([torch.float32, torch.bfloat16])
leaks = st.sampled_from([0.0, 0.5, 0.9, 1.0])
thresholds = st.one_of(
    st.sampled_from([0.3, 0.7, 1.0, -0.7]),
    st.floats(2**-13, 1e3, width=32),
    st.floats(-1e3, -(2**-13), width=32),
)
instructions = st.sampled_from(library.available_instructions())
seeds = st.integers(0, 999)


def use(name):
    return patch.dict(os.environ, LEANSPIKE_INSTRUCTIONS=name)


def inputs(shape, threshold, seed, special=False):
    """Normal numbers and multiples of a quarter threshold, so that many membranes tie with it."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=random) * threshold
    ties = torch.randint(-2, 7, shape, generator=random) * (torch.tensor(threshold) / 4)
    x = torch.where(torch.rand(shape, generator=random) < 0.5, ties, x)
    if special:
        odd = SPECIAL[torch.randint(len(SPECIAL), shape, generator=random)]
        x = torch.where(torch.rand(shape, generator=random) < 0.1, odd, x)
    return x


def laid_out(x, layout):
    """The values of ``x`` (static: of its first step) in a layout."""
    if layout == "static":
        return x[0].expand(x.shape)
    if layout == "channels_last" and x.ndim == 5:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    if layout == "strided":
        x = torch.stack([x, x + 1], 1).flatten(0, 1)[::2]
    if layout == "cut":
        x = torch.cat([x, x], -1)[..., : x.shape[-1]]
    if layout == "swapped":
        x = x.transpose(1, -1).contiguous().transpose(1, -1)
    return x


def run(kernel, x, leak, threshold, d, grad, wanted=(True, True, True)):
    """Spikes and the gradients of x, leak and threshold (float64 for float64 input)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    pair = [torch.tensor(value, dtype=torch.float32).to(dtype) for value in (leak, threshold)]
    leaves = [t.detach().requires_grad_(w) for t, w in zip([x, *pair], wanted, strict=True)]
    spikes = kernel(*leaves, d)
    spikes.backward(grad)
    return [spikes.detach(), *(leaf.grad for leaf in leaves)]


def assert_close(found, expected, rounding, scale=0.0):
    """Equal up to some roundings of the largest value, or of ``scale`` if that is larger."""
    expected = expected.double()
    largest = max([scale, *expected[expected.isfinite()].abs().flatten().tolist()])
    torch.testing.assert_close(
        found.double(), expected, rtol=rounding, atol=rounding * largest, equal_nan=True
    )


def assert_close_sums(found, expected, terms, threshold):
    """Gradients of leak and threshold, whose many terms may cancel."""
    for a, b in zip(found, expected, strict=True):
        atol = 1e-5 * terms**0.5 * max(1.0, 1 / abs(threshold))
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=atol)


@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, instructions, seeds)
@settings(max_examples=250)
def test_spikes_are_identical(shape, layout, dtype, d, leak, threshold, name, seed):
    x = laid_out(inputs(shape, threshold, seed, special=True).to(dtype), layout)
    pair = torch.tensor(leak), torch.tensor(threshold)
    with use(name):
        spikes = native.lif(x, *pair, d)
    assert spikes.dtype == dtype
    assert torch.equal(spikes, reference.lif(x, *pair, d))


@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, instructions, seeds)
@settings(max_examples=250)
def test_a_step_is_the_references(shape, layout, dtype, d, leak, threshold, name, seed):
    x_TN = laid_out(inputs(shape, threshold, seed, special=True).to(dtype), layout)
    pair = torch.tensor(leak), torch.tensor(threshold, dtype=torch.float32)
    u = expected_u = reference.initial_membrane(x_TN[0], pair[1], d)
    for x in x_TN:
        kept = u.clone()
        with use(name):
            o, after = native.lif_step(u, x, *pair, d)
        assert torch.equal(u, kept) or kept.isnan().any()  # a state is a value
        expected_o, expected_u = reference.lif_step(expected_u, x, *pair, d)
        u = after
        for found, expected in ((o, expected_o), (u, expected_u)):
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_step_takes_a_membrane_of_another_layout_and_keeps_the_inputs():
    x = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    u = torch.rand(2, 3, 4, 5)
    pair = torch.tensor(0.9), torch.tensor(0.7)
    found = native.lif_step(u, x, *pair, Dynamics())
    for a, b in zip(found, reference.lif_step(u, x, *pair, Dynamics()), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == x.stride()


def test_a_step_with_gradients_is_the_references():
    x = torch.rand(3, 4, requires_grad=True)
    leak, threshold = torch.tensor(0.9), torch.tensor(0.7)
    o, u = kernels.lif_step(torch.zeros(3, 4), x, leak, threshold, Dynamics())
    (o + u).sum().backward()
    assert x.grad is not None
    with torch.no_grad(), patch.object(native, "lif_step", return_value="native"):
        assert kernels.lif_step(torch.zeros(3, 4), x, leak, threshold, Dynamics()) == "native"


@pytest.mark.parametrize("threshold", [-0.7, -0.0, 0.0, 1e-40, float("inf"), float("nan")])
@pytest.mark.parametrize("d", [*map(Dynamics, RESETS), Dynamics("hard", "half", "threshold")])
def test_spikes_are_identical_for_thresholds_out_of_range(threshold, d):
    x = torch.cat([inputs((4, 50), 1.0, 0, special=True), inputs((4, 50), 1e-40, 0)], 1)
    pair = torch.tensor(0.9), torch.tensor(threshold)
    expected = reference.lif(x, *pair, d)
    for name in library.available_instructions():
        with use(name):
            assert torch.equal(native.lif(x, *pair, d).nan_to_num(-1), expected.nan_to_num(-1))


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 3))
@settings(max_examples=250)
def test_the_comparison_agrees_with_the_division_at_every_threshold(bits, neighbour):
    threshold = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    u = torch.tensor(max(min(bits + neighbour, 2**31 - 1), -(2**31)), dtype=torch.int32)
    u = u.view(torch.float32).reshape(1, 1)
    spikes = native.lif(u, torch.tensor(0.0), threshold, Dynamics())
    assert spikes.item() == float(u / threshold - 1 > 0)


@given(shapes, layouts, dtypes, dynamics, leaks, thresholds, instructions, seeds)
@settings(max_examples=250)
def test_gradients_are_the_references(shape, layout, dtype, d, leak, threshold, name, seed):
    x = laid_out(inputs(shape, threshold, seed).to(dtype), layout)
    grad = inputs(shape, 1.0, seed + 1).to(dtype)
    with use(name):
        found = run(native.lif, x, leak, threshold, d, grad)
    expected = run(reference.lif, x, leak, threshold, d, grad)
    rounding = 1e-4 if dtype == torch.float32 else 2**-7
    if layout == "static":  # what the broadcast's backward will add up
        found[1], expected[1] = found[1].float().sum(0), expected[1].float().sum(0)
    steepest = float(d.surrogate.derivative(torch.zeros(1))) * max(1.0, 1 / abs(threshold))
    assert_close(found[1], expected[1], rounding, shape[0] * float(grad.abs().max()) * steepest)
    assert_close_sums(found[2:], expected[2:], x.numel(), threshold)


@given(
    dynamics,
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([0.5, 0.7, 2.0]),
    instructions,
    seeds,
)
@settings(max_examples=250)
def test_float32_stays_near_float64_away_from_ties(d, leak, threshold, name, seed):
    leak = torch.tensor(leak).item()  # the float32 values, in both
    threshold = torch.tensor(threshold).item()
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(seed))
    x = x[:, distance_to_kinks(x, leak, threshold, d) > 1e-4]
    assert x.shape[1] > 300
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    with use(name):
        found = run(native.lif, x, leak, threshold, d, grad)
    expected = run(reference.lif, x.double(), leak, threshold, d, grad.double())
    assert torch.equal(found[0].double(), expected[0])
    assert_close(found[1], expected[1], 2e-4)
    assert_close_sums(found[2:], expected[2:], x.numel(), threshold)


def distance_to_kinks(x_TN, leak, threshold, d):
    """How far the worst step of each neuron is from a jump of the spike or of its surrogate."""
    kinks = [0.0]
    if isinstance(d.surrogate, Rectangle):
        kinks += [d.surrogate.width / 2, -d.surrogate.width / 2]
    pair = torch.tensor(leak, dtype=torch.float64), torch.tensor(threshold, dtype=torch.float64)
    u_N = reference.initial_membrane(x_TN[0].double(), pair[1], d)
    worst_N = torch.full_like(u_N, float("inf"))
    for x_N in x_TN.double():
        before_N = pair[0] * u_N + x_N
        if d.reset == "undecayed":
            before_N = before_N - pair[1] * (u_N > pair[1])
        z_N = before_N / pair[1] - 1
        for kink in kinks:
            worst_N = torch.minimum(worst_N, (z_N - kink).abs())
        u_N = reference.lif_step(u_N, x_N, *pair, d)[1]
    return worst_N


@pytest.mark.parametrize("surrogate", [Triangle(), Arctan(), Sigmoid(), Rectangle()])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_infinities_and_nans_pass_through_the_gradients_alike(surrogate, reset, dtype):
    x = inputs((4, 500), 1.0, 0, special=True).to(dtype)
    grad = inputs((4, 500), 1.0, 1, special=True).to(dtype)
    grad = torch.where(grad.isfinite() & (grad.abs() < 100), grad, NAN)
    found = run(native.lif, x, 0.9, 0.7, Dynamics(reset, surrogate=surrogate), grad)
    expected = run(reference.lif, x, 0.9, 0.7, Dynamics(reset, surrogate=surrogate), grad)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 1e-4 if dtype == torch.float32 else 2**-7)
    assert found[1].isnan().any()


def test_no_payload_of_a_nan_becomes_a_number():
    nan = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32).item()
    x = inputs((3, 200), 1.0, 0).bfloat16()
    for leak, threshold in ((nan, 0.7), (0.9, nan)):
        found = run(native.lif, x, leak, threshold, Dynamics(), torch.ones_like(x))
        expected = run(reference.lif, x, leak, threshold, Dynamics(), torch.ones_like(x))
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.isnan(), b.isnan())


def test_a_step_broadcasts_as_the_reference():
    pair = torch.tensor(0.9), torch.tensor(0.7)
    for u, x in ((torch.rand(5, 1), torch.rand(5)), (torch.rand(5), torch.rand(1, 5))):
        for a, b in zip(
            kernels.lif_step(u, x, *pair, Dynamics()),
            reference.lif_step(u, x, *pair, Dynamics()),
            strict=True,
        ):
            assert torch.equal(a, b)


def test_second_derivatives_are_refused():
    x = torch.rand(3, 4, requires_grad=True)
    leak, threshold = torch.tensor(0.9, requires_grad=True), torch.tensor(0.7)
    y = native.lif(x, leak, threshold, Dynamics())
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(LeanspikeError, match="no second derivatives"):
        grad.sum().backward()


@pytest.mark.parametrize("name", library.available_instructions())
@pytest.mark.parametrize("steps", [8, 200])
def test_sums_of_many_equal_terms_are_exact_to_float32(name, steps):
    x, grad = torch.full((steps, 2048), 0.3), torch.full((steps, 2048), 0.1)
    with use(name):
        found = run(native.lif, x, 0.9, 0.7, Dynamics(height="threshold"), grad)
    pair = (torch.tensor(value).item() for value in (0.9, 0.7))
    expected = run(reference.lif, x.double(), *pair, Dynamics(height="threshold"), grad.double())
    for a, b in zip(found[2:], expected[2:], strict=True):
        assert a.item() == pytest.approx(b.item(), rel=2e-5)


@pytest.mark.parametrize("threshold", [1e-20, 1e30])
@pytest.mark.parametrize("surrogate", [Triangle(), Arctan(), Sigmoid(), Rectangle()])
def test_gradients_at_thresholds_of_any_size(threshold, surrogate):
    x = torch.linspace(-1, 3, 9)[None] * threshold
    d = Dynamics(surrogate=surrogate)
    found = run(native.lif, x, 0.9, threshold, d, torch.ones_like(x))
    expected = run(reference.lif, x, 0.9, threshold, d, torch.ones_like(x))
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=0)


def test_no_slope_is_left_far_from_the_threshold():
    x = torch.full((1, 4), 1e38)
    found = run(native.lif, x, 0.9, 0.7, Dynamics(surrogate=Sigmoid()), torch.ones_like(x))
    assert found[3] == 0


@pytest.mark.parametrize("name", library.available_instructions())
@pytest.mark.parametrize("layout", ["plain", "static"])
@pytest.mark.parametrize(
    "d", [Dynamics("soft"), Dynamics("undecayed"), Dynamics("hard", "half", "threshold")]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_too_large_for_the_caches_are_the_references(name, layout, d, dtype):
    x = laid_out(inputs(PASSING, 1.0, 0).to(dtype), layout)
    grad = inputs(PASSING, 1.0, 1).to(dtype)
    assert x.numel() * x.element_size() >= 2**22  # PASSING in lif.c
    with use(name):
        found = run(native.lif, x, 0.9, 0.7, d, grad)
    expected = run(reference.lif, x, 0.9, 0.7, d, grad)
    assert torch.equal(found[0], expected[0])
    if layout == "static":
        found[1], expected[1] = found[1].float().sum(0), expected[1].float().sum(0)
    assert_close(found[1], expected[1], 1e-4 if dtype == torch.float32 else 2**-7, 1.0)
    assert_close_sums(found[2:], expected[2:], x.numel(), 0.7)


@pytest.mark.parametrize("name", library.available_instructions())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", ["torch's threads", "threads of its own"])
def test_threads_change_no_bit(name, dtype, pool, monkeypatch):
    if pool == "threads of its own":
        monkeypatch.setattr(library, "_parallel", lambda _: None)
    x, grad = inputs(LARGE, 1.0, 0).to(dtype), inputs(LARGE, 1.0, 1).to(dtype)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use(name):
                found.append(run(native.lif, x, 0.9, 0.7, Dynamics(), grad))
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(found[0][0], run(reference.lif, x, 0.9, 0.7, Dynamics(), grad)[0])


def test_a_forked_process_computes_too():
    """With threads of its own, since torch's stay behind; it would wait for them for ever."""
    x = inputs(LARGE, 1.0, 0)
    pair = torch.tensor(0.9), torch.tensor(0.7)
    before = native.lif(x, *pair, Dynamics()).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside torch's own threads
        child = os.fork()
    if child == 0:
        same = (native.lif(x, *pair, Dynamics()).numpy() == before).all()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("layout", ["plain", "channels_last", "swapped", "static"])
def test_layouts_are_kept_without_a_copy(layout):
    x = laid_out(inputs((3, 2, 4, 5, 6), 1.0, 0), layout)
    assert native._side_by_side(x) is x
    spikes, grad_x, *_ = run(native.lif, x, 0.9, 0.7, Dynamics(), torch.ones(()).expand(x.shape))
    assert spikes.stride()[1:] == x.stride()[1:]
    assert grad_x[0].stride() == x[0].stride()
    if layout == "channels_last":
        assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_a_static_input_gets_the_sum_over_the_steps():
    x_N, grad = inputs((2, 4, 5, 6), 1.0, 0), inputs((3, 2, 4, 5, 6), 1.0, 1)
    for dtype, rounding in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        gradients = []
        for kernel in (native.lif, reference.lif):
            leaf = x_N.to(dtype).detach().clone().requires_grad_()
            x_TN = leaf.unsqueeze(0).expand(3, *leaf.shape)
            kernel(x_TN, torch.tensor(0.9), torch.tensor(0.7), Dynamics()).backward(grad.to(dtype))
            gradients.append(leaf.grad)
        assert_close(*gradients, rounding)


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)])
@pytest.mark.parametrize("layout", ["plain", "static"])
def test_only_what_is_wanted_is_computed(wanted, layout):
    wanted = [bool(w) for w in wanted]
    x, grad = laid_out(inputs((3, 50), 1.0, 0), layout), inputs((3, 50), 1.0, 1)
    some = run(native.lif, x, 0.9, 0.7, Dynamics(), grad, wanted)
    everything = run(native.lif, x, 0.9, 0.7, Dynamics(), grad)
    for found, full, want in zip(some[1:], everything[1:], wanted, strict=True):
        assert torch.equal(found, full) if want else found is None


def test_only_the_input_is_kept_for_the_backward_pass():
    x, kept = inputs((3, 50), 1.0, 0).requires_grad_(), []
    pair = torch.tensor(0.9), torch.tensor(0.7)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        native.lif(x, *pair, Dynamics())
    assert [t.data_ptr() for t in kept] == [t.data_ptr() for t in (x, *pair)]


def test_empty_batches():
    x = torch.zeros(3, 0, 4)
    spikes, *gradients = run(native.lif, x, 0.9, 0.7, Dynamics(), x)
    assert spikes.shape == x.shape
    assert [g.tolist() for g in gradients] == [[[], [], []], 0.0, 0.0]


def test_too_little_memory_is_an_error():
    call = native._Call(size=1, steps=2**45)  # backward: the membranes of all steps
    with pytest.raises(MemoryError, match="native neuron kernel"):
        native._run(call)
