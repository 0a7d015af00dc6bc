"""Passes from plan to plan: each by itself, by name or one's own, and none."""

import pytest
import torch
from torch import nn

from leanspike import LIF, LeanspikeError, spike
from leanspike.lower import PASSES, apply_passes
from leanspike.synapse import EventConv2d, TiledAvgPool2d
from networks import build, draw

T, N = 3, 2


def plain(name="functional", **options):
    neuron = LIF(threshold=0.5, leak=0.9)
    return spike(
        build(name), example_input=draw(name, 1), timesteps=T, neuron=neuron, **options
    ).eval()


def kinds(snn):
    return {type(module) for module in snn.modules()}


def pooled(**options):
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3)
    return spike(nn.Sequential(*layers), example_input=torch.zeros(1, 1, 10, 10), **options)


def test_each_pass_has_a_switch():
    assert {EventConv2d, TiledAvgPool2d} <= kinds(pooled())
    assert not {EventConv2d, TiledAvgPool2d} & kinds(pooled(lower=()))
    assert kinds(pooled(lower=["event_driven"])) >= {EventConv2d, nn.AvgPool2d}
    assert pooled().plan.passes == ("event_driven", "tiled_pooling")


@pytest.mark.parametrize("name", PASSES)
@torch.no_grad()
def test_a_pass_leaves_the_plan_as_it_was_and_the_answers_the_same(name):
    snn, x = plain("padded_shortcut", lower=()), draw("padded_shortcut", N)
    before, code = snn(x), snn.plan.module.code
    modules = {path: type(module) for path, module in snn.named_modules()}
    weights = {key: value.clone() for key, value in snn.state_dict().items()}
    lowered = apply_passes(snn.plan, [name])
    assert lowered.passes == (name,)
    assert snn.plan.passes == ()
    assert snn.plan.module.code == code
    assert {path: type(module) for path, module in snn.named_modules()} == modules
    assert all(torch.equal(value, weights[key]) for key, value in snn.state_dict().items())
    assert torch.equal(snn(x), before)
    torch.testing.assert_close(snn.replanned(lowered)(x), before, rtol=1e-4, atol=1e-4)


def test_layers_are_shared_by_the_plans():
    snn = plain("functional", lower=())
    lowered = apply_passes(snn.plan, ["event_driven"])
    assert lowered.module.get_submodule("conv2").weight is snn.get_submodule("conv2").weight


@torch.no_grad()
def test_a_pass_of_ones_own_is_a_function_from_plan_to_plan():
    def silent_last_layer(plan):
        other = plan.copied()
        other.module.set_submodule("fc", nn.Linear(24, 5, bias=False))
        nn.init.zeros_(other.module.get_submodule("fc").weight)
        return other.after("silent_last_layer")

    x = draw("functional", N)
    snn = plain(lower=["event_driven", silent_last_layer])
    assert snn.plan.passes == ("event_driven", "silent_last_layer")
    assert not snn(x).any()
    assert plain()(x).any()


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        (["faster"], "lower names 'faster'; choose one of event_driven, tiled_pooling, fold_norms"),
        ("event_driven", r"lower is 'event_driven'; give a list of passes, as lower=\['event_dr"),
        ([lambda _plan: None], "gives None; return a Plan"),
    ],
)
def test_what_is_no_pass_is_refused(passes, message):
    with pytest.raises(LeanspikeError, match=message):
        plain(lower=passes)


def test_the_advice_works():
    assert plain(lower=["event_driven"]).plan.passes == ("event_driven",)
