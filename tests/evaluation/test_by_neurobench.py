"""NeuroBench's figures: those of the same definitions are leanspike's, others have a reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import leanspike as ls
from leanspike import LeanspikeError, SpikingNetwork, neurobench, neurobench_model
from leanspike.evaluation.comparison import CHANGED, GRADED, MODULES, ZEROS, Comparison, Row

SAME = {
    "accuracy",
    "activation sparsity",
    "dense operations",
    "footprint, bytes",
    "connection sparsity",
}


def convolutional(pool: nn.Module, **neuron: object) -> SpikingNetwork:
    torch.manual_seed(0)
    ann = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, stride=2)),
        *(nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 3)),
    )
    settings = {"threshold": 0.2, "leak": 0.9, "height": "threshold", **neuron}
    lif = ls.LIF(**settings)  # type: ignore[arg-type]
    return ls.spike(ann.eval(), example_input=torch.zeros(1, 2, 8, 8), timesteps=3, neuron=lif)


def data() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(size, 2, 8, 8), torch.randint(3, (size,))) for size in (5, 3)]


def by_name(found: Comparison) -> dict[str, Row]:
    return {row.what: row for row in found.rows}


def test_every_figure_agrees_where_spikes_enter_layers_and_all_membranes_leak() -> None:
    snn = convolutional(nn.MaxPool2d(2))
    found = neurobench(snn, data())
    assert (found.samples, found.timesteps) == (8, 3)
    assert [row.what for row in found.rows if not row.agree] == []
    rows = by_name(found)
    assert rows["accumulates"].neurobench > 0
    assert 0 < rows["activation sparsity"].neurobench < 1
    assert rows["membrane updates"].neurobench == 3 * (4 * 64 + 4 * 16)
    assert not snn.training


def test_pooled_spikes_zeros_and_still_membranes_differ_and_have_their_reason() -> None:
    snn = convolutional(nn.AvgPool2d(2), leak=1.0)
    with torch.no_grad():
        snn.get_submodule("6").weight[:, :8] = 0  # type: ignore[index]
        snn.get_submodule("0").bias.zero_()  # type: ignore[union-attr, operator]
    pairs = [(torch.where(x.abs() < 2, 0.0, x), labels) for x, labels in data()]
    rows = by_name(neurobench(snn, pairs))
    assert {name for name, row in rows.items() if row.agree} == SAME
    assert rows["connection sparsity"].neurobench == pytest.approx(24 / (72 + 144 + 48), abs=1e-4)
    assert rows["membrane updates"].neurobench < rows["membrane updates"].leanspike
    assert rows["membrane updates"].reason == CHANGED
    assert rows["accumulates"].reason == f"{GRADED} {ZEROS}"
    assert rows["accumulates"].neurobench < rows["accumulates"].leanspike


def test_every_row_that_may_differ_has_a_reason_and_no_other() -> None:
    rows = by_name(neurobench(convolutional(nn.MaxPool2d(2)), data()))
    assert {name for name, row in rows.items() if not row.reason} == SAME


class Attended(nn.Module):
    """A product of two signals, which is no layer of NeuroBench's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last((x @ x.transpose(1, 2) @ x).mean(1))


def test_work_that_no_module_of_neurobench_does_has_its_reason() -> None:
    torch.manual_seed(0)
    lif = ls.LIF(0.2, 0.9)
    snn = ls.spike(Attended().eval(), example_input=torch.zeros(1, 4, 6), timesteps=2, neuron=lif)
    rows = by_name(neurobench(snn, (torch.randn(6, 4, 6), torch.randint(3, (6,)))))
    assert rows["dense operations"].reason == MODULES
    assert rows["dense operations"].neurobench < rows["dense operations"].leanspike


def test_frames_are_given_to_neurobench_samples_first() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(4, 5, 6)
    snn = ls.spike(ann, example_input=x[:, :1], encode="frames", neuron=ls.LIF(0.2, 0.9))
    found = neurobench(snn, (x, torch.randint(3, (5,))))
    assert (found.samples, found.timesteps) == (5, 4)
    assert all(row.agree for row in found.rows)


def test_the_model_serves_a_benchmark_of_the_users_own() -> None:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import ActivationSparsityByLayer, MembraneUpdates
    from torch.utils.data import DataLoader, TensorDataset

    snn = convolutional(nn.MaxPool2d(2))
    (x, labels), _ = data()
    loader = DataLoader(TensorDataset(x, labels), batch_size=2)
    metrics = [[], [MembraneUpdates, ActivationSparsityByLayer]]
    found = Benchmark(neurobench_model(snn), loader, [], [], metrics).run(quiet=True)
    assert found["MembraneUpdates"] == 3 * (4 * 64 + 4 * 16)
    assert set(found["ActivationSparsityByLayer"]) == {"1", "3"}
    assert not any(module._forward_pre_hooks for module in snn.modules())


class Nameless(ls.Neuron):
    """A neuron of a user's own, which does not say what its state is."""

    def initial(self, x_N: Tensor) -> Tensor:
        return torch.zeros_like(x_N)

    def step(self, x_N: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        u_N = x_N + (self.initial(x_N) if state is None else state)
        return (u_N > 1).to(x_N.dtype), u_N

    def spike_height(self) -> Tensor:
        return torch.tensor(1.0)

    def update_cost(self) -> ls.neuron.Cost:
        return ls.neuron.Cost(acs=1)


def small(neuron: ls.Neuron) -> SpikingNetwork:
    ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3))
    return ls.spike(ann.eval(), example_input=torch.zeros(1, 2), timesteps=2, neuron=neuron)


def test_a_membrane_without_a_name_is_refused_until_the_class_names_it() -> None:
    pair = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    with pytest.raises(LeanspikeError, match=r'1: Nameless .* remembers = \("membrane",\)'):
        neurobench(small(Nameless()), pair)

    class Named(Nameless):
        remembers = ("membrane",)

    assert by_name(neurobench(small(Named()), pair))["accuracy"].agree


def test_data_that_is_gone_after_one_pass_is_refused() -> None:
    def once() -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(1, 2), torch.tensor([0])

    with pytest.raises(LeanspikeError, match=r"give list\(batches\)"):
        neurobench(small(ls.LIF()), once())
    assert neurobench(small(ls.LIF(leak=0.9)), list(once())).samples == 1


def test_a_metric_that_fails_is_told_and_never_a_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> float:
        raise ValueError("no")

    monkeypatch.setattr(
        "neurobench.metrics.workload.membrane_updates.MembraneUpdates.__call__", fails
    )
    with pytest.raises(LeanspikeError, match=r"NeuroBench failed \(Error .* 'MembraneUpdates': no"):
        neurobench(small(ls.LIF()), (torch.zeros(1, 2), torch.tensor([0])))
