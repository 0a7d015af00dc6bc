"""The papers' formulas of energy, each against its terms written out on real networks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike.evaluation import OperationCounter, Prices
from leanspike.evaluation.formulas import CHAINS, bntt_ratio, diet_snn_ratio
from leanspike.evaluation.result import Result
from leanspike.evaluation.result_file import load_result
from leanspike.models import MODELS, create_model

MAC, AC = 4.6, 0.9


def measured(
    ann: nn.Module, x: Tensor, timesteps: int = 3, encode: str = "direct", threshold: float = 0.1
) -> tuple[Result, dict[str, float]]:
    """The evaluation of a network made to spike, and what hooks saw: spikes per neuron by path."""
    snn = ls.spike(
        ann.eval(),
        example_input=x[:, :1] if encode == "frames" else x[:1],
        encode=encode,
        timesteps=timesteps,
        neuron=ls.LIF(threshold),
    )
    samples = x.shape[1] if encode == "frames" else len(x)
    rates: dict[str, float] = {}
    for path, module in snn.neurons():
        module.register_forward_hook(
            lambda _m, _x, y, path=path: rates.update({path: float((y != 0).sum() / y[0].numel())})
        )
    result = ls.evaluate(snn, [(x, torch.zeros(samples).long())])
    assert all(0 < rate < timesteps for rate in rates.values())
    return result, rates


def test_each_layer_has_the_rate_of_the_neurons_before_it() -> None:
    torch.manual_seed(0)
    convolutions = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3)
    ann = nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    result, rate = measured(ann, torch.rand(5, 1, 8, 8))
    once, second, third = 4 * 9 * 64, 6 * 4 * 9 * 4, 24 * 3  # multiply-accumulates, padding too
    snn = MAC * once + AC * (rate["1"] * second + rate["4"] * third)
    assert result.energy.bntt_formula_ratio == pytest.approx(MAC * (once + second + third) / snn)
    assert [row.spike_rate for row in result.operations] == pytest.approx(
        [None, rate["1"], rate["4"]]
    )
    both = (rate["1"] * 4 * 64 + rate["4"] * 24) / (4 * 64 + 24)  # DIET-SNN: one rate for all
    first = once / (once + second + third)
    share = first + (1 - first) * both * AC / MAC
    assert result.energy.formula_ratio == pytest.approx(1 / share)


def test_the_figures_of_diet_snns_own_sheet() -> None:
    """VGG16 on CIFAR-10 at T = 20: spikes per neuron by layer, and what its authors make of them.

    The sheet (neurips_2020_results.ods, in their repository until 2021-09-10) has 3.065 by one
    rate, 1.65, for the whole network. Layer by layer it has 1,556,655,308.8 pJ for the ANN and
    486,835,937.28 for the SNN, in which the first layer's are multiplied by 4.6 twice.
    """
    early = (3.35, 1.3, 1.85, 0.53, 0.93, 0.47, 0.23, 1.27)
    rates = (*early, 2.14, 1.55, 2.31, 1.81, 1.44, 1.01, 1.15)
    ann, twice, once = 1_556_655_308.8, 37_442_027.52, 8_139_571.2
    x = torch.zeros(1, 3, 32, 32)
    counter = OperationCounter(ls.spike(create_model("vgg16", 10), example_input=x, timesteps=1))
    neurons: dict[str, int] = {}
    for path, module in counter.snn.neurons():
        module.register_forward_hook(
            lambda _m, _x, y, path=path: neurons.update({path: y[0, 0].numel()})
        )
    counter.begin_batch(1)
    counter.snn.eval().run(x, observer=counter)
    rows = counter.rows(Prices(), dict(zip(neurons, rates, strict=True)))
    assert bntt_ratio(rows, 20, MAC, AC) == pytest.approx(ann / (486_835_937.28 - twice + once))
    mean = sum(n * rate for n, rate in zip(neurons.values(), rates, strict=True))
    mean /= sum(neurons.values())
    assert mean == pytest.approx(1.65, abs=0.005)
    assert diet_snn_ratio(rows, 1.65, MAC, AC) == pytest.approx(3.065, abs=0.005)


def test_poisson_spikes_of_the_input_cost_accumulates_by_their_own_rate() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 20)
    ann = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3))
    result, rate = measured(ann, x, timesteps=4, encode="poisson")
    spikes, _ = ls.temporal.Poisson().sequence(x, timesteps=4, training=False)
    entering = float((spikes != 0).sum()) / (6 * 20)
    snn = AC * (entering * 160 + rate["1"] * 24)
    assert entering > 0.5
    assert result.energy.bntt_formula_ratio == pytest.approx(MAC * 184 / snn)


def test_analog_frames_are_multiplied_at_each_step() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3))
    result, rate = measured(ann, torch.randn(4, 6, 20), timesteps=4, encode="frames")
    snn = MAC * 4 * 160 + AC * rate["1"] * 24
    assert result.energy.bntt_formula_ratio == pytest.approx(MAC * 184 / snn)


def test_in_a_residual_network_shortcuts_read_the_neurons_that_the_block_reads() -> None:
    torch.manual_seed(0)
    ann = create_model("resnet12", 10, width=0.125, image_size=16, dropout_conv=0.0)
    result, rate = measured(ann, torch.rand(3, 3, 16, 16), threshold=0.05)
    shapes: dict[str, tuple[int, ...]] = {}
    for path, module in ann.named_modules():
        module.register_forward_hook(lambda _m, _x, y, path=path: shapes.update({path: y.shape}))
    ann(torch.zeros(1, 3, 16, 16))
    reads = {"stem.conv2": "stem.relu1", "stem.conv3": "stem.relu2", "classifier": "layer4.0.relu2"}
    before = "stem.relu3"
    for stage in ("layer1.0", "layer2.0", "layer3.0", "layer4.0"):
        reads[f"{stage}.residual.conv1"] = reads[f"{stage}.shortcut.conv"] = before
        reads[f"{stage}.residual.conv2"] = f"{stage}.residual.relu1"
        before = f"{stage}.relu2"
    ann_pj = snn_pj = 0.0
    for path, module in ann.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            dense = module.weight.numel() * math.prod(shapes[path][2:])
            ann_pj += MAC * dense
            snn_pj += MAC * dense if path == "stem.conv1" else AC * dense * rate[reads[path]]
    assert result.energy.bntt_formula_ratio == pytest.approx(ann_pj / snn_pj)


class Joined(nn.Module):
    """Two layers of neurons, added and laid side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.relu_a, self.relu_b = nn.ReLU(), nn.ReLU()
        self.narrow, self.last = nn.Linear(8, 4), nn.Linear(12, 2)
        self.relu_c = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu_a(self.first(x))
        b = self.relu_b(self.second(a))
        c = self.relu_c(self.narrow(a + b))
        return self.last(torch.cat([a, c], 1))


