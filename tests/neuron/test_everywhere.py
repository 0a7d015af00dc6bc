"""Every neuron that is registered goes through everything, with nothing but its registration."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils._pytree import tree_leaves

import leanspike as ls
from leanspike.evaluation import Confident, confidence, exit_early, readings
from leanspike.neuron import Calibrated, Cost, Neuron, create_neuron, neurons
from leanspike.recipes import load_recipe
from leanspike.report import render_tables
from leanspike.run import Run
from leanspike.temporal import norms, temporal_norm
from leanspike.train import Monitor, SpikeRate, create_optimizer

pytestmark = pytest.mark.usefixtures("unrendered")
T, N = 4, 6
WAYS: dict[str, dict[str, object]] = {name: {} for name in sorted(neurons.registered)}
WAYS |= {"lif per channel": {"per": "channel"}, "lif per neuron": {"per": "neuron"}}
SHORT = (
    *("model.options.layers=[4, A, 4, A]", "model.options.head=[]", "ann.epochs=1"),
    *("spike.timesteps=2", "snn.0.epochs=1", "data.train_images=200", "data.validation=50"),
)
every_neuron = pytest.mark.parametrize("way", WAYS)


def make_ann() -> nn.Module:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    more = [nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()]
    return nn.Sequential(*convolutions, *more, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 3))


def draw(samples: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(samples, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def make(way: str, norm: str = "keep") -> ls.SpikingNetwork:
    """Calibrated if its neurons can be, with norms that have seen data."""
    ann = make_ann()
    with torch.no_grad():
        ann(draw(64))
    name = way.partition(" ")[0]
    snn = ls.spike(
        ann.eval(),
        example_input=draw(1),
        timesteps=T,
        neuron=create_neuron(name, WAYS[way]),
        norm=norm if norm == "keep" else temporal_norm(norm, {"bias": True}),
    )
    if all(isinstance(neuron, Calibrated) for _, neuron in snn.neurons()):
        ls.calibrate(snn, draw(64), percentile=90, scale=0.5)
    return snn


@every_neuron
@pytest.mark.parametrize("norm", ["keep", *norms.registered])
def test_it_learns_between_all_norms(way: str, norm: str) -> None:
    snn, x, labels = make(way, norm), draw(32, seed=2), torch.arange(32) % 3
    before = readings(snn)
    optimizer = create_optimizer(snn.train(), "sgd", learning_rate=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(snn(x).sum(0), labels)
        loss.backward()
        optimizer.step()
        snn.keep_in_range()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    after = readings(snn)
    for path, neuron in snn.neurons():
        learnt = [name for name, p in neuron.named_parameters() if p.requires_grad]
        assert not learnt or before[path] != after[path]
        assert all(p.grad is not None for p in neuron.parameters() if p.requires_grad)


@every_neuron
@pytest.mark.parametrize("norm", ["keep", *norms.registered])
@torch.no_grad()
def test_it_is_saved_and_loaded_and_streams(way: str, norm: str, tmp_path: Path) -> None:
    snn, x = make(way, norm).double(), draw(N).double()
    y_TNK, state = snn(x), None
    assert y_TNK.std(0).max() > 1e-3
    again = ls.load(ls.save(snn, tmp_path), ann=make_ann()).double()
    torch.testing.assert_close(again(x), y_TNK)
    kept = torch.tensor([True, False, True, True, False, True])
    for t in range(T):
        x_N = x if t < 2 else x[kept]
        if t == 2:
            assert state is not None
            state = state.keep(kept)
        y_NK, state = snn.step(x_N, state)
        torch.testing.assert_close(y_NK, y_TNK[t] if t < 2 else y_TNK[t, kept])
    assert state is not None
    assert {len(leaf) for leaf in tree_leaves(dict(state.neurons))} == {int(kept.sum())}


@every_neuron
def test_it_leaves_early_and_is_measured_and_shown(way: str, tmp_path: Path) -> None:
    snn, x, labels = make(way), draw(24, seed=3), torch.arange(24) % 3
    sure = confidence(ls.readout(snn(x).detach())[1], "margin").median().item()
    exits = exit_early(snn, x, Confident("margin", sure), T)
    assert 1 <= exits.steps.min() < exits.steps.max() <= T
    start = readings(snn)
    result = ls.evaluate(snn, [(x, labels)], start=start)
    assert [layer.path for layer in result.neurons] == ["2", "5"]
    pj = 0.0
    for layer, (_, neuron) in zip(result.neurons, snn.neurons(), strict=True):
        assert isinstance(neuron, Neuron)
        assert 0 < layer.spikes_per_neuron < T
        assert layer.readings_start == layer.readings
        cost = neuron.update_cost()
        pj += T * layer.neurons * (4.6 * cost.macs + 0.9 * cost.acs)
    assert result.energy.membrane_pj == pytest.approx(pj)
    assert ls.Result.model_validate_json(result.model_dump_json()) == result
    page = ls.write_report(result, [], tmp_path / "report.html").read_text()
    console = Console(file=(text := StringIO()), width=80)
    console.print(render_tables(result))
    for name in result.neurons[0].readings:
        words = name.replace("_", " ")
        assert words in text.getvalue()
        assert f'<th scope="col">{words.capitalize()}</th>' in page
    assert max(map(len, text.getvalue().split("\n"))) <= 80


@every_neuron
def test_its_spikes_have_a_price(way: str) -> None:
    snn, x, rate = make(way), draw(8), SpikeRate()
    with rate.watch(snn):
        y_TNK = snn(x)
    loss = rate(y_TNK, torch.zeros(8), x)
    result = ls.evaluate(snn, [(x, torch.arange(8) % 3)])
    assert loss.item() == pytest.approx(result.energy.spikes_per_neuron, rel=1e-5)


@pytest.mark.parametrize("name", neurons.registered)
def test_a_recipe_names_it_and_its_options(name: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits", [*SHORT, f"spike.neuron={{name: {name}}}"])
    run = Run(recipe, tmp_path / "run", Monitor(Console(quiet=True), tmp_path / "run"))
    result = run.train()
    for layer in result.neurons:
        assert layer.readings_start.keys() == layer.readings.keys()
        assert layer.readings_start != layer.readings
    spec = json.loads((tmp_path / "run" / "snn" / "spec.json").read_text())
    assert {neuron["name"] for neuron in spec["spike"]["neurons"].values()} == {name}
    kept = result.provenance.recipe["spike"]
    assert isinstance(kept, dict)
    assert kept["neuron"]["name"] == name


class Measured(Neuron):
    """Without a scale that could be calibrated."""

    def initial(self, x_N: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x_N)

    def step(self, x_N: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x_N.clamp(min=0), torch.zeros_like(x_N) if state is None else state

    def spike_height(self) -> None:
        return None

    def update_cost(self) -> Cost:
        return Cost()


def test_a_run_whose_neurons_cannot_be_calibrated_is_refused_at_its_start(tmp_path: Path) -> None:
    neurons.register("measured")(Measured)
    try:
        for calibrate in ({}, {"spike.calibrate": "null"}):
            changes = [f"{key}={value}" for key, value in calibrate.items()]
            recipe = load_recipe("digits", [*SHORT, "spike.neuron={name: measured}", *changes])
            folder = tmp_path / str(len(changes))
            run = Run(recipe, folder, Monitor(Console(quiet=True), folder))
            if changes:
                run.begin()
                continue
            message = "neurons features.relu1: a Measured has no threshold to set"
            with pytest.raises(ls.LeanspikeError, match=message):
                run.begin()
    finally:
        neurons.unregister("measured")


def test_a_wrong_key_of_a_neuron_is_answered_with_its_own_keys() -> None:
    for changes, message in (
        (
            ["spike.neuron.synaps_leak=0.5"],
            "unknown key spike.neuron.synaps_leak; did you mean 'leak'?",
        ),
        (
            ["spike.neuron={name: cuba_lif}", "spike.neuron.synaps_leak=0.5"],
            "unknown key spike.neuron.synaps_leak; did you mean 'synapse_leak'?",
        ),
        (["spike.neuron.name=cuba"], "spike.neuron.*neuron is 'cuba'; choose one of .*cuba_lif"),
        (
            ["spike.norm=bnt"],
            "spike.norm is 'bnt': choose one of keep, fold, .*did you mean",
        ),
        (["spike.encode=rat"], "spike.encode is 'rat': choose one of direct"),
    ):
        with pytest.raises(ls.LeanspikeError, match=message):
            load_recipe("digits", changes)


def test_a_plain_module_is_a_neuron_without_abilities() -> None:
    ann, x = make_ann().eval(), draw(4)
    snn = ls.spike(ann, example_input=x[:1], neuron=nn.ReLU())
    torch.testing.assert_close(snn(x)[0], ann(x))
    rate = SpikeRate()
    for asked, message in (
        (lambda: ls.evaluate(snn, [(x, torch.arange(4) % 3)]), "neurons 2: a ReLU does not say"),
        (lambda: ls.calibrate(snn, x), "neurons 2: a ReLU has no threshold to set"),
        (lambda: ls.save(snn, "nowhere"), "neuron 2 is a ReLU, which has no name"),
        (lambda: rate.watch(snn).__enter__(), "neurons 2: a ReLU emits no spikes"),
    ):
        with pytest.raises(ls.LeanspikeError, match=message):
            asked()
