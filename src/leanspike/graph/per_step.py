"""The network of one step, made from a plan's graph: a sequence of length 1 with explicit state.

The plan's graph unstacks a sequence for a neuron or a norm, and stacks it again. For one step these
calls are left out. Neurons take their states as inputs. Norms that depend on the step read the row
of that step.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from leanspike.graph.modules import as_module, neuron_nodes, submodule
from leanspike.graph.ops import Signal
from leanspike.graph.outputs import Container
from leanspike.neuron import Neuron
from leanspike.synapse import plain
from leanspike.temporal import (
    Affine,
    TemporalDropout,
    TemporalNorm,
    broadcast,
    repeat,
    stack,
    unstack,
)

PASSED_ON = (stack, unstack, broadcast, repeat)


@dataclass(frozen=True)
class StepPlan:
    """The graph of one step in eval mode, with its inputs and outputs.

    The graph takes the input ``x`` of the step, ``[N, ...]``, and the number of the ``step``,
    counted from 0. The state of each of the ``neurons`` follows, in their order. It is None at the
    first step. The graph returns the output ``[N, ...]`` and a tuple of the next states. Several
    outputs are in the network's own containers. The modules are PyTorch's, the user's, and neurons,
    whose ``step`` is called. `module` runs the graph. Nodes keep their declared facts in
    ``meta["signal"]``. Those that are not ``timed`` are the same at each step.

    >>> from torch import nn
    >>> from leanspike import LIF, spike
    >>> ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.ones_(ann[0].weight)
    >>> snn = spike(ann.eval(), example_input=torch.zeros(1, 1), neuron=LIF(threshold=0.75))
    >>> one = snn.plan.per_step()
    >>> states = [None] * len(one.neurons)
    >>> for step in range(3):  # u = 0.5 | 1 fires | 0.75
    ...     y_N, states = one.module(torch.tensor([[0.5]]), step, *states)
    ...     print(y_N.item(), [round(u.item(), 2) for u in states])
    0.0 [0.5]
    1.0 [0.25]
    0.0 [0.75]
    """

    module: fx.GraphModule
    neurons: tuple[str, ...]

    @property
    def graph(self) -> fx.Graph:
        """The graph of the step."""
        return self.module.graph


def step_plan(whole: fx.GraphModule) -> StepPlan:
    """Return the plan of one step of the network ``whole``, whose module tree it changes."""
    for node in whole.graph.nodes:
        module = submodule(whole, node)
        if module is not None:
            whole.set_submodule(str(node.target), plain(module))
    step = StepGraph(whole)
    step.freeze_tables()
    step.restore_container()
    step.finish()
    return StepPlan(as_module(whole, step.graph), step.neurons)


class StepGraph:
    """Builds the graph of a step from that of a sequence.

    Attributes:
        graph: the graph of the inputs x_N, step and a state for each neuron; it has no output
            until `finish`.
        found: the node of this graph for each node of the sequence's graph.
        tables: the nodes that hold scales and shifts of norms for all steps, with their paths.
        neurons: the paths of the neurons, in order.
    """

    def __init__(self, whole: fx.GraphModule) -> None:
        self.whole = whole
        self.graph = fx.Graph()
        self.found: dict[fx.Node, Any] = {}
        self.tables: dict[fx.Node, str] = {}
        self._next: list[fx.Node] = []
        image, timesteps, *rest = whole.graph.nodes
        called = neuron_nodes(whole.graph)
        self.neurons = tuple(str(node.target) for node in called)
        self.x_N, self.step = map(self.graph.placeholder, ("x", "step"))
        self._states = {
            node: self.graph.placeholder(f"state_{number}") for number, node in enumerate(called)
        }
        self.x_N.meta.update(image.meta)
        self.step.meta["signal"] = Signal(True, None)
        for node, state in self._states.items():
            state.meta.update(signal=Signal(True, "analog"), state_of=str(node.target))
        self.found |= {image: self.x_N, timesteps: 1}
        for node in rest:
            if node.op == "output":
                self.output = fx.node.map_arg(node.args[0], self.found.__getitem__)
                self.container: Container | None = node.meta["container"]
            else:
                self.found[node] = self._copy(node)

    def finish(self, *also: tuple[fx.Node, ...]) -> None:
        """End the graph: it returns the output, the next states, and what ``also`` names."""
        self.graph.output((self.output, tuple(self._next), *also))
        self.graph.lint()

    def restore_container(self) -> None:
        """Return the outputs in the network's own containers if a graph cannot hold those."""
        if self.container is not None and not self.container.plain:
            self.output = self.graph.call_function(self.container.restored, (self.output,))
            self.output.meta["signal"] = Signal(True, None)

    def freeze_tables(self) -> None:
        """Replace the norms by their present scales and shifts, as buffers."""
        for node, path in self.tables.items():
            norm = self.whole.get_submodule(path)
            assert isinstance(norm, TemporalNorm | Affine)
            values = norm.affine(norm.timesteps)
            for user in list(node.users):
                which = int(user.args[1])  # type: ignore[arg-type]
                name = f"{node.name}_{('scale', 'shift')[which]}"
                self.whole.register_buffer(name, values[which].detach().clone(), persistent=False)
                with self.graph.inserting_before(node):
                    frozen = self.graph.get_attr(name)
                frozen.meta.update(user.meta)
                user.replace_all_uses_with(frozen)
                self.graph.erase_node(user)
            (module,) = node.all_input_nodes
            self.graph.erase_node(node)
            self.graph.erase_node(module)

    def _copy(self, node: fx.Node) -> Any:
        module = submodule(self.whole, node)
        if node.target in PASSED_ON or isinstance(module, TemporalDropout):
            return self.found[node.all_input_nodes[0]]
        if isinstance(module, Neuron):
            return self._neuron(node)
        if isinstance(module, TemporalNorm | Affine):
            return self._norm(node)
        if node.meta.get("neuron"):
            return self._plain_module(node)
        return self.graph.node_copy(node, self.found.__getitem__)

    def _neuron(self, node: fx.Node) -> fx.Node:
        """Add ``o, state = neuron.step(x, state)``."""
        path, x_N = str(node.target), self.found[node.all_input_nodes[0]]
        neuron = self.graph.create_node("get_attr", path)
        both = self.graph.call_method("step", (neuron, x_N, self._states[node]))
        spikes = self.graph.call_function(operator.getitem, (both, 0))
        after = self.graph.call_function(operator.getitem, (both, 1))
        neuron.meta["signal"] = Signal(False, "constant")
        both.meta.update(signal=node.meta["signal"], neuron=True)
        spikes.meta.update(node.meta, neuron=False)
        after.meta["signal"] = Signal(True, "analog")
        self._next.append(after)
        return spikes

    def _plain_module(self, node: fx.Node) -> fx.Node:
        """Call a module without state in a neuron's place on ``[1, N, ...]``."""
        x_1N = self.graph.call_method("unsqueeze", (self.found[node.all_input_nodes[0]], 0))
        called = self.graph.node_copy(node, lambda _: x_1N)
        only = self.graph.call_function(operator.getitem, (called, 0))
        state = self._states[node]
        x_1N.meta["signal"] = only.meta["signal"] = node.meta["signal"]
        self._next.append(state)
        return only

    def _norm(self, node: fx.Node) -> fx.Node:
        """Add ``scale[step]·x + shift[step]``, with tables that are the same at each step."""
        path, x_N = str(node.target), self.found[node.all_input_nodes[0]]
        module = submodule(self.whole, node)
        assert isinstance(module, TemporalNorm | Affine)
        norm = self.graph.create_node("get_attr", path)
        tables = self.graph.call_method("affine", (norm, module.timesteps))
        norm.meta["signal"] = tables.meta["signal"] = Signal(False, "constant")
        self.tables[tables] = path
        (folded,) = node.users
        row = [self._row(tables, which, len(folded.meta["shape"])) for which in (0, 1)]
        y_N = self.graph.call_function(torch.addcmul, (row[1], x_N, row[0]))
        same_type = self.graph.call_method("type_as", (y_N, x_N))
        y_N.meta["signal"] = same_type.meta["signal"] = node.meta["signal"]
        return same_type

    def _row(self, tables: fx.Node, which: int, rank: int) -> fx.Node:
        table_TC = self.graph.call_function(operator.getitem, (tables, which))
        row_C = self.graph.call_function(operator.getitem, (table_TC, self.step))
        view = self.graph.call_method("view", (row_C, -1, *[1] * (rank - 2)))
        table_TC.meta["signal"] = Signal(False, "constant")
        row_C.meta["signal"] = view.meta["signal"] = Signal(True, "constant")
        return view
