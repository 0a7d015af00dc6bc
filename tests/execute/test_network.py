"""The spiking network itself: its calls, its steps, its state, and what it says of itself."""

import math
import pickle
import re
from copy import deepcopy

import pytest
import torch
from torch import nn

from leanspike import LIF, LeanspikeError, calibrate, readout, spike
from leanspike.evaluation import After, exit_early
from leanspike.surgery import State
from networks import build, draw

T, N = 4, 3


def lif_network(name, timesteps=T, **neuron):
    settings = {"threshold": 0.5, "leak": 0.9, **neuron}
    return spike(
        build(name), example_input=draw(name, 1), timesteps=timesteps, neuron=LIF(**settings)
    )


# -- calls -------------------------------------------------------------------------------------


@torch.no_grad()
def test_timesteps_may_be_given_for_a_call_or_changed_for_all():
    snn, x = lif_network("vector"), draw("vector", N)
    assert snn(x).shape == (T, N, 5)
    assert snn(x, timesteps=7).shape == (7, N, 5)
    snn.timesteps = 2
    assert torch.equal(snn(x), snn(x, timesteps=7)[:2])


@torch.no_grad()
def test_frames_bring_their_own_number_of_steps():
    ann = build("vector")
    snn = spike(ann, example_input=draw("vector", 1, 1), encode="frames", timesteps=9)
    assert snn(draw("vector", 3, N)).shape == (3, N, 5)
    assert snn(draw("vector", 3, N), timesteps=7).shape == (3, N, 5)


@torch.no_grad()
def test_a_neuron_and_a_linear_layer_by_hand():
    ann = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    ann[0].weight.copy_(torch.tensor([[0.5], [1.0]]))
    ann[2].weight.copy_(torch.tensor([[10.0, 1.0]]))
    snn = spike(ann, example_input=torch.ones(1, 1), neuron=LIF(threshold=0.75), timesteps=4)
    # of 0.5: 0.5 | 1 fires, 0.25 | 0.75 | 1.25 fires; of 1: 1 fires, 0.25 | 1.25 fires, 0.5 ...
    assert snn(torch.ones(1, 1)).flatten().tolist() == [1, 11, 1, 11]


@torch.no_grad()
def test_run_tells_an_observer_every_call_with_what_it_read():
    snn, x = lif_network("vector"), draw("vector", N)
    seen = []

    def observe(node, values, value):
        assert all(source in values for source in node.all_input_nodes)
        seen.append((node, value))

    y_TNK = snn.run(x, observer=observe)
    assert [node for node, _ in seen] == [
        node for node in snn.plan.graph.nodes if node.op.startswith("call")
    ]
    assert seen[-1][1] is y_TNK
    spikes = [value for node, value in seen if node.meta.get("neuron")]
    assert [tuple(value.shape) for value in spikes] == [(T, N, 12), (T, N, 16)]
    assert torch.equal(snn(x), y_TNK)


@torch.no_grad()
def test_copies_are_the_same_made_before_or_after_the_first_call():
    snn, x = lif_network("vector").eval(), draw("vector", N)
    before = deepcopy(snn)
    expected = snn(x)
    for other in (before, deepcopy(snn), pickle.loads(pickle.dumps(snn))):
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 8, 8), "input of shape (2, 4, 8, 8); expected [N, 3, 8, 8]"),
        (torch.zeros(3, 8, 8), "input of shape (3, 8, 8); expected [N, 3, 8, 8]"),
        (torch.zeros(2, 2, 3, 8, 8), "input of shape (2, 2, 3, 8, 8); expected [N, 3, 8, 8]"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "torch.uint8; expected floating point (norm"),
    ],
)
def test_wrong_input_is_refused_by_call_and_step(x, message):
    snn = lif_network("functional")
    for call in (snn, snn.step):
        with pytest.raises(LeanspikeError, match=re.escape(message)):
            call(x)


def test_frames_without_their_axis_of_time_are_refused():
    snn = spike(build("vector"), example_input=draw("vector", 1, 1), encode="frames")
    with pytest.raises(LeanspikeError, match=r"shape \(3, 12\); expected \[T, N, 12\]"):
        snn(draw("vector", N))
    with pytest.raises(LeanspikeError, match=r"shape \(4, 3, 12\); expected \[N, 12\]"):
        snn.step(draw("vector", T, N))


