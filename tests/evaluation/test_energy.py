"""Operations counted on real networks against independent loops, and their prices."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import leanspike as ls
from leanspike.evaluation.energy import OperationCounter
from leanspike.evaluation.fan_out import fan_out, weighted
from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.prices import Prices, price
from leanspike.evaluation.result_file import load_result
from leanspike.graph.ops import OPERATIONS
from leanspike.neuron.kernels import Reset
from leanspike.temporal import Frames


def count(ann: nn.Module, x: Tensor, timesteps: int = 3, **neuron: Any) -> dict[str, Any]:
    """The rows of a network made to spike, by path, and the layers' inputs as they ran."""
    snn = ls.spike(
        ann.eval(), example_input=x[:1], timesteps=timesteps, neuron=ls.LIF(0.4, **neuron)
    )
    counter = OperationCounter(snn)
    counter.begin_batch(len(x))
    snn.run(x, observer=counter)
    return {row.path: row for row in counter.rows(Prices())}


def loop_over_convolution(x: np.ndarray, layer: nn.Conv2d) -> float:
    """Additions of a convolution, one by one: each non-zero input meets each weight over it."""
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    n, channels, height, width = x.shape
    group = layer.in_channels // layer.groups
    total = 0.0
    for row in range(0, height + 2 * ph - kh + 1, sh):
        for column in range(0, width + 2 * pw - kw + 1, sw):
            for i in range(kh):
                for j in range(kw):
                    r, c = row + i - ph, column + j - pw
                    if 0 <= r < height and 0 <= c < width:
                        total += x[:, :, r, c].sum() * layer.out_channels / layer.groups
    assert channels == group * layer.groups
    return total / n


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Conv2d(2, 4, 1),
        nn.Conv2d(4, 4, 3, groups=2),
    ],
    ids=str,
)
def test_spikes_cost_one_accumulate_for_each_weight_they_meet(layer: nn.Conv2d) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 7, 6)
    ann = nn.Sequential(nn.Conv2d(1, layer.in_channels, 1), nn.ReLU(), layer)
    nn.init.uniform_(ann[0].weight, 0.1, 1.0)
    snn = ls.spike(ann.eval(), example_input=x[:1], timesteps=3, neuron=ls.LIF(0.2))
    entered: list[Tensor] = []
    snn.get_submodule("2").register_forward_hook(lambda _m, inputs, _y: entered.append(inputs[0]))
    counter = OperationCounter(snn)
    counter.begin_batch(2)
    snn.run(x, observer=counter)
    row = counter.rows(Prices())[1]
    spikes = entered[0].detach().numpy().reshape(3, 2, *entered[0].shape[1:]).sum(0)
    assert spikes.sum() > 10
    assert row.snn_acs == pytest.approx(loop_over_convolution(spikes, layer))
    assert row.ann_macs == pytest.approx(loop_over_convolution(np.ones_like(spikes), layer))
    assert row.snn_macs == 0
    assert row.snn_pj == pytest.approx(0.9 * row.snn_acs)
    assert row.ann_pj == pytest.approx(4.6 * row.ann_macs)


def test_the_static_layer_counts_once_whatever_the_timesteps() -> None:
    ann = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3))
    x = torch.rand(2, 3, 6, 6)
    for timesteps in (1, 4):
        row = count(ann, x, timesteps)["0"]
        assert row.static
        assert row.snn_macs == row.ann_macs
        assert row.snn_acs == 0


def test_analog_edges_cost_macs_at_each_step() -> None:
    """A norm between the neuron and the next layer makes the edge analog."""
    ann = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    row = count(ann, torch.rand(2, 3, 5, 5), timesteps=3)["3"]
    assert (row.edge, row.snn_acs) == ("analog", 0)
    assert row.snn_macs == 3 * row.ann_macs


class Pooled(nn.Module):
    """A neuron, an average of some form, and a layer that reads it."""

    def __init__(self, pool: nn.Module, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU()
        self.pool = pool
        self.last = nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.relu(self.first(x))).flatten(1))


def windows(x: np.ndarray, kind: str) -> np.ndarray:
    """The number of spikes in each window, by slicing."""
    if kind == "mean":
        return x.sum((-2, -1))
    if kind == "adaptive":  # 6x5 to 4x2: rows 0-1 1-2 3-4 4-5, columns 0-2 2-4
        rows, columns = [(0, 2), (1, 3), (3, 5), (4, 6)], [(0, 3), (2, 5)]
    elif kind == "overlapping":  # 3x3 windows at stride 2, padding 1
        x = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
        rows, columns = [(0, 3), (2, 5), (4, 7)], [(0, 3), (2, 5), (4, 7)]
    else:
        rows, columns = [(0, 2), (2, 4), (4, 6)], [(0, 2), (2, 4)]
    return np.stack(
        [np.stack([x[..., a:b, c:d].sum((-2, -1)) for c, d in columns], -1) for a, b in rows], -2
    )


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


