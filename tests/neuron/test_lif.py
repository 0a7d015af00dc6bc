"""The neuron against independent loops: its equation forward, its derivatives backward.

The reference runs in float64 here; the native code is held to it in its own tests.
Shapes: T timesteps, N samples, ``_TN`` is ``[T, N, ...]``.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanspike import LIF, Arctan, LeanspikeError, Rectangle, Sigmoid, Triangle
from leanspike.backends import reference

CHOICES = [
    {"reset": reset, "initial": initial, "height": height}
    for reset, initial, height in itertools.product(
        ("soft", "hard", "undecayed"), ("zero", "half"), ("unit", "threshold")
    )
]
every_choice = pytest.mark.parametrize("choice", CHOICES, ids=lambda c: "-".join(c.values()))
every_leak = pytest.mark.parametrize("leak", [0.0, 0.625, 1.0])
every_surrogate = pytest.mark.parametrize(
    "surrogate", [Triangle(), Triangle(1.0, 0.7), Arctan(), Sigmoid(), Rectangle(1.5)], ids=str
)


def forward_loop(x_TN, leak, threshold, reset, initial, height):
    """Spikes, membranes before and after the reset, one neuron and one step at a time.

    The undecayed reset is part of the next step, so its membranes after are those before.
    """
    out, before, after = (np.zeros_like(x_TN) for _ in range(3))
    for n in np.ndindex(x_TN.shape[1:]):
        u, lost = threshold / 2 if initial == "half" else 0.0, None
        for t in range(len(x_TN)):
            u = leak * u + x_TN[(t, *n)]
            if lost is not None:
                u, lost = u - lost, None
            before[(t, *n)] = u
            if u > threshold:
                out[(t, *n)] = threshold if height == "threshold" else 1.0
                if reset == "undecayed":
                    lost = threshold
                else:
                    u = u - threshold if reset == "soft" else 0.0
            after[(t, *n)] = u
    return out, before, after


def surrogate_formula(surrogate, z):
    match surrogate:
        case Triangle(gamma, width):
            return gamma * np.maximum(0, 1 - abs(z) / width)
        case Arctan(alpha):
            return 2 * alpha / (4 + (np.pi * alpha * z) ** 2)
        case Sigmoid(alpha):
            return alpha / (2 * np.cosh(alpha * z / 2)) ** 2
        case Rectangle(width):
            return np.where(abs(z) < width / 2, 1 / width, 0)


def backward_loop(x_TN, grad_TN, leak, threshold, surrogate, reset, initial, height):
    """Backpropagation through time by hand: gradients of input, leak and threshold.

    ``a`` is the gradient of the membrane after the reset, ``b`` that before it, ``later`` the
    ``b`` of the step after.
    """
    out, before, after = forward_loop(x_TN, leak, threshold, reset, initial, height)
    fired = (out > 0).astype(float)
    start = threshold / 2 if initial == "half" else 0.0
    grad_x = np.zeros_like(x_TN)
    grad_leak = grad_threshold = 0.0
    a = later = np.zeros(x_TN.shape[1:])
    for t in reversed(range(len(x_TN))):
        do = grad_TN[t] * (threshold if height == "threshold" else 1.0)
        dz = do * surrogate_formula(surrogate, before[t] / threshold - 1)
        b = dz / threshold + (a * (1 - fired[t]) if reset == "hard" else a)
        grad_threshold += (dz * -before[t] / threshold**2).sum()
        if height == "threshold":
            grad_threshold += (grad_TN[t] * fired[t]).sum()
        if reset != "hard":
            grad_threshold -= ((a if reset == "soft" else later) * fired[t]).sum()
        grad_leak += (b * (after[t - 1] if t > 0 else start)).sum()
        grad_x[t] = later = b
        a = leak * b
    if initial == "half":
        grad_threshold += a.sum() / 2
    return grad_x, grad_leak, grad_threshold


def draw(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0.4, scale, shape)


def float64(threshold, leak, **choice):
    return LIF(threshold, leak, learn=("leak", "threshold"), **choice).double()


# -- the equation ------------------------------------------------------------------------------


def test_soft_reset_by_hand():
    neuron = LIF(threshold=1.0, leak=0.5)
    x_TN = torch.tensor([[0.75], [0.75], [2.5], [0.0], [0.0]])
    # u: 0.75 | 0.375 + 0.75 = 1.125 fires, 0.125 | 2.5625 fires, 1.5625 | 0.78125 | 0.390625
    assert neuron(x_TN).flatten().tolist() == [0, 1, 1, 0, 0]


def test_undecayed_reset_by_hand():
    x_TN = torch.tensor([[1.5], [0.8], [0.8], [0.0]])
    # u: 1.5 fires | 0.75 + 0.8 - 1 = 0.55 | 0.275 + 0.8 = 1.075 fires | 0.5375 - 1
    assert LIF(1.0, 0.5, reset="undecayed")(x_TN).flatten().tolist() == [1, 0, 1, 0]
    # u: 1.5 fires, 0.5 | 0.25 + 0.8 = 1.05 fires, 0.05 | 0.825 | 0.4125
    assert LIF(1.0, 0.5)(x_TN).flatten().tolist() == [1, 1, 0, 0]


def test_undecayed_reset_at_both_ends_of_the_leak():
    """λ = 1: it is the soft reset, here without rounding; λ = 0: the reset is all that is left."""
    x_TN = torch.randint(-8, 17, (20, 30), generator=torch.Generator().manual_seed(0)) / 16
    soft, undecayed = (LIF(0.75, initial="half", reset=r)(x_TN) for r in ("soft", "undecayed"))
    assert torch.equal(undecayed, soft)
    assert 0.2 < soft.mean() < 0.8
    fired = LIF(0.5, leak=0.0, reset="undecayed")(torch.tensor([[0.75], [0.75], [0.75], [1.25]]))
    assert fired.flatten().tolist() == [1, 0, 1, 1]


def test_hard_reset_half_start_and_threshold_height_by_hand():
    neuron = LIF(threshold=2.0, leak=0.5, reset="hard", initial="half", height="threshold")
    x_TN = torch.tensor([[1.0], [1.5], [0.0], [2.5]])
    # u: 0.5 + 1 = 1.5 | 0.75 + 1.5 = 2.25 fires, 0 | 0 | 2.5 fires
    assert neuron(x_TN).flatten().tolist() == [0, 2, 0, 2]


def test_gradients_by_hand():
    neuron = float64(1.0, 0.5)
    x_TN = torch.tensor([[1.5], [0.2]], dtype=torch.float64, requires_grad=True)
    y_TN = neuron(x_TN)
    (y_TN[0] + 2 * y_TN[1]).sum().backward()
    # u1 = 1.5: z = 0.5, do/dz = 0.15, fires, 0.5 remains; u2 = 0.45: z = -0.55, do/dz = 0.135
    assert y_TN.flatten().tolist() == [1, 0]
    assert x_TN.grad.flatten().tolist() == pytest.approx([0.15 + 0.5 * 0.27, 0.27])
    assert neuron.leak.grad.item() == pytest.approx(0.27 * 0.5)
    surrogates = -1.5 * 0.15 - 2 * 0.45 * 0.135
    reset = -0.5 * 0.27
    assert neuron.threshold.grad.item() == pytest.approx(surrogates + reset)


def test_gradients_of_the_undecayed_reset_by_hand():
    neuron = float64(1.0, 0.5, reset="undecayed")
    x_TN = torch.tensor([[1.5], [0.7]], dtype=torch.float64, requires_grad=True)
    y_TN = neuron(x_TN)
    (y_TN[0] + 2 * y_TN[1]).sum().backward()
    # u1 = 1.5: do/dz = 0.15, fires; u2 = 0.75 + 0.7 - 1 = 0.45: do/dz = 0.135
    assert y_TN.flatten().tolist() == [1, 0]
    assert x_TN.grad.flatten().tolist() == pytest.approx([0.15 + 0.5 * 0.27, 0.27])
    assert neuron.leak.grad.item() == pytest.approx(0.27 * 1.5)  # the membrane before its reset
    surrogates = -1.5 * 0.15 - 2 * 0.45 * 0.135
    assert neuron.threshold.grad.item() == pytest.approx(surrogates - 0.27)  # not times the leak


@every_choice
@every_leak
def test_spikes_equal_the_loop(choice, leak):
    x_TN = draw(7, 50)
    for threshold in (1.0, 0.3):
        v = float(np.float32(threshold))
        spikes = float64(threshold, leak, **choice)(torch.from_numpy(x_TN))
        expected, _, _ = forward_loop(x_TN, leak, v, **choice)
        np.testing.assert_array_equal(spikes.detach(), expected)
        assert 0.05 < (expected > 0).mean() < 0.95


@every_choice
@every_leak
def test_float32_reference_rounds_as_the_equation_is_written(choice, leak):
    x_TN = draw(7, 50).astype(np.float32)
    leak32, threshold = np.float32(leak), np.float32(0.3)
    expected, _, _ = forward_loop(x_TN, leak32, threshold, **choice)
    neuron = LIF(0.3, leak, **choice)
    spikes = reference.lif(
        torch.from_numpy(x_TN), neuron.leak, neuron.threshold, reference.Dynamics(**choice)
    )
    np.testing.assert_array_equal(spikes, expected)


@every_choice
def test_step_gives_the_spikes_and_membranes_of_the_loop(choice):
    x_TN = draw(6, 20)
    out, _, after = forward_loop(x_TN, 0.625, 0.5, **choice)
    neuron, membrane = float64(0.5, 0.625, **choice), None
    for t in range(6):
        spikes, membrane = neuron.step(torch.from_numpy(x_TN[t]), membrane)
        np.testing.assert_array_equal(spikes.detach(), out[t])
        np.testing.assert_array_equal(membrane.detach(), after[t])


@every_choice
def test_whole_sequence_equals_step_by_step_bit_for_bit(choice):
    neuron = LIF(0.7, 0.9, **choice)
    x_TN = torch.from_numpy(draw(6, 300)).float()
    membrane, steps = None, []
    for x_N in x_TN:
        spikes, membrane = neuron.step(x_N, membrane)
        steps.append(spikes)
    assert torch.equal(neuron(x_TN), torch.stack(steps))


def test_step_leaves_the_membrane_it_was_given_as_it_is():
    neuron = LIF(0.5)
    membrane = torch.full((4,), 0.4)
    neuron.step(torch.ones(4), membrane)
    assert torch.equal(membrane, torch.full((4,), 0.4))


@given(
    x=st.lists(st.integers(-32, 32), min_size=1, max_size=12),
    half=st.booleans(),
)
@settings(max_examples=30)
def test_without_leak_charge_is_conserved(x, half):
    """Σ x = v·Σ o + the change of the membrane: exactly, as all numbers are dyadic."""
    neuron = LIF(threshold=0.75, initial="half" if half else "zero")
    membrane, spikes = None, torch.zeros(1)
    for value in x:
        fired, membrane = neuron.step(torch.tensor([value / 16]), membrane)
        spikes = spikes + fired
    start = 0.375 if half else 0.0
    assert (0.75 * spikes + membrane).item() == sum(x) / 16 + start


@pytest.mark.parametrize("leak", [0.0, 0.5])
def test_membrane_that_just_reaches_the_threshold_does_not_spike(leak):
    x_TN = torch.tensor([[1.0, 1.0 + 2**-23]])
    assert LIF(1.0, leak)(x_TN).tolist() == [[0.0, 1.0]]


@given(threshold=st.floats(2**-13, 128, width=32), ulps=st.integers(-2, 2))
@settings(max_examples=50)
def test_distance_above_zero_is_membrane_above_threshold_for_every_float(threshold, ulps):
    x = np.float32(threshold)
    for _ in range(abs(ulps)):
        x = np.nextafter(x, np.float32(np.copysign(np.inf, ulps)))
    neuron = LIF(threshold)
    spikes = reference.lif(torch.tensor([[x]]), neuron.leak, neuron.threshold, reference.Dynamics())
    assert spikes.item() == float(x > np.float32(threshold))


def test_nan_does_not_spike_and_stays_with_its_neuron():
    x_TN = torch.ones(3, 4)
    x_TN[1, 2] = math.nan
    spikes = LIF(0.5)(x_TN)
    assert spikes[:, 2].tolist() == [1, 0, 0]
    assert (spikes[:, [0, 1, 3]] == 1).all()


@every_choice
def test_an_infinite_input_fires_and_is_gone_after_a_hard_reset(choice):
    x_TN = torch.tensor([[math.inf], [2.0]], dtype=torch.float64)
    fired = float64(1.0, 0.5, **choice)(x_TN).flatten() > 0
    assert fired.tolist() == [True, True]
    back = float64(1.0, 0.5, **choice)(torch.tensor([[math.inf], [0.5]]).double()).flatten() > 0
    assert back.tolist() == [True, choice["reset"] != "hard"]


def test_leak_of_zero_forgets_everything():
    x_TN = torch.from_numpy(draw(5, 30)).float()
    assert torch.equal(LIF(0.4, leak=0.0)(x_TN), (x_TN > 0.4).float())


# -- the derivatives ---------------------------------------------------------------------------


@every_choice
@every_leak
@every_surrogate
def test_gradients_equal_backpropagation_by_hand(choice, leak, surrogate):
    x_TN, grad_TN = draw(6, 40), draw(6, 40, seed=1)
    neuron = float64(0.75, leak, surrogate=surrogate, **choice)
    x = torch.from_numpy(x_TN).requires_grad_()
    neuron(x).backward(torch.from_numpy(grad_TN))
    expected = backward_loop(x_TN, grad_TN, leak, 0.75, surrogate, **choice)
    np.testing.assert_allclose(x.grad, expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(neuron.leak.grad, expected[1], rtol=1e-9)
    np.testing.assert_allclose(neuron.threshold.grad, expected[2], rtol=1e-9)


@given(
    seed=st.integers(0, 1000),
    threshold=st.floats(0.2, 3),
    leak=st.floats(0, 1),
    choice=st.sampled_from(CHOICES),
)
@settings(max_examples=20)
def test_spikes_and_gradients_equal_the_loops_everywhere(seed, threshold, leak, choice):
    neuron = float64(threshold, leak, **choice)
    v, λ = neuron.threshold.item(), neuron.leak.item()
    x_TN, grad_TN = draw(5, 8, seed=seed), draw(5, 8, seed=seed + 1)
    x = torch.from_numpy(x_TN).requires_grad_()
    spikes = neuron(x)
    spikes.backward(torch.from_numpy(grad_TN))
    np.testing.assert_array_equal(spikes.detach(), forward_loop(x_TN, λ, v, **choice)[0])
    expected = backward_loop(x_TN, grad_TN, λ, v, Triangle(), **choice)
    np.testing.assert_allclose(x.grad, expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(neuron.leak.grad, expected[1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(neuron.threshold.grad, expected[2], rtol=1e-8, atol=1e-10)


def test_gradients_flow_in_eval_as_in_training():
    x_TN, found = torch.from_numpy(draw(4, 20)).float(), []
    for training in (True, False):
        neuron = LIF(0.7, 0.9, learn=("leak", "threshold")).train(training)
        x = x_TN.clone().requires_grad_()
        neuron(x).sum().backward()
        found.append((x.grad, neuron.leak.grad, neuron.threshold.grad))
    for train, evaluation in zip(*found, strict=True):
        assert torch.equal(train, evaluation)
        assert train.abs().sum() > 0


@pytest.mark.parametrize(
    "learn", [(), ("leak",), ("threshold",), {"leak", "threshold"}, ["threshold", "leak"]]
)
def test_only_what_is_learnt_gets_a_gradient(learn):
    neuron = LIF(0.7, 0.9, learn=learn)
    neuron(torch.ones(3, 2, requires_grad=True)).sum().backward()
    assert (neuron.leak.grad is not None) == ("leak" in learn)
    assert (neuron.threshold.grad is not None) == ("threshold" in learn)
    assert neuron.learn == tuple(sorted(learn))


# -- types, layouts, state ---------------------------------------------------------------------


@every_choice
def test_bfloat16_input_fires_as_its_float32_copy(choice):
    x_TN = torch.from_numpy(draw(20, 200)).to(torch.bfloat16)
    neuron = LIF(0.5, 0.9, **choice)
    spikes = neuron(x_TN)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes, neuron(x_TN.float()).to(torch.bfloat16))


def test_reference_keeps_membranes_of_bfloat16_input_in_float32():
    neuron, x_N = LIF(1.0, 0.9, initial="half"), torch.full((4,), 0.1, dtype=torch.bfloat16)
    spikes, membrane = neuron.step(x_N, None)
    assert (spikes.dtype, membrane.dtype) == (torch.bfloat16, torch.float32)
    expected = np.float32(0.9) * np.float32(0.5) + np.float32(x_N[0].item())
    assert membrane[0].item() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    x_TN = torch.from_numpy(draw(20, 100)).to(dtype)
    for neuron in (LIF(0.5, 0.9), LIF(0.5, 0.9).double()):  # native where there is, reference
        plain = neuron(x_TN)
        with torch.autocast("cpu", torch.bfloat16):
            spikes = neuron(x_TN)
        assert spikes.dtype == dtype
        assert torch.equal(spikes, plain)


def test_float64_input_of_a_float32_neuron_is_computed_in_float64():
    neuron = LIF(1.0, 1.0)
    x_TN = torch.tensor([[1.0], [2.0**-40]], dtype=torch.float64)
    assert neuron(x_TN).flatten().tolist() == [0, 1]


@pytest.mark.parametrize("kernel", [LIF(0.5, 0.9), LIF(0.5, 0.9).double()], ids=["auto", "float64"])
def test_channels_last_is_kept(kernel):
    dtype = kernel.leak.dtype
    x = torch.from_numpy(draw(6, 4, 5, 5)).to(dtype).contiguous(memory_format=torch.channels_last)
    spikes = kernel(x.unflatten(0, (3, 2))).flatten(0, 1)
    assert spikes.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(spikes, kernel(x.contiguous().unflatten(0, (3, 2))).flatten(0, 1))


def test_broadcast_input_equals_its_copy():
    x_TN = torch.from_numpy(draw(1, 40)).float().expand(5, 40)
    assert torch.equal(LIF(0.7)(x_TN), LIF(0.7)(x_TN.contiguous()))


def test_nothing_is_left_behind_by_a_call():
    neuron = LIF(0.7, 0.9, initial="half")
    x_TN = torch.from_numpy(draw(5, 8)).float()
    first = neuron(x_TN)
    neuron(torch.ones(2, 3, 4))
    neuron.step(torch.ones(2), None)
    assert torch.equal(neuron(x_TN), first)
    assert set(neuron.state_dict()) == {"leak", "threshold"}
    assert not list(neuron.buffers())


def test_samples_and_steps_do_not_look_ahead_or_aside():
    neuron = LIF(0.7, 0.9)
    x_TN = torch.from_numpy(draw(5, 8)).float()
    assert torch.equal(neuron(x_TN[:3]), neuron(x_TN)[:3])
    assert torch.equal(neuron(x_TN[:, [5, 2]]), neuron(x_TN)[:, [5, 2]])


# -- parameters and errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leak", "kept_leak", "threshold", "kept_threshold"),
    [
        (1.5, 1.0, -1.0, np.float32(1e-4)),
        (-0.25, 0.0, 0.0, np.float32(1e-4)),
        (0.75, 0.75, 0.5, 0.5),
        (1.0, 1.0, 123.0, 123.0),
        (0.0, 0.0, np.float32(1e-4), np.float32(1e-4)),
    ],
)
def test_keep_in_range(leak, kept_leak, threshold, kept_threshold):
    neuron = LIF(learn=("leak", "threshold"))
    with torch.no_grad():
        neuron.leak.fill_(leak)
        neuron.threshold.fill_(threshold)
    neuron.keep_in_range()
    assert neuron.leak.item() == kept_leak
    assert neuron.threshold.item() == kept_threshold
    assert neuron.leak.requires_grad
    assert neuron.threshold.is_leaf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0; give 0.0001 or more"),
        ({"threshold": -1.0}, "threshold is -1.0; give"),
        ({"threshold": math.nan}, "threshold is nan; give"),
        ({"threshold": math.inf}, "threshold is inf; give"),
        ({"leak": -0.1}, "leak is -0.1; give a number from 0 to 1"),
        ({"leak": 1.1}, "leak is 1.1; give a number from 0 to 1"),
        ({"leak": math.nan}, "leak is nan; give a number from 0 to 1"),
        ({"learn": "leak"}, 'learn is \'leak\'; give a tuple of "leak" and "threshold"'),
        ({"learn": ("tau",)}, r"learn is \('tau',\); give a tuple"),
        ({"reset": "none"}, "reset is 'none'; choose one of soft, hard, undecayed"),
        ({"initial": "full"}, "initial is 'full'; choose one of zero, half"),
        ({"height": 1}, "height is 1; choose one of unit, threshold"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(LeanspikeError, match=message):
        LIF(**arguments)


def test_print_tells_every_setting():
    neuron = LIF(0.5, 0.25, learn=("leak",), reset="hard", surrogate=Arctan(3.0))
    assert repr(neuron) == (
        "LIF(threshold=0.5, leak=0.25, learn=('leak',), reset='hard', initial='zero', "
        "height='unit', surrogate=Arctan(alpha=3.0))"
    )
