"""Temporal norms and Poisson input in whole networks: the surgery, streaming, folding, files."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.errors import SurgeryError
from leanspike.models import create_model
from leanspike.saved import ModelSpec, load, save
from leanspike.surgery import calibrate, fold_norms, readout
from leanspike.temporal import BNTT, TDBN, TEMPORAL_NORMS, Affine, Poisson, TemporalNorm
from leanspike.train import create_optimizer

OPTIONS = {"width": 0.125, "batch_norm": True}
SPEC = ModelSpec(name="vgg6", num_classes=10, image_size=8, options=OPTIONS)
IMAGES = torch.zeros(1, 3, 8, 8)
NORMS = list(TEMPORAL_NORMS)


def ann(seed=0):
    torch.manual_seed(seed)
    return create_model("vgg6", 10, image_size=8, **OPTIONS)


def images(n=6, seed=0):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def trained(norm, encode="direct", timesteps=4):
    """Norms whose steps differ, after some updates."""
    louder = partial(TDBN, threshold=1.0)  # than the neurons' threshold asks for, so that they fire
    snn = ls.spike(
        ann(), example_input=IMAGES, encode=encode, timesteps=timesteps,
        norm=louder if norm == "tdbn" else norm,
        neuron=ls.LIF(threshold=0.5, leak=0.9),
    )  # fmt: skip
    optimizer = create_optimizer(snn, learning_rate=0.1)
    for batch in range(3):
        loss = nn.functional.cross_entropy(snn(images(8, batch)).sum(0), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return snn.double().eval()


def norms_of(snn) -> dict[str, nn.Module]:
    kinds = (nn.modules.batchnorm._BatchNorm, TemporalNorm)
    return {path: m for path, m in snn.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("norm", NORMS)
def test_a_static_stem_keeps_its_ordinary_norm(norm):
    found = norms_of(ls.spike(ann(), example_input=IMAGES, norm=norm, timesteps=4))
    assert isinstance(found.pop("features.norm1"), nn.BatchNorm2d)
    assert len(found) == 4
    assert {type(module) for module in found.values()} == {TEMPORAL_NORMS[norm]}
    assert {module.timesteps for module in found.values()} == {4}


@pytest.mark.parametrize("norm", NORMS)
def test_time_reaches_every_norm_behind_poisson_spikes(norm):
    snn = ls.spike(ann(), example_input=IMAGES, norm=norm, encode="poisson")
    assert {type(module) for module in norms_of(snn).values()} == {TEMPORAL_NORMS[norm]}


@pytest.mark.parametrize("norm", ["keep", "bntt", "tdbn", "tebn"])
@pytest.mark.parametrize("encode", ["direct", "poisson"])
def test_streaming_is_the_whole_sequence(norm, encode):
    snn = trained(norm, encode)
    x = images().double()
    whole = snn(x)
    assert whole.abs().sum() > 0
    state, steps = None, []
    for _ in range(4):
        y_NK, state = snn.step(x, state)
        steps.append(y_NK)
    torch.testing.assert_close(torch.stack(steps), whole)


@pytest.mark.parametrize("encode", ["direct", "poisson"])
def test_samples_that_left_do_not_change_the_others(encode):
    snn = trained("bntt", encode)
    x, stay = images().double(), torch.tensor([4, 1])
    whole = snn(x)
    _, state = snn.step(x)
    _, state = snn.step(x, state)
    y_NK, _ = snn.step(x[stay], state.keep(stay))
    torch.testing.assert_close(y_NK, whole[2][stay])


@pytest.mark.parametrize("encode", ["direct", "poisson"])
@pytest.mark.parametrize("norm", ["keep", *NORMS])
def test_a_folded_network_gives_the_same_answers(norm, encode):
    snn = trained(norm, encode)
    folded = fold_norms(snn)
    x = images(32).double()
    torch.testing.assert_close(folded(x), snn(x))
    assert norms_of(folded) == {}
    assert len(norms_of(snn)) == 5
    y_NK, state = folded.step(x)
    y_NK, _ = folded.step(x, state)
    torch.testing.assert_close(y_NK, snn(x)[1])


def test_tdbn_is_scaled_to_the_threshold_of_the_neurons():
    neuron = ls.LIF(threshold=0.5)
    for norm, threshold in (("tdbn", 0.5), (partial(TDBN, threshold=0.25), 0.25)):
        found = norms_of(ls.spike(ann(), example_input=IMAGES, norm=norm, neuron=neuron))
        assert {m.threshold for m in found.values() if isinstance(m, TDBN)} == {threshold}


def test_norms_go_into_weights_where_there_are_any_and_else_stay_as_scales():
    for norm, kind in (("keep", nn.Identity), ("tdbn", nn.Identity), ("bntt", Affine)):
        folded = fold_norms(trained(norm))
        assert isinstance(folded.get_submodule("features.norm1"), nn.Identity)  # of the stem
        assert isinstance(folded.get_submodule("features.norm3"), kind)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *(("wrn16_2", norm) for norm in ("keep", *NORMS)),
        *(("pyramidnet18", norm) for norm in ("keep", "bntt")),  # one for all steps, one for each
    ],
)
def test_norms_in_front_of_layers_fold_too_and_cost_the_same_as_before(name, norm):
    torch.manual_seed(0)
    network = create_model(name, 10, image_size=8, width=0.25)
    snn = ls.spike(network, example_input=IMAGES, norm=norm, timesteps=3)
    snn(images(16)).sum().backward()  # statistics
    snn.double().eval()
    folded, x = fold_norms(snn), images(16, seed=1).double()
    assert norms_of(folded) == {}
    torch.testing.assert_close(folded(x), snn(x))
    energies = [ls.evaluate(s, [(x, torch.zeros(16).long())]).energy for s in (snn, folded)]
    assert energies[0].norm_pj == pytest.approx(energies[1].norm_pj)
    assert energies[0].norm_pj > energies[0].ann_norm_pj > 0
    assert energies[0].ann_norm_pj == pytest.approx(energies[1].ann_norm_pj)
    assert energies[0].snn_pj == pytest.approx(energies[1].snn_pj, rel=0.01)  # a spike may flip


def test_a_norm_of_the_batch_alone_does_not_fold():
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    network = nn.Sequential(nn.Linear(4, 4), norm, nn.ReLU())
    snn = ls.spike(network, example_input=torch.zeros(2, 4)).eval()
    with pytest.raises(SurgeryError, match="module 1: this norm has no running statistics"):
        fold_norms(snn)


def test_one_module_called_twice_gets_two_norms():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):  # the first is static
                x = self.relu(self.norm(self.conv(x)))
            return x.mean((2, 3))

    snn = ls.spike(Twice(), example_input=IMAGES, norm="bntt")
    assert {path: type(module) for path, module in norms_of(snn).items()} == {
        "norm": nn.BatchNorm2d,
        "norm_1": BNTT,
        "norm_2": BNTT,
    }
    assert snn(images()).shape == (5, 6, 3)


def test_a_trained_ann_with_shifts_needs_norms_with_shifts():
    network = ann()
    nn.init.ones_(network.get_submodule("features.norm2").bias)
    with pytest.raises(ls.SurgeryError, match=r"module features\.norm2: .* trained shift"):
        ls.spike(network, example_input=IMAGES, norm="bntt")
    snn = ls.spike(network, example_input=IMAGES, norm=partial(BNTT, bias=True))
    assert (snn.get_submodule("features.norm2").bias == 1).all()


def test_a_network_without_norms_gets_none():
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(
        ls.LeanspikeError, match="norm: this network has no batch norm behind its first neurons"
    ):
        ls.spike(ann, example_input=torch.zeros(1, 4), norm="bntt")


def test_an_unknown_norm_is_refused():
    with pytest.raises(ls.LeanspikeError, match="norm is 'bnt'; choose one of keep, fold, bntt"):
        ls.spike(ann(), example_input=IMAGES, norm="bnt")


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (
            BNTT(4, 5),
            r"norm is BNTT\(4, .*\); give its name, as norm='bntt', or norm=lambda channel",
        ),
        (3, "norm is 3; give its name"),
        (
            lambda _: BNTT(4, 5),
            r"of \(_\), but is called with \(channels, timesteps\); write norm=l",
        ),
        (lambda _channels, _steps: 3, r"norm\(\d+, 5\) gives 3; return a TemporalNorm, as BNTT\("),
    ],
)
def test_what_makes_no_norms_is_refused_and_the_advice_works(norm, message):
    with pytest.raises(ls.LeanspikeError, match=message):
        ls.spike(ann(), example_input=IMAGES, norm=norm)
    advice = {"norm": lambda channels, timesteps: BNTT(channels, timesteps)}
    assert isinstance(norms_of(ls.spike(ann(), example_input=IMAGES, **advice)).popitem()[1], BNTT)


def test_an_anns_weights_load_into_every_step():
    other = ann(seed=1)
    other.train()(images(16))
    snn = ls.spike(ann(), example_input=IMAGES, norm=partial(BNTT, bias=True, eps=1e-5))
    snn.load_ann(other.state_dict())
    relu = ls.spike(
        ann(), example_input=IMAGES, norm=partial(BNTT, bias=True, eps=1e-5), neuron=nn.ReLU()
    )
    relu.load_ann(other.state_dict())
    torch.testing.assert_close(
        relu.eval()(images()), other.eval()(images()).expand(5, -1, -1), atol=1e-5, rtol=1e-4
    )
    lacking = {k: v for k, v in other.state_dict().items() if "norm2" not in k}
    with pytest.raises(ls.LeanspikeError, match=r"lacks 2 .*classifier\.norm2, features\.norm2"):
        snn.load_ann(lacking)


def test_calibration_measures_the_statistics_of_each_step():
    snn = ls.spike(ann(), example_input=IMAGES, norm="bntt", timesteps=3)
    table = calibrate(snn, images(64), statistics="reestimate", scale=0.5)
    assert "features.norm2" in table.norms
    seen = []
    snn.get_submodule("features.norm2").register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    snn.eval()(images(64))
    mean_TC = snn.get_submodule("features.norm2").running_mean
    torch.testing.assert_close(mean_TC, seen[0].mean((1, 3, 4)), atol=1e-5, rtol=1e-4)
    assert (mean_TC[0] != mean_TC[1]).any()


def test_calibration_shows_the_ann_the_image_and_the_snn_its_spikes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    snn = ls.spike(network, example_input=IMAGES, encode="poisson", timesteps=20)
    x = images(64)
    table = calibrate(snn, x, method="one_pass")
    expected = torch.quantile(network[1](x.flatten(1)), 0.997).item()
    assert table.layers[0].percentile_value == pytest.approx(expected, rel=1e-4)
    chosen = calibrate(snn, x, method="layerwise", scale=(0.2, 0.5, 1.0))
    assert chosen.agreement is not None
    assert chosen.agreement > 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_files_bring_norms_and_encoder_back(norm, tmp_path):
    snn = trained(norm, Poisson(gain=0.4, seed=3)).float()
    snn.timesteps = 3
    again = load(save(snn, tmp_path, SPEC))
    assert again.plan.encoder == Poisson(gain=0.4, seed=3)
    assert again.timesteps == 3
    assert torch.equal(again(images()), snn(images()))
    assert torch.equal(again(images(), 4), snn(images(), 4))


def test_what_cannot_be_saved_is_said(tmp_path):
    with pytest.raises(ls.LeanspikeError, match="is folded; save the network it was folded from"):
        save(fold_norms(trained("bntt")), tmp_path, SPEC)
    mixed = iter([BNTT, *[TDBN] * 3])
    snn = ls.spike(ann(), example_input=IMAGES, norm=lambda c, t: next(mixed)(c, t))
    with pytest.raises(ls.LeanspikeError, match="the norms differ in their settings"):
        save(snn, tmp_path, SPEC)


def test_the_optimiser_spares_temporal_norms_from_decay():
    snn = ls.spike(ann(), example_input=IMAGES, norm="tebn")
    decayed, plain, _ = create_optimizer(snn, learning_rate=0.1, weight_decay=1e-3).param_groups
    assert all(p.dim() > 1 for p in decayed["params"])
    assert any(p is snn.get_submodule("features.norm2").step_weight for p in plain["params"])


@pytest.mark.parametrize("norm", NORMS)
def test_learned_neurons_and_temporal_norms_train_together(norm):
    snn = ls.spike(
        ann(), example_input=IMAGES, encode="poisson", norm=norm,
        neuron=ls.LIF(threshold=0.5, learn=("leak", "threshold")),
    )  # fmt: skip
    readout(snn(images()), "mean")[-1].sum().backward()
    for path, module in (*norms_of(snn).items(), *snn.neurons()):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{path}.{name}"
            assert parameter.grad.abs().sum() > 0, f"{path}.{name}"
