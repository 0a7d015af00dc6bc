"""What is read and written: the facts of each layer that the memory traffic follows from.

The counts are those of Lemaire and others, An Analytical Estimation of Spiking Neural Networks
Energy Efficiency, 2022 (https://arxiv.org/abs/2210.13107). They follow its authors' own code
(https://github.com/LEAT-EDGE/qualia-plugin-snn, EnergyEstimationMetric). Nothing is reused from one
use to the next. :mod:`leanspike.evaluation.rivals` puts the counts together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from leanspike.distributed import Group
from leanspike.evaluation.energy import OperationCounter, by_name, place_of
from leanspike.execute import SpikingNetwork
from leanspike.graph.modules import submodule
from leanspike.graph.operation import at_rows
from leanspike.graph.ops import row_of
from leanspike.graph.samples import pieces
from leanspike.graph.signal import argument


@dataclass(frozen=True)
class Memory:
    """The energy of reading or writing, in pJ: a word of 64 bits in 8 kB of SRAM, at 45 nm.

    Source: Horowitz, ISSCC 2014. Memories are banks of that size. The values that fit into a word
    share it, as in the newer price of the authors' code.

    >>> Memory().of(32), Memory().of(8)
    (5.0, 1.25)
    """

    word_pj: float = 10.0
    word_bits: int = 64

    def of(self, bits: int) -> float:
        """Return the energy of one value of ``bits`` bits."""
        return self.word_pj * bits / self.word_bits


class LayerTraffic(NamedTuple):
    """What one layer with weights reads and writes for one sample.

    ``inputs`` and ``outputs`` are the numbers of entries at one step. ``biases`` is the number of
    additions of a bias. ``once`` says that an input is read once (a linear layer), not for each
    weight that it meets. ``events`` are the spikes that enter the layer, over all steps. ``fired``
    says that neurons fired them, and that they are not the input's.
    """

    path: str
    inputs: float
    outputs: float
    biases: float
    once: bool
    events: float
    fired: bool


@final
class TrafficCounter:
    """Sees a network run, after its ``operations`` have: an observer of ``snn.run``.

    >>> from leanspike import spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 4))
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), timesteps=5)
    >>> operations = OperationCounter(snn)
    >>> traffic = TrafficCounter(snn, operations)
    >>> operations.begin_batch(1)
    >>> _ = snn.run(torch.zeros(1, 2), observer=lambda *seen: (operations(*seen), traffic(*seen)))
    >>> [(layer.path, layer.inputs, layer.outputs) for layer in traffic.layers()]
    [('0', 2.0, 3.0), ('2', 3.0, 4.0)]
    """

    def __init__(self, snn: SpikingNetwork, operations: OperationCounter) -> None:
        self.snn = snn
        self.operations = operations
        self.state_values: dict[str, float] = {}
        self._layers: dict[fx.Node, LayerTraffic] = {}
        self._sources = _with_weights(snn)
        self._events = dict.fromkeys(self._sources, 0.0)
        self._fired = _behind_neurons(snn)

    def __call__(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        """Note what an operation reads and writes, after ``operations`` has counted it."""
        if node.meta.get("neuron"):
            if str(node.target) not in self.state_values:
                self.state_values[str(node.target)] = self._state(node, value)
        elif node in self._events:
            source = self._sources[node]
            x = values[source]
            if node not in self._layers:
                self._layers[node] = self._layer(node, x, value)
            self._events[node] += self._entering(source, x)

    def add_others(self, group: Group) -> None:
        """Count what all processes have seen, in each of them."""
        if group.size == 1:
            return
        nodes = {node.name: node for node in self._events}
        own = self.state_values, by_name(self._layers), by_name(self._events)
        self._events = dict.fromkeys(self._events, 0.0)
        for state_values, layers, events in group.gathered(own):
            self.state_values |= state_values
            self._layers |= {nodes[name]: layer for name, layer in layers.items()}
            for name, count in events.items():
                self._events[nodes[name]] += count

    def layers(self) -> tuple[LayerTraffic, ...]:
        """Return the layers with weights, in the order of ``operations.rows``.

        Their events are means over samples.
        """
        samples = max(1, self.operations.samples)
        return tuple(
            layer._replace(events=self._events[node] / samples)
            for node, layer in self._layers.items()
        )

    def _layer(self, node: fx.Node, x: Tensor, y: Tensor) -> LayerTraffic:
        synapses = row_of(node, self.snn).synapses
        assert synapses is not None  # the node is one with weights
        placed = synapses.positions is not None  # a matrix product adds no bias
        bias = argument(node, submodule(self.snn, node), 2, "bias") if placed else None
        outputs = float(y[0].numel() * pieces(node))
        return LayerTraffic(
            path=place_of(node),
            inputs=float(x[0].numel() * pieces(self._sources[node])),
            outputs=outputs,
            biases=0.0 if bias is None else outputs,
            once=synapses.positions is at_rows or not placed,
            events=0.0,
            fired=self._sources[node] in self._fired,
        )

    def _entering(self, source: fx.Node, x: Tensor) -> float:
        """Count the spikes in a batch of that signal; 0 where it is no signal of spikes."""
        under = self.operations.spikes_under(source)
        if under is not None:
            return float(under.sum())
        return float((x != 0).sum()) if source.meta["signal"].kind == "spike" else 0.0

    def _state(self, node: fx.Node, y_TN: Tensor) -> float:
        """Return how many numbers a neuron of that layer remembers."""
        neuron: Any = self.snn.get_submodule(str(node.target))
        like = torch.zeros_like(y_TN[0, :1])
        state = [leaf for leaf in tree_leaves(neuron.initial(like)) if isinstance(leaf, Tensor)]
        return sum(float(leaf.numel()) for leaf in state) / like.numel()


def _with_weights(snn: SpikingNetwork) -> dict[fx.Node, fx.Node]:
    """Return the nodes of layers with weights, each with the one signal that enters it."""
    found = {}
    for node in snn.plan.graph.nodes:
        if node.op.startswith("call") and row_of(node, snn).synapses is not None:
            signals = [source for source in node.all_input_nodes if _is_signal(source)]
            if len(signals) == 1:
                found[node] = signals[0]
    return found


def _is_signal(node: fx.Node) -> bool:
    signal = node.meta.get("signal")
    return signal is not None and signal.kind in ("spike", "graded", "analog")


def _behind_neurons(snn: SpikingNetwork) -> set[fx.Node]:
    """Return the nodes that neurons, or what depends on them, lead to."""
    found: set[fx.Node] = set()
    for node in snn.plan.graph.nodes:
        if node.meta.get("neuron") or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found