@pytest.mark.parametrize(
    ("timesteps", "form"),
    [
        (0, "1 or more"),
        (-1, "1 or more"),
        (2.5, "a whole number, as timesteps=2"),
        ("5", "a whole number, as timesteps=5"),
        (True, "a whole number, as timesteps=1"),
        ("five", "a whole number, as timesteps=5"),
    ],
)
def test_timesteps_that_are_no_number_of_steps_are_refused(timesteps, form):
    snn = lif_network("vector")
    with pytest.raises(LeanspikeError, match=f"timesteps is {timesteps!r}; give {form}"):
        snn(draw("vector", N), timesteps=timesteps)


# -- steps and their state ---------------------------------------------------------------------


def test_the_state_counts_steps_and_holds_membranes_and_static_values():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    state = None
    for steps in (1, 2, 3):
        _, state = snn.step(x, state)
        assert state.steps == steps
        assert {path: tuple(u.shape) for path, u in state.neurons.items()} == {
            "neuron_0": (N, 6, 8, 8),
            "neuron_1": (N, 8, 4, 4),
        }
        assert sorted(state.static) == ["bn1", "pad"]


def test_what_is_static_is_computed_at_the_first_step_only():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    calls = []
    snn.conv1.register_forward_hook(lambda *_: calls.append(1))
    _, state = snn.step(x)
    later, _ = snn.step(x + 1, state)  # only the first input counts
    assert len(calls) == 1
    assert torch.equal(later, snn.step(x, state)[0])


def test_an_image_of_another_size_is_refused_where_it_does_not_go_through():
    ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    snn = spike(ann, example_input=torch.zeros(1, 3, 8, 8))
    with pytest.raises(
        LeanspikeError, match=r"give samples of shape \(3, 8, 8\), for which the network was made"
    ):
        snn(torch.zeros(2, 3, 9, 9))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value):
    snn, x = lif_network("vector"), draw("vector", N)
    x[0, 0] = value
    for call in (snn, snn.step):
        with pytest.raises(LeanspikeError, match="holds NaN or infinity"):
            call(x)


def mlp(width):
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 5)).eval()


@pytest.mark.parametrize("name", ["padded_shortcut", "other layers", "other sizes"])
def test_the_state_of_another_network_is_refused(name):
    theirs = build("padded_shortcut") if name == "padded_shortcut" else mlp(1)
    ours = build("vector") if name == "other layers" else mlp(8)
    x = draw("padded_shortcut" if name == "padded_shortcut" else "vector", N)
    _, state = spike(theirs, example_input=x).step(x)
    snn, x = spike(ours, example_input=draw("vector", 1)), draw("vector", N)
    with pytest.raises(LeanspikeError, match="the state is of another network"):
        snn.step(x, state)


def test_the_state_of_a_copy_or_of_the_same_network_elsewhere_is_taken():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    _, state = lif_network("padded_shortcut").step(x)
    expected, _ = snn.step(x, snn.step(x)[1])
    assert torch.equal(snn.step(x, state)[0], expected)


def test_a_step_needs_no_gradient_and_leaves_the_given_state_as_it_is():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    _, state = snn.step(x)
    kept = {path: u.clone() for path, u in state.neurons.items()}
    first, _ = snn.step(x, state)
    again, _ = snn.step(x, state)
    assert not first.requires_grad
    assert torch.equal(first, again)
    assert state.steps == 1
    assert all(torch.equal(u, kept[path]) for path, u in state.neurons.items())


@pytest.mark.parametrize(
    "samples",
    [torch.tensor([True, False, True]), torch.tensor([0, 2])],
    ids=["mask", "indices"],
)
@pytest.mark.parametrize("name", ["padded_shortcut", "functional", "dense", "vector"])
def test_samples_that_are_kept_go_on_as_before(name, samples):
    snn, x = lif_network(name), draw(name, N)
    _, state = snn.step(x)
    everyone, _ = snn.step(x, state)
    kept, after = snn.step(x[samples], state.keep(samples))
    torch.testing.assert_close(kept, everyone[samples], rtol=1e-5, atol=1e-5)
    assert after.steps == 2


def test_the_last_sample_may_be_dropped():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    nobody = torch.zeros(N, dtype=torch.bool)
    _, state = snn.step(x)
    y_NK, _ = snn.step(x[nobody], state.keep(nobody))
    assert y_NK.shape == (0, 5)