def test_rates_of_sums_add_and_those_side_by_side_are_averaged() -> None:
    torch.manual_seed(0)
    result, rate = measured(Joined(), torch.rand(7, 6), threshold=0.05)
    found = {row.path: row.spike_rate for row in result.operations}
    assert found["narrow"] == pytest.approx(rate["relu_a"] + rate["relu_b"])
    assert found["last"] == pytest.approx((8 * rate["relu_a"] + 4 * rate["relu_c"]) / 12)
    assert len({round(value, 3) for value in rate.values()}) == 3


def test_a_silent_network_costs_neither_formula_anything() -> None:
    ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 2), encode="poisson", neuron=ls.LIF(1e6))
    energy = ls.evaluate(snn, [(torch.zeros(4, 2), torch.zeros(4).long())]).energy
    assert energy.formula_ratio == energy.bntt_formula_ratio == math.inf


def without_bntt(result: Result, model: str, path: Path) -> Path:
    """The result as it was written before BNTT's formula, of a model of that name."""
    record = json.loads(result.model_dump_json())
    del record["energy"]["bntt_formula_ratio"]
    for row in record["operations"]:
        del row["spike_rate"]
    record["provenance"]["recipe"] = {"model": {"name": model}}
    path.write_text(json.dumps(record))
    return path


SETTINGS = {"vgg": {"layers": [8, "A", 8]}, "mlp": {"hidden": [8, 8]}}


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        *((name, "direct") for name in sorted(CHAINS)),
        *((name, "poisson") for name in ("mlp", "mnist_net", "vgg6")),  # of the input alone
    ],
)
def test_older_records_of_chains_say_enough(name: str, encode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = 28 if name == "mnist_net" else 16
    channels = 1 if name == "mnist_net" else 3
    options = SETTINGS.get(name, {}) | ({} if name == "mlp" else {"width": 0.125})
    ann = create_model(name, 10, image_size=size, in_channels=channels, **options)
    snn = ls.spike(
        ann.eval(),
        example_input=torch.zeros(1, channels, size, size),
        encode=encode,
        neuron=ls.LIF(0.01),
    )
    batch = torch.rand(2, channels, size, size), torch.zeros(2).long()
    result = ls.evaluate(snn, [batch])
    assert result.energy.spikes_per_neuron > 0.1
    found = load_result(without_bntt(result, name, tmp_path / "result.json"))
    assert found.energy == result.energy
    assert found.operations == result.operations


def test_older_records_of_other_networks_say_not_enough(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result, _ = measured(Joined(), torch.rand(7, 6), threshold=0.05)
    damaged = result.model_copy(update={"neurons": result.neurons[1:]})
    for record, model in ((result, "resnet20"), (result, "torchvision/vgg11"), (damaged, "vgg9")):
        found = load_result(without_bntt(record, model, tmp_path / "result.json"))
        assert found.energy.bntt_formula_ratio is None
        assert found.summary["bntt_formula_energy_ratio"] is None
        assert found.energy.ratio == result.energy.ratio
    assert not CHAINS & {"resnet12", "resnet20", "resnet18", "wrn16_2", "pyramidnet18"}
    assert set(MODELS) > CHAINS
