"""Calibration against plain loops in NumPy, layer by layer, and against its own fixed point."""

import math
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leanspike import LIF, LeanspikeError, calibrate, readout, spike
from networks import build, draw

T, N = 5, 40
SIZES = (6, 12, 10, 8, 4)


def mlp(bias=True, seed=0):
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(SIZES):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double().eval()


def images(n=N, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, SIZES[0], generator=generator, dtype=torch.float64) + 0.3


def spiking(ann, x=None, **neuron):
    settings = {"threshold": 1.0, "leak": 0.75, **neuron}
    example = images(1) if x is None else x[:1]
    return spike(ann, example_input=example, timesteps=T, neuron=LIF(**settings)).double()


def thresholds(snn):
    return [neuron.threshold.item() for _, neuron in snn.neurons()]


def fire(x_TN, threshold, leak, initial="zero", height="unit"):
    """Spikes of neurons with soft reset, ``[T, N, neurons]``."""
    u = np.full(x_TN.shape[1:], threshold / 2 if initial == "half" else 0.0)
    out = np.zeros_like(x_TN)
    for t, x_N in enumerate(x_TN):
        u = leak * u + x_N
        out[t] = u > threshold
        u = u - threshold * out[t]
    return out * (threshold if height == "threshold" else 1)


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def layerwise_loop(ann, x, percentile, timesteps, **neuron):
    """DIET-SNN's procedure: each layer's threshold from all images, then the next layer."""
    signal = np.broadcast_to(x.numpy(), (timesteps, *x.shape))
    found = []
    for layer in [module for module in ann if isinstance(module, nn.Linear)][:-1]:
        current = linear(layer, signal)
        found.append(max(np.percentile(step, percentile) for step in current))
        signal = fire(current, np.float32(found[-1]).item(), leak=1.0, **neuron)
    return found


# -- the percentiles ---------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [75, 90.5, 99.7, 100])
def test_the_first_threshold_is_numpys_percentile_of_the_first_current(percentile):
    ann, x = mlp(), images()
    snn = spiking(ann)
    table = calibrate(snn, x, percentile=percentile)
    expected = np.percentile(linear(ann[0], x.numpy()), percentile)
    assert thresholds(snn)[0] == pytest.approx(expected, rel=1e-6)
    assert table.layers[0].percentile_value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["layerwise", "one_pass"])
@pytest.mark.parametrize("percentile", [80, 90.5, 99.7, 100])
def test_the_nearest_rank_is_that_of_a_sorted_list(percentile, method):
    """Of 480 entries 80 % is rank 383.2, so the 384th of them counted from 1."""
    ann, x = mlp(), images()
    entries = np.sort(linear(ann[0], x.numpy()).ravel())
    settings = {"percentile": percentile, "percentile_rule": "nearest", "method": method}
    found = calibrate(spiking(ann), x, **settings).layers[0].percentile_value
    rank = percentile / 100 * (entries.size - 1)
    assert found == pytest.approx(entries[int(np.rint(rank))], rel=1e-12)


@pytest.mark.parametrize(
    "neuron", [{}, {"initial": "half"}, {"height": "threshold"}], ids=["papers", "half", "height"]
)
@pytest.mark.parametrize("percentile", [80, 99.7])
def test_layerwise_is_the_loop_with_earlier_thresholds_and_no_leak(neuron, percentile):
    ann, x = mlp(), images()
    snn = spiking(ann, **neuron)
    calibrate(snn, x, percentile=percentile, preset="paper")
    expected = layerwise_loop(ann, x, percentile, T, **neuron)
    np.testing.assert_allclose(thresholds(snn), expected, rtol=1e-6)


def test_the_maximum_over_the_steps_is_taken():
    ann, x = mlp(), images()
    found = []
    for timesteps in (1, 2, 8, 30):
        snn = spiking(ann)
        calibrate(snn, x, percentile=90, timesteps=timesteps)
        expected = layerwise_loop(ann, x, 90, timesteps)
        np.testing.assert_allclose(thresholds(snn), expected, rtol=1e-6)
        found.append(thresholds(snn)[1])
    assert found == sorted(found)
    assert found[0] < found[-1]


@pytest.mark.parametrize("name", ["padded_shortcut", "dense", "functional", "resnet12"])
@torch.no_grad()
def test_a_calibrated_network_reproduces_its_own_percentiles(name):
    """Without leak and scale, what each layer sees in a run is what its threshold was set from."""
    x = draw(name, 8).double()
    snn = spike(build(name).double(), example_input=x[:1], timesteps=T, neuron=LIF()).double()
    calibrate(snn, x, percentile=98.5, preset="paper")
    found = {}

    def observe(node, values, _value):
        if node.meta.get("neuron"):
            steps = values[node.all_input_nodes[0]]
            found[str(node.target)] = max(np.percentile(step.numpy(), 98.5) for step in steps)

    snn.run(x, observer=observe)
    expected = {path: neuron.threshold.item() for path, neuron in snn.neurons()}
    assert found == pytest.approx(expected, rel=1e-6)


