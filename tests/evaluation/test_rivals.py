"""Energy with memory: by hand, by laws, and break-even rates against rates that were forced."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leanspike import LIF, CurrentLIF, evaluate, spike
from leanspike.evaluation import Result

WORD = 5.0  # pJ of 32 bits, half a word of 64 at 10 pJ
NARROW = 1.25


def two_layers(threshold, timesteps, bias=True, neuron=None):
    """Linear layers from 2 to 3 to 4; with weights and pixels 1 each neuron gets a current of 2."""
    ann = nn.Sequential(nn.Linear(2, 3, bias), nn.ReLU(), nn.Linear(3, 4, bias))
    for parameter in ann.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    neuron = neuron or LIF(threshold=threshold, leak=1.0)
    return spike(ann, example_input=torch.zeros(1, 2), timesteps=timesteps, neuron=neuron)


def measured(snn, x=None):
    x = torch.ones(2, 2) if x is None else x
    return evaluate(snn, [(x, torch.zeros(len(x), dtype=torch.int64))])


def test_two_layers_whose_neurons_fire_at_each_step_by_hand():
    result = measured(two_layers(threshold=1e-3, timesteps=5))
    ann, small, snn = result.rivals.ann, result.rivals.ann_int8, result.rivals.snn
    assert ann.arithmetic_pj == pytest.approx(18 * 4.6)  # 2·3 + 3·4 products
    assert ann.weights_pj == pytest.approx((18 + 7) * WORD)  # and a bias per output
    assert ann.values_pj == pytest.approx((2 + 3 + 3 + 4) * WORD)  # inputs read, outputs written
    assert small.arithmetic_pj == pytest.approx(18 * 0.3)
    assert small.weights_pj == pytest.approx(18 * NARROW + 7 * WORD)
    assert small.values_pj == pytest.approx(12 * NARROW)
    assert (ann.spikes_pj, ann.membranes_pj, small.spikes_pj, small.membranes_pj) == (0, 0, 0, 0)
    # First layer once, 15 spikes of 4 accumulates, 15 updates by an addition.
    assert snn.arithmetic_pj == pytest.approx(6 * 4.6 + 60 * 0.9 + 15 * 0.9)
    assert snn.arithmetic_pj == result.energy.snn_pj
    assert snn.weights_pj == pytest.approx((6 + 3 + 60 + 4 * 5) * WORD)
    assert snn.values_pj == pytest.approx((2 + 3 + 3 * 5) * WORD)  # the current, read at each step
    assert snn.spikes_pj == pytest.approx((15 + 15) * WORD)  # written by neurons, read by the next
    assert snn.membranes_pj == pytest.approx(2 * (60 + 15) * WORD)
    assert snn.total_pj == pytest.approx(95.1 + (89 + 20 + 30 + 150) * WORD)
    assert result.rivals.spike_rate == 1.0


def test_two_layers_in_fewer_bits_by_hand():
    """Five steps have counts of 0 to 5, six values: 3 bits. The pixels keep 8."""
    few = measured(two_layers(threshold=1e-3, timesteps=5)).rivals.quantised
    assert few.value_bits == 3
    # A product of 8 and 3 bits costs 3/8 of 0.2 pJ; each is added to a sum of 32 bits for 0.1.
    assert few.ann.arithmetic_pj == pytest.approx(6 * 0.3 + 12 * (0.2 * 3 / 8 + 0.1))
    assert few.ann.weights_pj == pytest.approx(18 * NARROW + 7 * WORD)
    three = 10 * 3 / 64
    assert few.ann.values_pj == pytest.approx(2 * NARROW + (3 + 3 + 4) * three)
    # Weights and pixels of 8 bits; sums, membranes and their 15 updates are the float32 SNN's.
    assert few.snn.arithmetic_pj == pytest.approx(6 * 0.3 + 60 * 0.1 + 15 * 0.9)
    assert few.snn.weights_pj == pytest.approx((6 + 60) * NARROW + (3 + 4 * 5) * WORD)
    assert few.snn.values_pj == pytest.approx(2 * NARROW + (3 + 3 * 5) * WORD)
    assert few.snn.spikes_pj == pytest.approx((15 + 15) * WORD)
    assert few.snn.membranes_pj == pytest.approx(2 * (60 + 15) * WORD)


@pytest.mark.parametrize(
    ("timesteps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (25, 5)]
)
def test_an_ann_has_as_many_values_as_a_neuron_has_counts(timesteps, bits):
    found = measured(two_layers(1e-3, timesteps)).rivals.quantised.value_bits
    assert found == bits
    assert 2**found >= timesteps + 1 > 2 ** (found - 1)


def test_a_convolution_reads_an_input_for_each_product_and_none_of_its_padding():
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3)),
        *(nn.Flatten(), nn.Linear(2, 3, bias=False)),
    )
    snn = spike(ann, example_input=torch.zeros(1, 1, 3, 3), neuron=LIF(threshold=0.1), timesteps=3)
    result = measured(snn, torch.rand(4, 1, 3, 3))
    products = 2 * 49  # of 9·9 places, 32 lie in the padding
    values = products + 18 + 2 + 3
    assert result.rivals.ann.weights_pj == pytest.approx((products + 18 + 6) * WORD)
    assert result.rivals.ann.values_pj == pytest.approx(values * WORD)
    fired = 18 * result.neurons[0].spikes_per_neuron
    assert fired > 0
    assert result.rivals.snn.spikes_pj == pytest.approx(2 * fired * WORD)  # the pool folds
    assert result.rivals.snn.membranes_pj == pytest.approx(2 * (3 * fired + 3 * 18) * WORD)


class Functions(nn.Module):
    """Two layers as modules, as functions, or as products with matrices."""

    def __init__(self, how, bias):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(1, 2, 3, bias=bias), nn.Linear(8, 3, bias=bias)
        self.how = how

    def forward(self, x):
        if self.how == "modules":
            return self.b(torch.relu(self.a(x)).flatten(1))
        y = torch.relu(F.conv2d(x, self.a.weight, self.a.bias)).flatten(1)
        if self.how == "functions":
            return F.linear(y, self.b.weight, bias=self.b.bias)
        return y @ self.b.weight.T


@pytest.mark.parametrize("how", ["functions", "matrices"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_function_reads_and_writes_as_a_layer(how, bias):
    x = torch.rand(4, 1, 4, 4)
    found = {}
    for each in ("modules", how):
        ann = Functions(each, bias and how == "functions").eval()
        snn = spike(ann, example_input=x[:1], neuron=LIF(threshold=0.1), timesteps=3)
        found[each] = measured(snn, x)
    assert found[how].energy == found["modules"].energy
    assert found[how].rivals == found["modules"].rivals


def test_without_spikes_there_is_no_traffic_of_spikes():
    silent = [measured(two_layers(1e6, timesteps)).rivals for timesteps in (3, 6)]
    assert [rivals.snn.spikes_pj for rivals in silent] == [0, 0]
    assert silent[1].snn.membranes_pj == 2 * silent[0].snn.membranes_pj
    assert silent[0].snn.membranes_pj == 2 * 3 * 3 * WORD
    assert silent[0].ann == silent[1].ann
    assert silent[0].break_even_ann.total is None
    assert silent[0].break_even_int8.arithmetic is None


def test_twice_the_steps_are_twice_the_spikes_and_membranes():
    busy = [measured(two_layers(1e-3, timesteps)).rivals.snn for timesteps in (3, 6)]
    assert busy[1].spikes_pj == pytest.approx(2 * busy[0].spikes_pj)
    assert busy[1].membranes_pj == pytest.approx(2 * busy[0].membranes_pj)


def test_a_neuron_that_remembers_two_numbers_reads_and_writes_two():
    silent = measured(two_layers(1e6, 3, neuron=CurrentLIF(threshold=1e6))).rivals
    assert silent.snn.membranes_pj == 2 * 2 * 3 * 3 * WORD


PAIRS = {
    "float32": lambda rivals: (rivals.snn, rivals.ann, rivals.break_even_ann),
    "int8": lambda rivals: (rivals.snn, rivals.ann_int8, rivals.break_even_int8),
    "few bits": lambda rivals: (
        rivals.quantised.snn,
        rivals.quantised.ann,
        rivals.quantised.break_even,
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_break_even_rates_are_those_of_networks_forced_to_a_rate(pair):
    """k spikes of each neuron in 10 steps: the energy is a line, and meets the rival's there."""
    found = []
    for k in range(1, 11):
        x = torch.full((2, 2), (k + 0.01) / 20)  # a current of k/10 and a little
        found.append(measured(two_layers(1.0, 10, bias=False), x).rivals)
        assert found[-1].spike_rate == pytest.approx(k / 10)
    for what in ("arithmetic", "total"):
        pj = f"{what}_pj"
        spent = [getattr(PAIRS[pair](rivals)[0], pj) for rivals in found]
        steps = [after - before for before, after in pairwise(spent)]
        assert steps == pytest.approx([steps[0]] * 9)
        _, ann, _ = PAIRS[pair](found[0])
        rate = 0.1 + 0.1 * (getattr(ann, pj) - spent[0]) / steps[0]
        evens = [getattr(PAIRS[pair](rivals)[2], what) for rivals in found]
        assert evens == pytest.approx([max(0.0, rate)] * 10)


