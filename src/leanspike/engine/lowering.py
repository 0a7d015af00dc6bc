"""Lowering the network of one step to a program: all that is linear goes into weights.

The graph of a step is run with values (:mod:`leanspike.engine.values`) in place of tensors. The
rows of the op table tell which layers have weights. Trial runs tell what other operations do
(:mod:`leanspike.engine.probes`), so no list of operations is kept here.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import fx

from leanspike.engine.calls import Called, Same
from leanspike.engine.moves import Scattered
from leanspike.engine.neurons import check_neurons, neuron_layer
from leanspike.engine.operations import operated
from leanspike.engine.values import Builder, Value
from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork
from leanspike.graph.ops import row_of
from leanspike.graph.per_step import StepPlan
from leanspike.graph.plan import Plan
from leanspike.modes import eval_mode
from leanspike_runtime.program import Input, Program


def lowered(
    snn: SpikingNetwork, timesteps: int, readout: Literal["sum", "mean"], made_by: str
) -> Program:
    """Return the program of a network for at most ``timesteps`` steps, with float32 weights.

    Raises:
        LeanspikeError: for what cannot be compiled, by its path, with a way out.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    >>> program = lowered(spike(ann.eval(), example_input=torch.zeros(1, 2)), 5, "sum", "me")
    >>> [(node.path, node.form) for node in program.nodes]
    [('2', 'spikes'), ('3', 'analog')]
    """
    lowering = Lowering.of(snn, timesteps)
    given = Input(lowering.builder.shapes[0], not snn.plan.encoder.timed)
    nodes = tuple(lowering.builder.nodes)
    return Program(made_by, timesteps, readout, given, nodes, lowering.output)


def _check_samples(plan: Plan) -> None:
    """Raise LeanspikeError for a network of several outputs, or of samples with more axes."""
    if plan.container is not None:
        raise LeanspikeError(
            "the network returns several tensors, but the engine returns one; make the spiking "
            "network from a module that returns the logits alone"
        )
    if len(plan.sample_shape) > 3:
        raise LeanspikeError(
            f"samples of shape {plan.sample_shape} have more axes than channels, rows and "
            "columns, which the engine does not support; run the network as it is"
        )


class Lowering:
    """Runs the graph of a step with values in place of tensors.

    Attributes:
        output: the number of the output's edge.
    """

    def __init__(self, one: StepPlan, timesteps: int, sample_shape: tuple[int, ...]) -> None:
        self.root, self.graph, self.timesteps = one.module, one.graph, timesteps
        check_neurons(self.root, one.neurons)
        x, step, *states = (node for node in self.graph.nodes if node.op == "placeholder")
        entering = Value.of(0, sample_shape)
        self.builder = Builder(entering.image)
        self.found: dict[fx.Node, Any] = {x: entering, step: Same(tuple(range(timesteps)))}
        self.found |= {state: Same((None,)) for state in states}
        self.output = self._run()

    @classmethod
    @torch.no_grad()
    def of(cls, snn: SpikingNetwork, timesteps: int) -> Lowering:
        """Lower a network for at most ``timesteps`` steps; errors are those of `lowered`."""
        _check_samples(snn.plan)
        with eval_mode(snn):
            return cls(snn.plan.per_step(), timesteps, snn.plan.sample_shape)

    def _run(self) -> int:
        *nodes, output = self.graph.nodes
        for node in nodes:
            if node not in self.found:
                self.found[node] = self._lower(node)
        answer, _ = output.args[0]
        return self._answer(Called(answer, self.root, self.found, self.timesteps))

    def _answer(self, call: Called) -> int:
        value = self.found[call.node]
        if not isinstance(value, Value) or len(value.shape) != 1:
            shape = value.shape if isinstance(value, Value | Scattered) else None
            raise LeanspikeError(
                f"the network returns a sample of shape {shape}, but the engine returns a vector "
                "of logits; end the network with .mean((2, 3)) or .flatten(1)"
            )
        if not self.builder.is_sum(value):
            value = self.builder.layer(call.path, value, in_order=True)
        return value.terms[0].edge

    def _lower(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return Same((_attribute(self.root, str(node.target)),))
        call = Called(node, self.root, self.found, self.timesteps)
        if not call.signals or node.meta["signal"].kind is None:
            return call.constant()
        first = self.found[node.all_input_nodes[0]]
        if node.target == "step" and isinstance(first, Same):
            return self._neuron(node, first.at(0), call)
        if isinstance(first, tuple) and len(node.all_input_nodes) == 1 and len(node.args) == 2:
            return first[node.args[1]]  # type: ignore[index]  # of a neuron, or of a split input
        return operated(self.builder, call, row_of(node, self.root))

    def _neuron(self, node: fx.Node, neuron: Any, call: Called) -> tuple[Value, Same]:
        path, (value, *_) = str(node.args[0].target), call.signals  # type: ignore[union-attr]
        if not isinstance(value, Value):
            value.refuse()
        return neuron_layer(self.builder, path, neuron.record(), value), Same((None,))


def _attribute(root: Any, target: str) -> Any:
    for part in target.split("."):
        root = getattr(root, part)
    return root