def test_samples_may_be_repeated_and_reordered():
    snn, x = lif_network("padded_shortcut"), draw("padded_shortcut", N)
    order = torch.tensor([2, 0, 0, 1])
    _, state = snn.step(x)
    everyone, _ = snn.step(x, state)
    mixed, _ = snn.step(x[order], state.keep(order))
    torch.testing.assert_close(mixed, everyone[order], rtol=1e-5, atol=1e-5)


def test_input_of_other_samples_than_the_state_holds_is_refused():
    snn, x = lif_network("vector"), draw("vector", N)
    _, state = snn.step(x)
    message = "input of 2 samples, but the state holds 3; keep those of the input with state.keep"
    with pytest.raises(LeanspikeError, match=message):
        snn.step(x[:2], state)


def test_steps_in_training_mode_are_refused():
    snn = lif_network("vector").train()
    with pytest.raises(
        LeanspikeError, match=r"step\(\) was called in training mode; call .eval\(\) first"
    ):
        snn.step(draw("vector", N))


def test_an_empty_state_is_the_beginning():
    snn, x = lif_network("vector"), draw("vector", N)
    assert torch.equal(snn.step(x, State())[0], snn.step(x)[0])


# -- what it says of itself --------------------------------------------------------------------


def test_neurons_and_layers_with_weights_come_in_the_order_of_the_graph():
    snn = lif_network("padded_shortcut")
    assert [path for path, _ in snn.neurons()] == ["neuron_0", "neuron_1"]
    assert [str(n.target) for n in snn.neuron_nodes()] == ["neuron_0", "neuron_1"]
    assert [str(n.target) for n in snn.synaptic_nodes()] == ["conv1", "conv2", "fc"]
    assert all(module is snn.get_submodule(path) for path, module in snn.neurons())


def test_keep_in_range_reaches_every_neuron():
    snn = lif_network("functional")
    for _, neuron in snn.neurons():
        with torch.no_grad():
            neuron.leak.fill_(2.0)
            neuron.threshold.fill_(-1.0)
    snn.keep_in_range()
    for _, neuron in snn.neurons():
        assert neuron.leak.item() == 1
        assert neuron.threshold.item() == pytest.approx(1e-4)
    spike(build("vector"), example_input=draw("vector", 1), neuron=nn.ReLU()).keep_in_range()


def test_the_plan_tells_how_input_enters():
    snn = lif_network("padded_shortcut")
    assert snn.plan.sample_shape == (3, 8, 8)
    assert not snn.plan.encoder.timed
    assert snn.plan.norm == "keep"


# -- weights of an ANN -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["padded_shortcut", "shared_block", "reused_relu", "dense"])
@torch.no_grad()
def test_another_anns_weights_load_by_their_names(name):
    snn, other, x = lif_network(name), build(name, seed=7), draw(name, N)
    thresholds = [neuron.threshold.clone() for _, neuron in snn.neurons()]
    snn.load_ann(other.state_dict())
    expected = spike(other, example_input=x[:1], neuron=LIF(0.5, 0.9), timesteps=T)
    assert torch.equal(snn(x), expected(x))
    assert [neuron.threshold for _, neuron in snn.neurons()] == thresholds


def test_loading_is_strict_and_names_the_keys():
    snn, state = lif_network("padded_shortcut"), build("padded_shortcut").state_dict()
    lacking = {key: value for key, value in state.items() if not key.startswith("bn1")}
    with pytest.raises(
        LeanspikeError, match=r"lacks 5 of this .*: bn1.bias, bn1.num_.* \.\.\.; it"
    ):
        snn.load_ann(lacking)
    with pytest.raises(LeanspikeError, match="has 1 that are not this network's: extra; it must"):
        snn.load_ann({**state, "extra": torch.zeros(1)})
    with pytest.raises(LeanspikeError, match=r"has other shapes for 1 of .*: fc\.bias; it must"):
        snn.load_ann({**state, "fc.bias": torch.zeros(7)})
    with pytest.raises(LeanspikeError, match=r"has 4 that are not .*: neuron_0\.leak, neuron_0"):
        snn.load_ann(snn.state_dict())


def test_a_refused_state_changes_nothing():
    snn, other = lif_network("padded_shortcut"), build("padded_shortcut", seed=7).state_dict()
    before = deepcopy(snn.state_dict())
    with pytest.raises(LeanspikeError):
        snn.load_ann({**other, "fc.bias": torch.zeros(7)})
    assert all(torch.equal(value, before[key]) for key, value in snn.state_dict().items())


# -- the readout -------------------------------------------------------------------------------


