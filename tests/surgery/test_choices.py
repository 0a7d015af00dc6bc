"""What is chosen where nothing is said, that it is said, and what is warned about."""

import logging

import pytest
import torch
from torch import nn

import leanspike as ls
from leanspike import LIF, LeanspikeError, calibrate, spike
from leanspike.surgery.choices import SCALES, WIDE_SCALES
from leanspike.temporal import BNTT
from networks import build, draw

X = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cnn(*, norms=True, pool=nn.MaxPool2d, seen=True):
    """A small network; ``seen`` images gave its norms statistics."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if norms else nn.Identity
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), norm(4), nn.ReLU(), pool(2)),
        *(nn.Conv2d(4, 8, 3, padding=1), norm(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)),
        nn.Linear(128, 10),
    )
    if seen:
        with torch.no_grad():
            net(X)
    return net.eval()


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head, self.relu, self.relu2 = nn.Linear(256, 10), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        return self.head(self.relu2(x + self.conv2(x)).flatten(1))


def dynamics(snn):
    return [(m.dynamics.height, m.dynamics.initial, m.learn) for _, m in snn.neurons()]


BOTH = ("leak", "threshold")
PAPERS = ("unit", "zero", BOTH)
HALF = ("threshold", "half", BOTH)


def test_batch_norms_bring_threshold_height_and_max_pools_a_start_from_zero():
    found = spike(cnn(), example_input=X[:1])
    assert dynamics(found) == [("threshold", "zero", BOTH), HALF]
    assert dynamics(spike(cnn(pool=nn.AvgPool2d), example_input=X[:1])) == [HALF, HALF]


def test_shortcuts_bring_threshold_height():
    assert dynamics(spike(Shortcut().eval(), example_input=X[:1])) == [HALF, HALF]


def test_folded_norms_bring_threshold_height():
    assert dynamics(spike(cnn(), example_input=X[:1], norm="fold"))[1] == HALF


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_a_plain_chain_and_the_preset_are_the_papers(preset):
    ann = cnn(norms=preset == "paper")
    snn = spike(ann, example_input=X[:1], preset=preset)
    assert dynamics(snn) == [PAPERS, PAPERS]
    assert not any(isinstance(module, BNTT) for module in snn.modules())
    given = {"method": "layerwise", "scale": 1.0, "statistics": "keep"}
    chosen = calibrate(snn, X, preset=preset)
    same = spike(ann, example_input=X[:1], preset=preset)
    assert calibrate(same, X, **given).layers == chosen.layers


def test_a_norm_that_time_does_not_reach_counts_for_nothing():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    assert dynamics(spike(net, example_input=torch.zeros(1, 4))) == [PAPERS]


@torch.no_grad()
def test_trained_norms_get_statistics_of_each_step_and_begin_as_they_were():
    ann = cnn()
    snn = spike(ann, example_input=X[:1], timesteps=3)
    norm = snn.get_submodule("5")
    assert (type(norm), norm.eps) == (BNTT, 1e-5)
    y = torch.randn(6, 8, 4, 4)
    torch.testing.assert_close(norm(y.expand(3, *y.shape))[2], ann[5](y))
    calibrate(snn, X)
    assert not torch.equal(norm.running_mean[0], norm.running_mean[2])


@pytest.mark.parametrize(
    "how", [{"norm": "keep"}, {"neuron": LIF()}, {"preset": "paper"}], ids=["norm", "neuron", "p"]
)
def test_what_is_given_keeps_batch_norms(how):
    snn = spike(cnn(), example_input=X[:1], **how)
    assert isinstance(snn.get_submodule("5"), nn.BatchNorm2d)


def test_untrained_norms_are_kept():
    snn = spike(cnn(seen=False), example_input=X[:1])
    assert isinstance(snn.get_submodule("5"), nn.BatchNorm2d)


def test_norms_that_one_bntt_cannot_stand_for_are_kept():
    other_eps = cnn()
    other_eps[5].eps = 1e-3
    assert isinstance(spike(other_eps, example_input=X[:1]).get_submodule("5"), nn.BatchNorm2d)
    twice = build("same_block_twice")
    snn = spike(twice, example_input=draw("same_block_twice", 1))
    assert not any(isinstance(module, BNTT) for module in snn.modules())


def test_calibration_follows_the_network_and_what_is_given_wins():
    snn = spike(cnn(), example_input=X[:1])
    chosen = calibrate(snn, X)
    assert chosen.scale in SCALES
    assert chosen.norms == ("5",)
    assert chosen.choices.startswith(f"in one pass, scale {chosen.scale:g} of 4, norm statistics")
    given = calibrate(snn, X, scale=0.3, method="layerwise", statistics="keep")
    assert (given.scale, given.norms) == (0.3, ())
    assert given.choices == "layer by layer, scale 0.3, as given"


@torch.no_grad()
def test_the_agreement_is_always_measured():
    ann = cnn(norms=False)
    snn = spike(ann, example_input=X[:1])
    for scale in (1.0, 0.3, (0.3, 0.6)):
        table = calibrate(snn, X, scale=scale)
        same = ls.readout(snn(X))[-1].argmax(1) == ann(X).argmax(1)
        assert table.agreement == same.double().mean().item()


@torch.no_grad()
def test_a_single_output_agrees_by_its_sign():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)).eval()
    x = torch.randn(200, 4)
    snn = spike(ann, example_input=x[:1])
    same = (calibrate(snn, x, scale=3.0).agreement, (ls.readout(snn(x))[-1] > 0) == (ann(x) > 0))
    assert same[0] == same[1].double().mean().item()
    assert 0 < same[0] < 1


def test_presets_that_do_not_exist_are_refused():
    snn = spike(cnn(), example_input=X[:1])
    message = "preset is 'best'; choose one of network, paper"
    with pytest.raises(LeanspikeError, match=message):
        spike(cnn(), example_input=X[:1], preset="best")
    with pytest.raises(LeanspikeError, match=message):
        calibrate(snn, X, preset="best")


# -- what is said ------------------------------------------------------------------------------


def said(caplog):
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_both_say_what_they_chose_in_one_line(caplog):
    caplog.set_level(logging.INFO, "leanspike")
    snn = spike(cnn(), example_input=X[:1])
    table = calibrate(snn, X)
    assert said(caplog)[0] == (
        logging.INFO,
        "spike: spikes of threshold height, membranes from half a threshold and 0 before max "
        "pools, norms with statistics of each step, for time reaches its batch norms",
    )
    alike = f"{100 * table.agreement:.1f} % of 64 images alike at T = 5"
    line = f"calibrate: {table.choices}; SNN and ANN answer {alike}"
    assert said(caplog)[1] == (logging.INFO, line)


def warnings(caplog):
    return [message for level, message in said(caplog) if level == logging.WARNING]


def test_a_low_agreement_is_warned_about_and_more_steps_help(caplog):
    ann, labels = cnn(), X.flatten(1).argmax(1) % 10
    optimizer = torch.optim.Adam(ann.train().parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(ann(X), labels).backward()
        optimizer.step()
    ann.eval()
    few = calibrate(spike(ann, example_input=X[:1], timesteps=1), X).agreement
    assert few < 0.9
    assert warnings(caplog)[-1].endswith(
        "alike; take more steps, as spike(timesteps=2), or train the SNN"
    )
    assert calibrate(spike(ann, example_input=X[:1], timesteps=2), X).agreement > few


def test_of_a_plain_chain_several_scales_are_the_way_out(caplog):
    snn = spike(cnn(norms=False), example_input=X[:1], timesteps=2)
    low = calibrate(snn, X).agreement
    assert low < 0.9
    assert f"give several scales, as scale={WIDE_SCALES}, or train" in warnings(caplog)[-1]
    assert calibrate(snn, X, scale=WIDE_SCALES).agreement >= low


def test_settings_that_do_not_fit_are_named(caplog):
    snn = spike(cnn(), example_input=X[:1], preset="paper")
    low = calibrate(snn, X, scale=20.0).agreement
    assert "; leave out neuron=, norm= and preset= in spike, and scale=," in warnings(caplog)[-1]
    assert calibrate(spike(cnn(), example_input=X[:1]), X).agreement > low


@torch.no_grad()
def test_a_trained_network_that_was_never_calibrated_says_so_once(caplog):
    snn = spike(cnn(), example_input=X[:1])
    snn(X)
    snn(X)
    assert [line.split(";")[0] for line in warnings(caplog)] == [
        "the network was never calibrated: all thresholds are 1"
    ]


@torch.no_grad()
def test_nobody_is_told_to_calibrate_what_is_calibrated_or_begins_from_scratch(caplog):
    scratch = spike(cnn(seen=False), example_input=X[:1])
    untouched = spike(cnn(norms=False).train(), example_input=X[:1])
    calibrated = spike(cnn(), example_input=X[:1])
    calibrate(calibrated, X)
    by_hand = spike(cnn(), example_input=X[:1], neuron=LIF(threshold=0.5))
    before = len(warnings(caplog))
    for snn in (scratch, untouched, calibrated, by_hand):
        snn(X)
    assert len(warnings(caplog)) == before


def test_a_trained_network_in_training_mode_is_named(caplog):
    spike(cnn(seen=False).train(), example_input=X[:1])
    assert warnings(caplog) == []
    spike(cnn().train(), example_input=X[:1])
    assert warnings(caplog) == [
        "the ANN is trained but in training mode, and so is the SNN: there 1, 5, 8 use the "
        "statistics of each batch, or drop; call ann.eval() before spike, or snn.eval() before it "
        "answers"
    ]


def test_without_norms_a_network_in_training_mode_is_named_when_it_is_calibrated(caplog):
    """Before that it may be one that is about to be trained."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x):
            x = nn.functional.relu(self.body(x.flatten(1)))
            return self.head(nn.functional.dropout(x, 0.5, self.training))

    for ann, path in ((cnn(norms=False).train(), "8"), (Functional(), "dropout_0")):
        snn = spike(ann, example_input=X[:1], timesteps=20)
        assert warnings(caplog) == []
        for _ in range(2):
            calibrate(snn, X)
        found = [line for line in warnings(caplog) if "training mode" in line]
        assert [line.split(": there ")[1].split(" ")[0] for line in found] == [path]
        caplog.clear()
        calibrate(spike(ann.eval(), example_input=X[:1]), X)
        calibrate(spike(ann.train(), example_input=X[:1]).eval(), X)
        assert not any("training mode" in line for line in warnings(caplog))
        caplog.clear()


def test_training_a_calibrated_network_whose_neurons_do_not_learn_is_warned_about(caplog):
    fixed = spike(cnn(), example_input=X[:1], neuron=LIF(height="threshold", initial="half"))
    learning = spike(cnn(), example_input=X[:1])
    for snn in (fixed, learning):
        calibrate(snn, X)
    caplog.clear()
    for snn in (learning, fixed, fixed):
        snn.eval()(X)
        snn.train()(X)
    assert [line.split(";")[0] for line in warnings(caplog)] == [
        "leaks and thresholds are not trained, only the weights"
    ]
