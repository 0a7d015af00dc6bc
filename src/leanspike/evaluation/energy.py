"""Operations, counted on the edge that enters each layer with weights, and what they cost.

Facts first (multiply-accumulates, accumulates, membrane updates), prices after, from one table.

- An edge that does not depend on time is computed once: its layer's MACs count once.
- A timed ``analog`` edge costs its MACs at each step.
- A ``spike`` edge costs one accumulate per spike and weight that the spike meets.
- A ``graded`` edge (average pools, sums of spikes) folds into the next weights: one accumulate
  per spike underneath and weight that it meets.
- A norm that is the same at each step and follows a layer of its own folds into its weights and
  costs nothing. Any other (BNTT, TEBN; a norm in front of a layer, as in pre-activation networks)
  costs a multiply-accumulate per current, its scale and shift; the ANN pays too where it must.

Multiplications with zero padding are nobody's work and counted on neither side; the textbook
number that includes them is kept beside it as ``dense_macs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.evaluation.formulas import bntt_ratio, diet_snn_ratio, entering_rates
from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.result import Energy
from leanspike.execute import SpikingNetwork
from leanspike.graph.ops import Signal, row_of
from leanspike.lower import remaining_norms


@dataclass(frozen=True)
class Prices:
    """Energy per operation in pJ: 32-bit floating point at 45 nm (Horowitz, ISSCC 2014).

    A MAC is a multiplication (3.7) and an addition (0.9). What a membrane update takes of both is
    the neuron's to say: LIF's is a MAC where the leak multiplies, an addition where it is 1.

    >>> round(Prices().mac_pj / Prices().ac_pj, 1)  # so much cheaper is a spike than a product
    5.1
    """

    mac_pj: float = 4.6
    ac_pj: float = 0.9


@final
class OperationCounter:
    """Counts a network's operations while it runs: pass it as the observer of ``snn.run``.

    >>> from leanspike import LIF, spike
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), timesteps=5, neuron=LIF(threshold=1e-3))
    >>> _ = torch.nn.init.constant_(snn.get_submodule("0").weight, 1.0)
    >>> counter = OperationCounter(snn)
    >>> counter.begin_batch(1)
    >>> _ = snn.run(torch.ones(1, 2), observer=counter)  # every neuron fires at every step
    >>> [(row.path, row.snn_macs, row.snn_acs) for row in counter.rows(Prices())]
    [('0', 6.0, 0.0), ('2', 0.0, 60.0)]
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        self.snn = snn
        self.layers = snn.synaptic_nodes()
        self.samples = 0
        self.fan_out: dict[fx.Node, Tensor] = {}
        self.dense_macs: dict[fx.Node, float] = {}
        self.macs = dict.fromkeys(self.layers, 0.0)
        self.acs = dict.fromkeys(self.layers, 0.0)
        self.norms = remaining_norms(snn.plan)
        self.norm_macs = 0.0
        self.ann_norm_macs: dict[fx.Node, float] = {}
        self._counts: dict[fx.Node, Tensor] = {}

    def __call__(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        """After an operation: count it if it has weights, follow the spikes if it is graded."""
        for source in node.all_input_nodes:
            if source.op == "placeholder" and _is(source, "graded"):  # counts of events
                self._counts[source] = values[source].abs()
        if node in self.macs:
            self._count(node, values[node.all_input_nodes[0]], value)
        elif node in self.norms:
            self._count_norm(node, value)
        elif _is(node, "graded"):
            self._follow(node, values)
        elif _is(node, "spike") and any(_is(user, "graded") for user in node.users):
            self._counts[node] = (value != 0).float()

    def begin_batch(self, samples: int) -> None:
        """The next run is over that many samples."""
        self.samples += samples
        self._counts.clear()

    def norm_pj(self, prices: Prices) -> tuple[float, float]:
        """What the norms that remain cost the ANN and the SNN, per sample."""
        ann_macs = sum(self.ann_norm_macs.values())
        return ann_macs * prices.mac_pj, self.norm_macs / max(1, self.samples) * prices.mac_pj

    def rows(
        self, prices: Prices, fired: Mapping[str, float] | None = None
    ) -> tuple[LayerOperations, ...]:
        """Per layer and sample, averaged over all samples counted.

        ``fired`` holds the spikes per neuron of each layer of neurons by path, for the papers'
        formulas. Where spikes are the input's, or nobody says how many there were, their rate is
        the number of accumulates in the place of one multiply-accumulate.
        """
        rates = entering_rates(self.snn, fired or {})
        return tuple(self._row(node, prices, rates) for node in self.layers)

    def _row(
        self, node: fx.Node, prices: Prices, rates: Mapping[fx.Node, float]
    ) -> LayerOperations:
        source = node.all_input_nodes[0]
        signal: Signal = source.meta["signal"]
        ann_macs, samples = float(self.fan_out[node].sum()), max(1, self.samples)
        macs, acs = self.macs[node] / samples, self.acs[node] / samples
        return LayerOperations(
            path=str(node.target),
            edge=str(signal.kind),
            static=not signal.timed,
            dense_macs=self.dense_macs[node],
            ann_macs=ann_macs,
            snn_macs=macs,
            snn_acs=acs,
            ann_pj=ann_macs * prices.mac_pj,
            snn_pj=macs * prices.mac_pj + acs * prices.ac_pj,
            spike_rate=None if macs else rates.get(source, acs / ann_macs),
        )

    def _count_norm(self, node: fx.Node, y: Tensor) -> None:
        self.norm_macs += y.numel()
        sample = y[0, 0] if row_of(node, self.snn).sequence else y[0]
        self.ann_norm_macs[node] = sample.numel() if self.norms[node] else 0.0

    def _count(self, node: fx.Node, x: Tensor, y: Tensor) -> None:
        if node not in self.fan_out:
            layer = self.snn.get_submodule(str(node.target))
            self.fan_out[node] = fan_out(layer, x.shape[1:]).to(x.device)
            synapses = row_of(node, self.snn).synapses
            assert synapses is not None  # as it is one of `layers`
            self.dense_macs[node] = synapses.dense_macs(layer, x.shape[1:], y.shape[1:])
        source = node.all_input_nodes[0]
        if _is(source, "spike"):
            self.acs[node] += _weighted(x != 0, self.fan_out[node])
        elif source in self._counts:
            self.acs[node] += _weighted(self._counts[source], self.fan_out[node])
        else:
            self.macs[node] += float(self.fan_out[node].sum()) * len(x)

    def _follow(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        """The number of spikes under each entry of a graded signal.

        Where a source is no sum of spikes that we followed, the readers pay for MACs.
        """
        sources = [s for s in node.all_input_nodes if _is(s, "spike") or _is(s, "graded")]
        if not all(source in self._counts for source in sources):
            return
        args, named = fx.node.map_arg(
            (node.args, node.kwargs), lambda n: self._counts.get(n, values.get(n))
        )
        follow = row_of(node, self.snn).follow
        if follow is not None:
            self._counts[node] = follow(_called(node, self.snn), args, named)


def fan_out(layer: nn.Module, shape: Sequence[int]) -> Tensor:
    """How many weights each entry of an input of ``shape`` (one sample) meets, float64.

    It is the gradient of the sum of the layer's outputs when every weight is 1.

    >>> fan_out(nn.Conv2d(1, 2, 3, padding=1), (1, 3, 3))[0].tolist()
    [[8.0, 12.0, 8.0], [12.0, 18.0, 12.0], [8.0, 12.0, 8.0]]
    """
    ones = deepcopy(layer).cpu().double()
    for parameter in ones.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, *shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        ones(x).sum().backward()
    assert x.grad is not None
    return x.grad[0]


def price(
    operations: Sequence[LayerOperations],
    neurons: Sequence[NeuronActivity],
    timesteps: int,
    prices: Prices,
    norm_pj: tuple[float, float] = (0.0, 0.0),
) -> Energy:
    """The energy of everything counted, and both papers' formulas beside it.

    ``norm_pj`` is that of the norms, of the ANN and of the SNN.
    """
    updates = float(sum(layer.neurons for layer in neurons) * timesteps)
    membranes = timesteps * sum(
        layer.neurons * (layer.update_macs * prices.mac_pj + layer.update_acs * prices.ac_pj)
        for layer in neurons
    )
    ann_norm_pj, snn_norm_pj = norm_pj
    ann_pj = sum(row.ann_pj for row in operations) + ann_norm_pj
    snn_pj = sum(row.snn_pj for row in operations) + membranes + snn_norm_pj
    total = sum(layer.neurons for layer in neurons)
    rate = sum(layer.spikes_per_neuron * layer.neurons for layer in neurons) / total
    return Energy(
        mac_pj=prices.mac_pj,
        ac_pj=prices.ac_pj,
        ann_pj=ann_pj,
        snn_pj=snn_pj,
        membrane_updates=updates,
        membrane_pj=membranes,
        norm_pj=snn_norm_pj,
        ann_norm_pj=ann_norm_pj,
        ratio=ann_pj / snn_pj,
        formula_ratio=diet_snn_ratio(operations, rate, prices.mac_pj, prices.ac_pj),
        bntt_formula_ratio=bntt_ratio(operations, timesteps, prices.mac_pj, prices.ac_pj),
        spikes_per_neuron=rate,
    )


def _called(node: fx.Node, snn: SpikingNetwork) -> Any:
    """What a node calls, as a function of its arguments."""
    if node.op == "call_module":
        return snn.get_submodule(str(node.target))
    if node.op == "call_method":
        name = str(node.target)
        return lambda x, *rest, **named: getattr(x, name)(*rest, **named)
    return node.target


def _weighted(counts_B: Tensor, weights: Tensor) -> float:
    """Σ over the batch of Σ counts · weights: exact while no entry counts more than 4096.

    A product with ones takes a tenth of the time of ``counts_B.sum(0, dtype=torch.float64)``. Its
    float32 is exact up to 2²⁴, hence 4096 rows at a time; what follows is float64. The entries of
    a sample are taken in the order in which they lie in memory, so that nothing is copied.
    """
    order = sorted(range(1, counts_B.dim()), key=counts_B.stride, reverse=True)
    rows_BM = counts_B.permute(0, *order).reshape(len(counts_B), -1)
    total_M = torch.zeros(rows_BM.shape[1], dtype=torch.float64, device=rows_BM.device)
    for begin in range(0, len(rows_BM), 4096):
        part_BM = rows_BM[begin : begin + 4096].float()
        total_M += part_BM.T @ part_BM.new_ones(len(part_BM))
    return float((total_M * weights.permute(*(axis - 1 for axis in order)).reshape(-1)).sum())


def _is(node: fx.Node, kind: str) -> bool:
    signal: Signal | None = node.meta.get("signal")
    return signal is not None and signal.kind == kind