def test_one_pass_takes_the_percentiles_of_the_anns_pre_activations():
    name = "padded_shortcut"
    ann, x = build(name), draw(name, N)
    snn = spike(ann, example_input=x[:1], neuron=LIF(leak=0.5), timesteps=T)
    calibrate(snn, x, percentile=97, method="one_pass", scale=0.5)
    with torch.no_grad():
        first = ann.bn1(ann.conv1(x))
        skip = torch.cat([x, torch.zeros(N, 3, 8, 8)], 1)
        y = first.clamp(min=0) + skip
        side = y[:, :, ::2, ::2]
        zeros = torch.zeros(N, 1, 4, 4)
        second = ann.bn2(ann.conv2(y)) + torch.cat([zeros, side, zeros], 1)
    expected = [0.5 * np.percentile(z.numpy(), 97) for z in (first, second)]
    np.testing.assert_allclose(thresholds(snn), expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["layerwise", "one_pass"])
def test_of_frames_the_maximum_over_the_frames_is_taken(method):
    ann, x_TN = mlp(), torch.stack([images(seed=s) * (s + 1) for s in range(3)])
    neuron = LIF(leak=0.75)
    snn = spike(ann, example_input=x_TN[:, :1], encode="frames", neuron=neuron).double()
    calibrate(snn, x_TN, percentile=90, method=method)
    current = linear(ann[0], x_TN.numpy())
    first = max(np.percentile(step, 90) for step in current)
    assert first == np.percentile(current[2], 90)
    signal = fire(current, first, 1.0) if method == "layerwise" else np.maximum(current, 0)
    second = max(np.percentile(step, 90) for step in linear(ann[2], signal))
    np.testing.assert_allclose(thresholds(snn)[:2], [first, second], rtol=1e-6)


@given(batch_size=st.integers(1, 50), seed=st.integers(0, 100), method=st.booleans())
@settings(max_examples=10)
def test_neither_the_batch_size_nor_the_order_of_the_images_matters(batch_size, seed, method):
    method = "layerwise" if method else "one_pass"
    ann, x = mlp(), images()
    one, other = spiking(ann), spiking(ann)
    calibrate(one, x, percentile=95, method=method)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    calibrate(other, x[order], percentile=95, method=method, batch_size=batch_size)
    np.testing.assert_allclose(thresholds(one), thresholds(other), rtol=1e-6)


# -- the scale ---------------------------------------------------------------------------------


def test_the_scale_multiplies_all_thresholds_after_they_are_found():
    ann, x = mlp(), images()
    plain, scaled = spiking(ann), spiking(ann)
    calibrate(plain, x, percentile=95)
    table = calibrate(scaled, x, percentile=95, scale=0.25)
    assert thresholds(scaled) == [0.25 * threshold for threshold in thresholds(plain)]
    assert table.scale == 0.25


@pytest.mark.parametrize("statistics", ["keep", "reestimate"])
@torch.no_grad()
def test_of_several_scales_the_one_that_agrees_best_with_the_ann_is_taken(statistics):
    torch.manual_seed(0)
    ann, x, scales = Normed().double().eval(), images(), [0.6, 2.0, 0.05]
    fresh = spiking(ann)
    agreements, tried = [], []
    for scale in scales:
        snn = deepcopy(fresh)
        calibrate(snn, x, scale=scale, percentile=95, statistics=statistics)
        same = readout(snn(x), "sum")[-1].argmax(1) == ann(x).argmax(1)
        agreements.append(same.double().mean().item())
        tried.append(snn.state_dict())
    best = int(np.argmax(agreements))
    assert len(set(agreements)) == 3
    assert best == 1
    snn = deepcopy(fresh)
    table = calibrate(snn, x, scale=scales, percentile=95, statistics=statistics)
    assert (table.scale, table.agreement) == (scales[best], agreements[best])
    for key, value in snn.state_dict().items():
        torch.testing.assert_close(value, tried[best][key])


@pytest.mark.parametrize("scales", [[0.3, 0.9], [0.9, 0.3]])
@torch.no_grad()
def test_no_scale_is_tried_on_what_another_one_left(scales):
    """A norm that is called twice sees its first statistics again, if they were not put back."""
    name = "same_block_twice"
    x = draw(name, 16).double()
    fresh = spike(build(name).double(), example_input=x[:1], timesteps=T).double()
    several, alone = deepcopy(fresh), deepcopy(fresh)
    table = calibrate(several, x, scale=scales, statistics="reestimate")
    calibrate(alone, x, scale=table.scale, statistics="reestimate")
    for key, value in several.state_dict().items():
        assert torch.equal(value, alone.state_dict()[key]), key