@pytest.mark.parametrize(
    ("kind", "pool", "features"),
    [
        ("plain", nn.AvgPool2d(2), 12),
        ("plain", Functional(), 12),
        ("overlapping", nn.AvgPool2d(3, stride=2, padding=1), 18),
        ("adaptive", nn.AdaptiveAvgPool2d((4, 2)), 16),
        ("mean", Mean(), 2),
    ],
)
def test_averaged_spikes_cost_one_accumulate_per_spike_underneath(
    kind: str, pool: nn.Module, features: int
) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 6, 5)
    snn = ls.spike(
        Pooled(pool, features).eval(), example_input=x[:1], timesteps=3, neuron=ls.LIF(0.1)
    )
    fired: list[Tensor] = []
    snn.get_submodule("relu").register_forward_hook(lambda _m, _x, y: fired.append(y))
    counter = OperationCounter(snn)
    counter.begin_batch(2)
    snn.run(x, observer=counter)
    row = counter.rows(Prices())[1]
    assert row.edge == "graded"
    spikes = windows(fired[0].detach().numpy(), kind).sum()
    assert spikes > 10
    assert row.snn_acs == pytest.approx(3 * spikes / 2)
    assert row.snn_macs == 0


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 5)
        self.relu_a, self.relu_b = nn.ReLU(), nn.ReLU()
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu_a(self.a(x))
        return self.last(h + self.relu_b(self.b(h)))


def test_spikes_of_two_branches_are_both_charged() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 4)
    snn = ls.spike(Branches().eval(), example_input=x[:1], timesteps=4, neuron=ls.LIF(0.05))
    fired: list[Tensor] = []
    for path in ("relu_a", "relu_b"):
        snn.get_submodule(path).register_forward_hook(lambda _m, _x, y: fired.append(y))
    counter = OperationCounter(snn)
    counter.begin_batch(3)
    snn.run(x, observer=counter)
    row = {r.path: r for r in counter.rows(Prices())}["last"]
    both = sum(float(y.detach().sum()) for y in fired)
    assert row.edge == "graded"
    assert row.snn_acs == pytest.approx(2 * both / 3)


