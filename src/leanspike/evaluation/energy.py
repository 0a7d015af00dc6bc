"""Operations, counted on the edge that enters each layer with weights.

Counts (multiply-accumulates, accumulates) are made here; prices are in
:mod:`leanspike.evaluation.prices`.

- An edge that does not depend on time is computed once: its layer's MACs count once.
- A timed ``analog`` edge costs its MACs at each step.
- A ``spike`` edge costs one accumulate per spike and weight that the spike meets.
- A ``graded`` edge is an average pool or a sum of spikes. Its factors go into the next weights, so
  it costs one accumulate per spike underneath and weight that this spike meets.
- A norm that is the same at each step and follows a layer of its own folds into that layer's
  weights and costs nothing.
- Any other norm costs a multiply-accumulate per current, for its scale and shift. Such norms are
  BNTT, TEBN, and norms in front of a layer, as in pre-activation networks. The ANN also pays where
  it must.

Multiplications with zero padding are never computed and are counted on neither side. The textbook
number that includes them is kept as ``dense_macs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, final

from torch import Tensor, fx

from leanspike.distributed import Group
from leanspike.evaluation.fan_out import fan_out, fan_out_of_call, not_padding, weighted, widest
from leanspike.evaluation.formulas import entering_rates
from leanspike.evaluation.inside import Inside, look_at, weights_of
from leanspike.evaluation.layers import LayerOperations, Uncounted
from leanspike.evaluation.prices import Prices
from leanspike.evaluation.spikes_under import followed, is_kind, of_spikes, spikes_of
from leanspike.execute import SpikingNetwork
from leanspike.graph.costs import Work, scale_and_shift, signal_nodes
from leanspike.graph.modules import called, submodule
from leanspike.graph.ops import Signal, knows, row_of
from leanspike.graph.samples import pieces
from leanspike.lower import remaining_norms
from leanspike.neuron import Cost

Counted = Literal["weights", "product", "inside"]
Value = TypeVar("Value")


@final
class OperationCounter:
    """Counts a network's operations while it runs: pass it as the observer of ``snn.run``.

    >>> import torch
    >>> from torch import nn
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
        self.norms = remaining_norms(snn.plan)
        nodes = [node for node in snn.plan.graph.nodes if node.op.startswith("call")]
        self.found = {node: kind for node in nodes if (kind := self._kind(node))}
        self.samples = 0
        self.fan_out: dict[fx.Node, Tensor] = {}
        self.not_padding: dict[fx.Node, Tensor] = {}
        self.dense_macs: dict[fx.Node, float] = {}
        self.inside: dict[fx.Node, Inside] = {}
        self.ann: dict[fx.Node, Cost] = {}
        self.macs = dict.fromkeys((*self.found, *self.norms), 0.0)
        self.acs = dict.fromkeys((*self.found, *self.norms), 0.0)
        self._counts: dict[fx.Node, Tensor] = {}

    def _kind(self, node: fx.Node) -> Counted | None:
        """Return how the work at a node is counted: by its weights, as a product, or inside."""
        row, signals = row_of(node, self.snn), signal_nodes(node)
        if not signals or node.meta.get("neuron") or row.sequence or node in self.norms:
            return None
        if row.synapses is not None and len(signals) == 1:
            return "weights"
        if row.cost is not None and row.norm is None:
            return "product"
        return "inside" if (row.inside or not knows(row)) else None

    def __call__(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        """Count an operation if it has weights, and follow the spikes if it is graded."""
        for source in node.all_input_nodes:
            if source.op == "placeholder" and of_spikes(source):
                self._counts[source] = spikes_of(values[source], source.meta["signal"].kind)
        self.learn(node, values, value)
        if self.found.get(node) == "weights":
            self._count(node, values)
        read = any(is_kind(user, "graded") for user in node.users)
        if is_kind(node, "graded") or (is_kind(node, "spike") and read):
            self._follow(node, values)
        if is_kind(node, "spike") and read and node not in self._counts:
            self._counts[node] = spikes_of(value, "spike")

    def learn(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        """Count an operation in which no spikes count, or learn which weights its inputs meet."""
        if node not in self.not_padding and row_of(node, self.snn).pads:
            self.not_padding[node] = not_padding(node, self.snn, values, self.not_padding)
        kind = self.found.get(node)
        if kind == "weights" and node not in self.fan_out:
            self._prepare(node, values, value)
        elif kind == "inside":
            self._count_inside(node, values)
        elif kind == "product" or node in self.norms:
            self._count_cost(node, values, value)

    def spikes_under(self, node: fx.Node) -> Tensor | None:
        """Return how many spikes lie under each entry of a graded signal of this batch.

        It is None where that is not known.
        """
        return self._counts.get(node)

    def begin_batch(self, samples: int) -> None:
        """Begin a batch: the next run is over that number of samples."""
        self.samples += samples
        self._counts.clear()

    def add_others(self, group: Group) -> None:
        """Count what all processes have seen, in each of them."""
        if group.size == 1:
            return
        nodes = {node.name: node for node in (*self.found, *self.norms)}
        facts: tuple[dict[fx.Node, Any], ...] = (self.ann, self.dense_macs, self.inside)
        own = [by_name(known) for known in (self.macs, self.acs, *facts)]
        each = group.gathered((self.samples, own))
        self.samples = 0
        for total in (self.macs, self.acs):
            total.update(dict.fromkeys(total, 0.0))
        for samples, (macs, acs, *others) in each:
            self.samples += samples
            for name, node in nodes.items():
                self.macs[node] += macs[name]
                self.acs[node] += acs[name]
            for known, theirs in zip(facts, others, strict=True):
                known |= {nodes[name]: fact for name, fact in theirs.items()}

    def norm_pj(self, prices: Prices) -> tuple[float, float]:
        """Return what the norms that remain cost the ANN and the SNN, per sample."""
        ann = [prices.of(self.ann[node]) for node, in_ann in self.norms.items() if in_ann]
        snn = [prices.of(Cost(self.macs[node], self.acs[node])) for node in self.norms]
        return sum(ann), sum(snn) / max(1, self.samples)

    def uncounted(self) -> tuple[Uncounted, ...]:
        """Return modules whose work is in no number, and their share of the network's weights."""
        neurons = {id(p) for _, module in self.snn.neurons() for p in module.parameters()}
        total = sum(
            p.numel() for p in self.snn.parameters() if p.dim() > 1 and id(p) not in neurons
        )
        found = []
        for node, inside in self.inside.items():
            weights = weights_of(node, self.snn)
            missing = sum(weights[name].numel() for name in inside.left_out)
            if missing or inside.unseen:
                kind = type(submodule(self.snn, node) or called(node, self.snn)).__name__
                found.append(Uncounted(path=place_of(node), kind=kind, share=missing / total))
        return tuple(found)

    def rows(
        self, prices: Prices, fired: Mapping[str, float] | None = None
    ) -> tuple[LayerOperations, ...]:
        """Return the operations per layer and sample, averaged over all samples counted.

        ``fired`` holds the spikes per neuron of each layer of neurons by path, for the papers'
        formulas. Spikes may come from the input, or their number may be missing in ``fired``. Their
        rate is then the number of accumulates in the place of one multiply-accumulate.
        """
        rates = entering_rates(self.snn, fired or {})
        return tuple(
            self._row(node, prices, rates)
            for node, kind in self.found.items()
            if kind == "weights" or self.ann.get(node, Cost()) != Cost()
        )

    def _row(
        self, node: fx.Node, prices: Prices, rates: Mapping[fx.Node, float]
    ) -> LayerOperations:
        source, kind = signal_nodes(node)[0], self.found[node]
        signal: Signal = (source if kind == "weights" else node).meta["signal"]
        ann, samples = self.ann[node], max(1, self.samples)
        macs, acs = self.macs[node] / samples, self.acs[node] / samples
        spikes = kind == "weights" and not macs
        multiplied = kind == "weights" and macs and signal.kind != "analog"
        edge = f"{signal.kind}, multiplied" if multiplied else str(signal.kind)
        return LayerOperations(
            path=place_of(node),
            edge=edge if kind == "weights" else kind,
            static=not signal.timed,
            dense_macs=self.dense_macs[node],
            ann_macs=ann.macs,
            snn_macs=macs,
            snn_acs=acs,
            ann_pj=prices.of(ann),
            snn_pj=prices.of(Cost(macs, acs)),
            spike_rate=rates.get(source, acs / ann.macs) if spikes else None,
        )

    def _count_cost(self, node: fx.Node, values: Mapping[fx.Node, Any], y: Any) -> None:
        """Count a norm, or a product of signals, by what its row says of the call as it ran."""
        row, module = row_of(node, self.snn), submodule(self.snn, node)
        cost = (row.cost or scale_and_shift)(Work(node, module, values, y))
        runs = (y.shape[:2].numel() if row.sequence else len(y)) / pieces(node)
        self._add(node, cost, Cost(cost.macs / runs, cost.acs / runs))

    def _count_inside(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        """Count what a run inside costs for a sample or a piece of one, as often as it ran."""
        if node not in self.inside:
            self.inside[node] = look_at(node, self.snn, values)
        cost, source = self.inside[node].cost, signal_nodes(node)[0]
        rows, each = len(values[source]), pieces(source)
        whole = Cost(cost.macs * rows, cost.acs * rows)
        self._add(node, whole, Cost(cost.macs * each, cost.acs * each))

    def _add(self, node: fx.Node, cost: Cost, of_sample: Cost) -> None:
        self.macs[node] += cost.macs
        self.acs[node] += cost.acs
        self.ann[node] = of_sample
        self.dense_macs[node] = of_sample.macs

    def _count(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        source = signal_nodes(node)[0]
        x = values[source]
        if source in self._counts:
            self.acs[node] += weighted(self._counts[source], self.fan_out[node])
        elif is_kind(source, "spike"):
            self.acs[node] += weighted(x != 0, self.fan_out[node])
        else:
            self.macs[node] += self.ann[node].macs * len(x) / pieces(source)

    def _prepare(self, node: fx.Node, values: Mapping[fx.Node, Any], y: Tensor) -> None:
        """Find how many weights an entry meets, and how many products there are."""
        x: Tensor = values[signal_nodes(node)[0]]
        layer, synapses = submodule(self.snn, node), row_of(node, self.snn).synapses
        assert synapses is not None  # the node is one with weights
        shapes = x.shape[1:], y.shape[1:]
        if layer is not None:
            met = fan_out(layer, shapes[0])
            dense: float | None = synapses.dense_macs(layer, *shapes)
        else:
            met = fan_out_of_call(node, self.snn, values)
            weight = Work(node, None, values, y).argument(1, "weight")
            dense = synapses.macs_of(weight, *shapes) if synapses.positions else None
        met = met * self.not_padding.get(signal_nodes(node)[0], 1)
        self.fan_out[node] = met.to(x.device, widest(x.device))
        macs, each = float(met.sum()), pieces(signal_nodes(node)[0])
        self.ann[node] = Cost(macs * each)
        self.dense_macs[node] = (macs if dense is None else dense) * each

    def _follow(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
        """Note the number of spikes under each entry of a graded signal.

        Where a source is no sum of spikes that was followed, the readers pay for MACs.
        """
        counts = followed(node, self.snn, self._counts, values)
        if counts is not None:
            self._counts[node] = counts


def by_name(facts: Mapping[fx.Node, Value]) -> dict[str, Value]:
    """Return facts by the names of the nodes, which are the same in all processes.

    >>> by_name({fx.Graph().placeholder("x"): 1})
    {'x': 1}
    """
    return {node.name: fact for node, fact in facts.items()}


def place_of(node: fx.Node) -> str:
    """Return the name of a call in tables: the path of its module, or where its function stands."""
    return str(node.target if node.op == "call_module" else node.meta.get("place", node.name))