# -- norms -------------------------------------------------------------------------------------


class Normed(nn.Module):
    """A norm that time does not reach, and one that it does."""

    def __init__(self):
        super().__init__()
        self.linear1 = nn.Linear(6, 12)
        self.static = nn.BatchNorm1d(12)
        self.linear2 = nn.Linear(12, 10)
        self.timed = nn.BatchNorm1d(10)
        self.linear3 = nn.Linear(10, 4)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu1(self.static(self.linear1(x)))
        return self.linear3(self.relu2(self.timed(self.linear2(x))))


def test_reestimated_statistics_are_those_of_the_network_as_it_is():
    torch.manual_seed(0)
    ann, x = Normed().double().eval(), images()
    snn = spiking(ann, leak=0.5)
    table = calibrate(snn, x, percentile=95, scale=0.5, statistics="reestimate", batch_size=7)
    assert table.norms == ("timed",)
    static = linear(ann.linear1, x.numpy()) / np.sqrt(1 + ann.static.eps)
    current = np.broadcast_to(static, (T, *static.shape))
    values = linear(ann.linear2, fire(current, thresholds(snn)[0], 0.5)).reshape(-1, 10)
    np.testing.assert_allclose(snn.timed.running_mean, values.mean(0), rtol=1e-9)
    np.testing.assert_allclose(snn.timed.running_var, values.var(0, ddof=1), rtol=1e-9)
    assert torch.equal(snn.static.running_mean, ann.static.running_mean)
    assert torch.equal(snn.static.running_var, ann.static.running_var)


def test_each_norm_is_measured_with_those_before_it_in_force():
    """So in a run afterwards every timed norm sees exactly its statistics."""
    name = "resnet12"
    x = draw(name, 8).double()
    snn = spike(build(name).double(), example_input=x[:1], timesteps=T, norm="keep").double()
    table = calibrate(snn, x, scale=0.7, statistics="reestimate", batch_size=3)
    assert len(table.norms) > 5
    seen = []

    def check(node, values, _value):
        if node.target in table.norms:
            norm = snn.get_submodule(node.target)
            value = values[node.all_input_nodes[0]].transpose(0, 1).flatten(1)
            torch.testing.assert_close(norm.running_mean, value.mean(1))
            torch.testing.assert_close(norm.running_var, value.var(1))
            seen.append(node.target)

    with torch.no_grad():
        snn.run(x, observer=check)
    assert tuple(seen) == table.norms


def test_the_papers_keep_the_statistics():
    name = "resnet12"
    ann, x = build(name), draw(name, 8)
    snn = spike(ann, example_input=x[:1], timesteps=T, norm="keep")
    assert calibrate(snn, x, preset="paper").norms == ()
    for key, value in ann.state_dict().items():
        assert torch.equal(snn.state_dict()[key], value)


# -- what is told and what is left as it was ---------------------------------------------------


def test_the_table_has_a_row_per_layer():
    snn = spiking(mlp(), threshold=3.0)
    table = calibrate(snn, images(), percentile=90, scale=0.5)
    assert [row.path for row in table.layers] == ["1", "3", "5"]
    assert [row.neurons for row in table.layers] == [12, 10, 8]
    assert [row.threshold_before for row in table.layers] == [3, 3, 3]
    assert [row.threshold for row in table.layers] == thresholds(snn)
    for row in table.layers:
        assert row.threshold == pytest.approx(0.5 * row.percentile_value)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["layerwise", "one_pass"])
def test_nothing_but_the_thresholds_is_changed(training, method):
    snn, x = spiking(mlp(), leak=0.3, learn=("leak",)).train(training), images()
    before, kept = deepcopy(snn.state_dict()), x.clone()
    calibrate(snn, x, method=method, timesteps=2)
    assert snn.training == training
    assert {module.training for module in snn.modules()} == {training}
    assert snn.timesteps == T
    assert torch.equal(x, kept)
    changed = [
        key for key, value in snn.state_dict().items() if not torch.equal(value, before[key])
    ]
    assert changed == ["1.threshold", "3.threshold", "5.threshold"]
    assert all(p.grad is None and p.is_leaf for p in snn.parameters())