class Beside(nn.Module):
    """Spikes beside sums of spikes, which are given by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        return self.last(torch.cat(tensors=[h, torch.add(input=h, other=h[:, :])], dim=1))


def test_spikes_under_tensors_that_are_given_by_keyword_are_counted() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 4)
    snn = ls.spike(Beside().eval(), example_input=x[:1], timesteps=4, neuron=ls.LIF(0.05))
    fired: list[Tensor] = []
    snn.get_submodule("neuron_0").register_forward_hook(lambda _m, _x, y: fired.append(y))
    counter = OperationCounter(snn)
    counter.begin_batch(3)
    snn.run(x, observer=counter)
    row = {r.path: r for r in counter.rows(Prices())}["last"]
    assert row.edge == "graded"
    assert row.snn_acs == pytest.approx(3 * 2 * float(fired[0].detach().sum()) / 3)
    assert row.snn_acs > 0


def test_spikes_of_threshold_height_cost_what_unit_spikes_cost() -> None:
    """The height folds into the weights: same spikes, same accumulates."""
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.rand(5, 4)
    unit = count(ann, x, height="unit")["2"]
    high = count(ann, x, height="threshold")["2"]
    assert unit.snn_acs == high.snn_acs > 0


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(6, 3), (6,)),
        (nn.Conv1d(2, 3, 3, padding=1), (2, 8)),
        (nn.Conv2d(2, 4, (3, 1), stride=2, groups=2), (2, 9, 8)),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4)),
    ],
    ids=str,
)
def test_without_padding_the_textbook_count_and_ours_agree(
    layer: nn.Module, inputs: tuple[int, ...]
) -> None:
    outputs = layer(torch.zeros(1, *inputs)).shape[1:]
    dense_macs = OPERATIONS.row(type(layer)).synapses.dense_macs(layer, inputs, outputs)
    padded = isinstance(layer, nn.Conv1d)
    ours = float(fan_out(layer, inputs).sum())
    assert (ours < dense_macs) if padded else True
    if not padded:
        assert ours == dense_macs


def test_the_papers_formulas_and_the_counted_energy_by_hand() -> None:
    def row(
        path: str, static: bool, macs: float, acs: float, rate: float | None = None
    ) -> LayerOperations:
        return LayerOperations(
            path=path,
            edge="analog" if static else "spike",
            static=static,
            dense_macs=macs,
            ann_macs=macs,
            snn_macs=macs if static else 0,
            snn_acs=acs,
            ann_pj=4.6 * macs,
            snn_pj=4.6 * macs if static else 0.9 * acs,
            spike_rate=rate,
        )

    def layer(leak: float) -> NeuronActivity:
        return NeuronActivity(
            path="n", neurons=10, spikes_per_step=(0.1, 0.3), threshold=1, leak=leak
        )

    rows = [row("a", True, 100, 0), row("b", False, 600, 250, 0.5), row("c", False, 300, 50, 0.2)]
    energy = price(rows, [layer(1), layer(0.9)], 2, Prices())
    # f1 = 0.1, R = 0.4: 0.1 + 0.9 * 0.4 * 0.9 / 4.6
    assert 1 / energy.formula_ratio == pytest.approx(0.1 + 0.9 * 0.4 * 0.9 / 4.6)
    # each layer with its own rate: 4.6 * 100 + 0.9 * (600 * 0.5 + 300 * 0.2)
    assert energy.bntt_formula_ratio == pytest.approx(4600 / (460 + 324))
    membrane = 2 * 10 * 0.9 + 2 * 10 * 4.6  # a leak of 1 only adds
    assert energy.membrane_pj == pytest.approx(membrane)
    assert energy.ratio == pytest.approx(4600 / (460 + 270 + membrane))
    assert energy.membrane_updates == 40


@pytest.mark.parametrize("reset", get_args(Reset))
@pytest.mark.parametrize(("leak", "price_pj"), [(1.0, 0.9), (0.5, 4.6)])
def test_a_membrane_update_costs_the_same_whatever_the_reset(reset, leak, price_pj):
    """λ·u + x at each step; the threshold that leaves after a spike is priced for none of them."""
    ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    neuron = ls.LIF(0.5, leak, reset=reset)
    snn = ls.spike(ann, example_input=torch.zeros(1, 2), timesteps=5, neuron=neuron)
    energy = ls.evaluate(snn, [(torch.randn(16, 2), torch.zeros(16).long())]).energy
    assert energy.membrane_updates == 5 * 4
    assert energy.membrane_pj == pytest.approx(5 * 4 * price_pj)


@pytest.mark.parametrize(("norm", "entries"), [("keep", 0), ("tdbn", 0), ("bntt", 8), ("tebn", 8)])
def test_a_norm_that_differs_from_step_to_step_costs_a_mac_per_neuron(norm, entries):
    hidden = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()
    ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), *hidden, nn.Linear(8, 3))
    snn = ls.spike(ann, example_input=torch.zeros(1, 2), timesteps=5, norm=norm)
    batches = [(torch.randn(16, 2), torch.zeros(16).long())]
    result = ls.evaluate(snn, batches)
    energy = result.energy
    assert energy.norm_pj == pytest.approx(5 * entries * 4.6)
    layers = sum(row.snn_pj for row in result.operations)
    assert energy.snn_pj == pytest.approx(layers + energy.membrane_pj + energy.norm_pj)


def test_a_ratio_that_is_infinite_is_written_and_read(tmp_path):
    ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    neuron = ls.LIF(threshold=1e6)
    snn = ls.spike(ann, example_input=torch.zeros(1, 2), encode="poisson", neuron=neuron)
    result = ls.evaluate(snn, [(torch.randn(4, 2), torch.zeros(4).long())])
    assert result.energy.bntt_formula_ratio < math.inf  # the input's spikes
    assert result.energy.formula_ratio == math.inf
    (tmp_path / "result.json").write_text(result.model_dump_json())
    assert load_result(tmp_path / "result.json") == result


def test_events_cost_an_accumulate_for_each_weight_that_they_meet():
    ann = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    x = torch.randint(3, (5, 6, 2, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.zeros(6).long()
    encoder = Frames(counts=True)
    snn = ls.spike(ann, example_input=x[:, :1], encode=encoder, timesteps=5)
    row = ls.evaluate(snn, [(x, labels)]).operations[0]
    meets = fan_out(nn.Conv2d(2, 3, 3, padding=1), (2, 4, 4)).float()
    assert (row.edge, row.snn_macs) == ("graded", 0)
    assert row.snn_acs == pytest.approx((x * meets).sum().item() / 6)
    analog = ls.spike(ann, example_input=x[:, :1], encode="frames", timesteps=5)
    row = ls.evaluate(analog, [(x, labels)]).operations[0]
    assert (row.edge, row.snn_acs) == ("analog", 0)
    assert row.snn_macs == 5 * row.ann_macs


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batch", [1, 3, 4097])
def test_weighted_counts_are_exact_in_any_layout(layout: torch.memory_format, batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    counts = torch.randint(0, 4097, (batch, 3, 4, 5), generator=generator)
    weights = torch.randint(1, 1000, (3, 4, 5), generator=generator).double()
    expected = int((counts * weights.long()).sum())
    assert weighted(counts.float().to(memory_format=layout), weights) == expected
    assert weighted((counts > 2000).to(memory_format=layout), weights) == int(
        ((counts > 2000) * weights.long()).sum()
    )
