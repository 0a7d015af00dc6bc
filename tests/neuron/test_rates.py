"""How a neuron's mean output follows its mean input: against reverse mode, by hand, and refused.

Shapes: T timesteps, N samples.
"""

import pytest
import torch
from test_neuron_laws import draw, every_neuron, make

from leanspike import LIF, Neuron
from leanspike.backends import backends, use_backend
from leanspike.errors import LeanspikeError
from leanspike.neuron import create_neuron
from leanspike.neuron.protocol import Cost
from leanspike.neuron.rates import rates_by_steps
from leanspike.surrogate import SURROGATES, Rectangle, Triangle

T, N = 5, 3
ALIKE = torch.ones(T)


def trained(neuron):
    return {name: p for name, p in neuron.named_parameters() if p.requires_grad}


def by_reverse_mode(neuron, x_TN, weights_N, shares_T=ALIKE):
    """Derivatives of Σ weights · mean(shares · output), through all steps at once."""
    shift_N = torch.zeros_like(x_TN[0], requires_grad=True)
    o_TN = neuron(x_TN + shift_N)
    mean_N = (shares_T.view(-1, *[1] * (o_TN.dim() - 1)) * o_TN).mean(0)
    parameters = trained(neuron)
    found = torch.autograd.grad((weights_N * mean_N).sum(), (shift_N, *parameters.values()))
    return found[0], dict(zip(parameters, found[1:], strict=True))


@every_neuron
@pytest.mark.parametrize("shares", [None, [1.8, 1.4, 1.0, 0.6, 0.2]])
def test_derivatives_of_the_mean_are_those_of_reverse_mode(name, way, shares):
    neuron, x_TN = make(name, way).double(), draw(T, N).double()
    weights_N = draw(N, seed=3).double()
    shares_T = torch.tensor(shares or [1.0] * T, dtype=torch.float64)
    by_input, by = by_reverse_mode(neuron, x_TN, weights_N, shares_T)
    with torch.no_grad():
        found = neuron.rates(x_TN, tuple(by), shares_T if shares else None)
    assert torch.equal(found.o_TN, neuron(x_TN))
    torch.testing.assert_close(weights_N * found.by_input, by_input, rtol=1e-9, atol=1e-11)
    assert found.by.keys() == by.keys()
    for parameter, slope_N in found.by.items():
        summed = (weights_N * slope_N).sum_to_size(by[parameter].shape)
        torch.testing.assert_close(summed, by[parameter], rtol=1e-9, atol=1e-11)


@every_neuron
def test_no_derivative_is_computed_that_was_not_asked_for(name, way):
    with torch.no_grad():
        assert make(name, way).rates(draw(T, N), ()).by == {}


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("backend", sorted(backends.registered))
def test_lif_says_what_its_steps_say(surrogate, backend):
    """The recurrences that LIF has written out, in float32, against its step."""
    neuron = create_neuron("lif", {"leak": 0.75, "surrogate": {"name": surrogate}})
    x_TN = draw(T, N)
    with torch.no_grad(), use_backend(backend):
        found = neuron.rates(x_TN, ("leak", "threshold"))
        steps = rates_by_steps(neuron, x_TN, ("leak", "threshold"))
        assert torch.equal(found.o_TN, neuron(x_TN))
    torch.testing.assert_close(found.by_input, steps.by_input)
    for name in ("leak", "threshold"):
        torch.testing.assert_close(found.by[name], steps.by[name])


def test_an_integrator_under_a_constant_input_by_hand():
    """u = t·x; it fires at 3 of 8 steps. ∂u/∂x is t: what the reset subtracts does not follow x."""
    neuron = LIF(threshold=1.0, surrogate=Triangle(gamma=0.3))
    x = 0.4375
    with torch.no_grad():
        found = neuron.rates(torch.full((8, 1), x), ())
    u, by_hand, spikes = 0.0, 0.0, []
    for t in range(1, 9):
        u += x
        by_hand += 0.3 * max(0.0, 1 - abs(u - 1)) * t / 8
        spikes.append(float(u > 1))
        u -= spikes[-1]
    assert spikes == [0, 0, 1, 0, 1, 0, 1, 0]
    assert found.o_TN.flatten().tolist() == spikes
    torch.testing.assert_close(found.by_input, torch.tensor([by_hand]))