def test_dropout_does_not_drop_while_calibrating():
    name = "dropouts"
    ann, x = build(name), draw(name, 8)
    found = []
    for training in (True, False):
        snn = spike(ann.train(training), example_input=x[:1], timesteps=T)
        calibrate(snn, x)
        found.append(thresholds(snn))
    assert found[0] == found[1]


@torch.no_grad()
def test_what_was_calibrated_at_one_number_of_steps_goes_on_at_another():
    snn, x = spiking(mlp()), images()
    calibrate(snn, x, timesteps=9, scale=0.5)
    assert torch.equal(snn(x, timesteps=2), snn(x, timesteps=6)[:2])
    assert snn(x).shape[0] == T


def test_neurons_fire_after_calibration_as_they_hardly_did_before():
    snn, x = spiking(mlp(), threshold=50.0), images()
    with torch.no_grad():
        silent = snn(x)
        calibrate(snn, x, scale=0.3)
        assert silent.std(1).max() == 0
        assert snn(x).std(1).min() > 0


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"percentile": 0}, r"percentile is 0; give a number in \(1, 100\]"),
        ({"percentile": 0.997}, r"percentile is 0.997, but counts in percent; did you mean 99.7\?"),
        ({"percentile": "99.7"}, "percentile is '99.7'; give a number, as percentile=99.7"),
        ({"percentile": "most"}, "percentile is 'most'; give a number, as percentile=99.7"),
        ({"scale": "0.6"}, "scale is '0.6'; give a number, as scale=0.6"),
        ({"scale": [0.5, None]}, "scale is None; give a number, as scale=0.6"),
        ({"timesteps": "5"}, "timesteps is '5'; give a whole number, as timesteps=5"),
        ({"timesteps": 2.5}, "timesteps is 2.5; give a whole number, as timesteps=2"),
        ({"batch_size": 6.4}, "batch_size is 6.4; give a whole number, as batch_size=6"),
        ({"percentile": 100.5}, r"percentile is 100.5; give a number"),
        ({"percentile": math.nan}, "percentile is nan; give a number"),
        ({"scale": 0.0}, r"scale is \[0.0\]; give numbers above 0"),
        ({"scale": [0.5, -1]}, r"scale is \[0.5, -1.0\]; give numbers above 0"),
        ({"scale": math.inf}, r"scale is \[inf\]; give numbers above 0"),
        ({"scale": ()}, r"scale is \[\]; give numbers above 0"),
        ({"percentile_rule": "lower"}, "rule is 'lower'; choose one of interpolated, nearest"),
        ({"method": "best"}, "method is 'best'; choose one of layerwise, one_pass"),
        ({"statistics": "new"}, "statistics is 'new'; choose one of keep, reestimate"),
        ({"timesteps": 0}, "timesteps is 0; give 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"images": images(0)}, "no images to calibrate on; give some hundreds"),
        ({"images": torch.full((2, 6), math.nan)}, "holds NaN or infinity"),
        ({"images": torch.full((2, 6), math.inf)}, "holds NaN or infinity"),
        ({"images": torch.zeros(2, 7)}, r"input of shape \(2, 7\); expected \[N, 6\]"),
        ({"images": torch.zeros(2, 6, dtype=torch.uint8)}, "expected floating point"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    snn = spiking(mlp())
    with pytest.raises(LeanspikeError, match=message):
        calibrate(snn, arguments.pop("images", images()), **arguments)
    assert thresholds(snn) == [1, 1, 1]


@pytest.mark.parametrize("method", ["layerwise", "one_pass"])
def test_a_layer_that_would_never_fire_is_named_and_all_is_as_before(method):
    ann = mlp()
    with torch.no_grad():
        ann[2].weight.fill_(-1.0)
        ann[2].bias.zero_()
    snn = spiking(ann, leak=0.3).train()
    before = deepcopy(snn.state_dict())
    with pytest.raises(LeanspikeError, match=r"neurons 3: the 99.7 percentile .* hardly ever fire"):
        calibrate(snn, images(), method=method)
    assert all(torch.equal(value, before[key]) for key, value in snn.state_dict().items())
    assert snn.training


@pytest.mark.parametrize("rule", ["interpolated", "nearest"])
def test_a_layer_whose_input_is_not_finite_is_named(rule):
    snn = spiking(mlp())
    with torch.no_grad():
        snn.get_submodule("2").bias[0] = math.nan
    with pytest.raises(LeanspikeError, match="neurons 3: their input holds NaN or infinity; check"):
        calibrate(snn, images(), percentile_rule=rule)


def test_what_has_no_threshold_to_set_is_refused_by_its_path():
    snn = spike(mlp(), example_input=images(1), neuron=nn.ReLU())
    with pytest.raises(LeanspikeError, match="neurons 1: a ReLU has no threshold to set; use"):
        calibrate(snn, images())