def test_the_result_lies_on_the_side_that_the_rate_tells():
    torch.manual_seed(0)
    layers = nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 400), nn.ReLU(), nn.Linear(400, 9)
    example = torch.zeros(1, 50)
    for threshold in (0.1, 0.5, 3.0):
        neuron = LIF(threshold=threshold)
        snn = spike(nn.Sequential(*layers), example_input=example, neuron=neuron, timesteps=2)
        rivals = measured(snn, torch.rand(8, 50)).rivals
        for snn, ann, even in (pair(rivals) for pair in PAIRS.values()):
            if even.total is not None:
                assert (rivals.spike_rate < even.total) == (snn.total_pj < ann.total_pj)


def test_spikes_of_the_input_do_not_move_with_those_of_the_neurons():
    ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(threshold=1e6), encode="poisson")
    rivals = measured(snn).rivals
    assert rivals.snn.spikes_pj > 0  # the input's alone
    assert rivals.break_even_ann.total is None


def test_norms_of_each_step_read_their_scales_and_shifts():
    ann = nn.Sequential(
        *(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.BatchNorm1d(4)),
        *(nn.ReLU(), nn.Linear(4, 2)),
    )
    given = {"example_input": torch.zeros(1, 2), "neuron": LIF(threshold=1e6), "timesteps": 3}
    folded, stepwise = (
        measured(spike(ann, norm=norm, **given)).rivals for norm in ("keep", "bntt")
    )
    assert stepwise.snn.weights_pj - folded.snn.weights_pj == pytest.approx(2 * 4 * 3 * WORD)
    assert stepwise.ann == folded.ann


def test_results_keep_it_and_older_ones_load_without():
    result = measured(two_layers(1e-3, 2))
    assert Result.model_validate_json(result.model_dump_json()) == result
    older = {name: value for name, value in result.model_dump().items() if name != "rivals"}
    assert Result.model_validate(older).rivals is None
    less = {name: value for name, value in result.rivals if name != "quantised"}
    older["rivals"] = less
    assert Result.model_validate(older).rivals.quantised is None
    assert math.isfinite(result.rivals.break_even_ann.total)