def test_readout_cumulates_by_sum_or_mean():
    y_TNK = torch.tensor([[[1.0, 2.0]], [[3.0, -2.0]], [[5.0, 6.0]]])
    assert readout(y_TNK, "sum").squeeze(1).tolist() == [[1, 2], [4, 0], [9, 6]]
    assert readout(y_TNK).squeeze(1).tolist() == [[1, 2], [2, 0], [3, 2]]


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2, 4, 4)])
def test_readout_divides_by_the_step_whatever_the_rank(shape):
    y = torch.ones(shape)
    torch.testing.assert_close(readout(y, "mean"), y)


def test_readout_is_float32_at_least_and_lets_gradients_through():
    y_TNK = torch.ones(300, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    total = readout(y_TNK, "sum")
    assert total.dtype == torch.float32
    assert total[-1].item() == 300  # a sum in bfloat16 would stop at 256
    total[-1].sum().backward()
    assert (y_TNK.grad == 1).all()
    assert readout(torch.ones(2, 1, 1, dtype=torch.float64)).dtype == torch.float64


def test_an_unknown_readout_is_refused():
    with pytest.raises(LeanspikeError, match="readout is 'last'; choose one of sum, mean"):
        readout(torch.zeros(1, 1, 1), "last")


# -- input -------------------------------------------------------------------------------------


def calibrated():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    snn = spike(ann, example_input=torch.zeros(1, 8))
    calibrate(snn, torch.rand(64, 8))
    return snn


def test_pixels_of_another_range_are_warned_about_once_and_the_advice_works(caplog):
    snn, x = calibrated(), torch.rand(20, 8)
    low, high = snn.input_range
    assert 0 <= low < 0.1
    assert 0.9 < high <= 1
    snn(x)
    snn(4 * x - 1)  # another normalisation, or an outlier
    snn(torch.zeros(20, 8))
    snn(x[:1] / 255)  # one dark image
    assert caplog.text == ""
    bright = (255 * x).round()
    snn(bright)
    message = rf"input of \d+ to 25\d, but .* calibrated on images of {low:.3g} to {high:.3g}; "
    assert re.search(message + r"scale the pixels alike \(as x / 255\)", caplog.text)
    snn.step(bright)
    assert len(caplog.records) == 1
    fresh = calibrated()
    caplog.clear()
    fresh(bright / 255)
    assert caplog.text == ""
    fresh(x / 255)  # divided twice
    assert "scale the pixels alike (as x * 255)" in caplog.text
    caplog.clear()
    calibrated()(x / 255 * 255)
    assert caplog.text == ""


def test_a_new_calibration_takes_the_new_range(caplog):
    snn, x = calibrated(), 255 * torch.rand(20, 8)
    calibrate(snn, x)
    snn(x)
    assert caplog.text == ""
    assert snn.input_range[1] > 200
    assert (
        spike(
            nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)),
            example_input=torch.zeros(1, 8),
        ).input_range
        is None
    )


def test_input_of_half_is_refused_and_the_advice_works():
    snn, x = calibrated(), torch.rand(4, 8).half()
    words = r"torch\.float16, but the network computes in torch\.float32; give x\.to\("
    for call in (snn, snn.step, lambda x: calibrate(snn, x)):
        with pytest.raises(LeanspikeError, match=words):
            call(x)
        call(x.to(torch.float32))


@pytest.mark.parametrize("kind", ["array", "list", "float64"])
def test_input_of_another_type_is_refused_and_the_advice_works(kind):
    snn, x = calibrated(), torch.rand(4, 8)
    wrong = {"array": x.double().numpy(), "list": x.tolist(), "float64": x.double()}[kind]
    name = {
        "array": "input is a ndarray; give a tensor, as torch.as_tensor(x).float()",
        "list": "input is a list; give a tensor, as torch.as_tensor(x).float()",
        "float64": "input of type torch.float64, but the network computes in torch.float32; "
        "give x.float()",
    }[kind]
    for call in (
        snn,
        snn.step,
        lambda x: exit_early(snn, x, After(1)),
        lambda x: snn.run(x, observer=lambda *_: None),
    ):
        with pytest.raises(LeanspikeError, match=re.escape(name)):
            call(wrong)
    assert torch.equal(snn(torch.as_tensor(wrong).float()), snn(x))


def test_input_on_another_device_is_refused():
    snn = calibrated().to("meta")
    for call in (snn, snn.step):
        with pytest.raises(LeanspikeError, match=r"on cpu, .* on meta; give x\.to\('meta'\)"):
            call(torch.rand(4, 8))