def test_where_all_membranes_learn_the_mean_follows_the_input_in_full():
    """A rectangle of width 2 has the slope ½ everywhere here: Σ t·½/v / T = (T + 1)/(4·v)."""
    neuron = LIF(threshold=2.0, surrogate=Rectangle(width=2.0), learn=("threshold",))
    with torch.no_grad():
        found = neuron.rates(torch.full((5, 1), 0.75), ("threshold",))
    assert found.o_TN.flatten().tolist() == [0, 0, 1, 0, 0]
    torch.testing.assert_close(found.by_input, torch.tensor([(5 + 1) / 8]))
    # ∂z/∂v = (∂u/∂v − u/v)/v with u = 0.75, 1.5, 2.25, then 1, 1.75, and ∂u/∂v = 0, 0, 0, −1, −1
    by_hand = sum(0.5 * (b - u / 2) / 2 for b, u in ((0, 4.5), (-1, 1.0), (-1, 1.75))) / 5
    torch.testing.assert_close(found.by["threshold"], torch.tensor([by_hand]))


@every_neuron
def test_bfloat16_inputs_have_derivatives_in_float32(name, way):
    neuron, x_TN = make(name, way), draw(T, N).bfloat16()
    with torch.no_grad():
        found, wide = neuron.rates(x_TN, ()), neuron.rates(x_TN.float(), ())
    assert found.o_TN.dtype == torch.bfloat16
    assert found.by_input.dtype == torch.float32
    torch.testing.assert_close(found.by_input, wide.by_input)


class Integrator(Neuron):
    """A neuron of somebody's own, with a gain."""

    pointwise = True

    def __init__(self, gain):
        super().__init__()
        self.gain = torch.nn.Parameter(gain)

    def initial(self, x_N):
        return torch.zeros_like(x_N)

    def step(self, x_N, state):
        u_N = (self.initial(x_N) if state is None else state) + self.gain.mean() * x_N
        return self.spike(u_N - 1), u_N

    def spike(self, z_N):
        return Triangle().spike(z_N)

    def spike_height(self):
        return torch.tensor(1.0)

    def update_cost(self):
        return Cost(acs=1)


class Hard(torch.autograd.Function):
    """A spike that knows reverse mode alone."""

    @staticmethod
    def forward(ctx, z):  # noqa: ARG004
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx, grad):  # noqa: ARG004
        return grad


def test_a_neuron_of_ones_own_has_derivatives_by_its_step():
    neuron, x_TN = Integrator(torch.tensor(0.5)).double(), draw(T, N).double()
    by_input, by = by_reverse_mode(neuron, x_TN, torch.ones_like(x_TN[0]))
    with torch.no_grad():
        found = neuron.rates(x_TN, ("gain",))
    torch.testing.assert_close(found.by_input, by_input)
    torch.testing.assert_close(found.by["gain"].sum(), by["gain"])


def test_a_step_without_forward_mode_is_refused_and_the_advice_works():
    class Backward(Integrator):
        def spike(self, z_N):
            return Hard.apply(z_N)

    class Mended(Backward):
        def spike(self, z_N):  # by Surrogate.spike, as advised
            return Rectangle(2.0).spike(z_N)

    x_TN = draw(T, N)
    says = r"need forward derivatives of Backward's step, which fail: .*; write the step in .* with"
    with torch.no_grad(), pytest.raises(LeanspikeError, match=says):
        Backward(torch.tensor(1.0)).rates(x_TN, ())
    with torch.no_grad():
        found = Mended(torch.tensor(1.0)).rates(x_TN, ())
    assert torch.isfinite(found.by_input).all()


def test_parameters_that_are_no_neurons_own_are_refused_and_the_advice_works():
    x_TN = torch.rand(T, N, 4)
    says = r"gain of Integrator has the shape \(3,\), .* with one sample \(4,\); give it one num"
    with torch.no_grad(), pytest.raises(LeanspikeError, match=says):
        Integrator(torch.ones(3)).rates(x_TN, ("gain",))
    with torch.no_grad():
        assert Integrator(torch.ones(())).rates(x_TN, ("gain",)).by["gain"].shape == (N, 4)
