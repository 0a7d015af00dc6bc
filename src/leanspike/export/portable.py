"""Splitting a spiking network into parts. Norms are folded, other operations refused by path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork
from leanspike.export.parts import Portable, Shape
from leanspike.export.rules import rule_of
from leanspike.export.walk import Walk
from leanspike.graph.per_step import StepPlan
from leanspike.graph.plan import Plan
from leanspike.lower import fold_norms
from leanspike.modes import eval_mode
from leanspike.neuron import Recorded
from leanspike.temporal import Affine


def portable(network: SpikingNetwork) -> Portable:
    """Return the network's parts, in eval mode, with its weights as they are now.

    Raises:
        LeanspikeError: for an operation that parts cannot hold, by its path, with a way out.

    >>> from torch import nn
    >>> from leanspike import LIF, spike
    >>> ann = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
    >>> snn = spike(ann.eval(), example_input=torch.zeros(1, 2, 2), neuron=LIF())
    >>> {name: type(part.operation).__name__ for name, part in portable(snn).parts.items()}
    {'0': 'Flatten', '1': 'Dense', '3': 'Spiking'}
    """
    with eval_mode(network), torch.no_grad():
        plan = fold_norms(network.plan)
        _check(plan)
        step = plan.per_step()
        walk = Walk(step, _Shapes(step, plan.sample_shape).found, network.timesteps)
        image, *rest, output = step.graph.nodes
        walk.begin(image)
        for node in rest:
            walk.values[node] = rule_of(node, walk)(node, walk)
        return walk.end(image, output)


def _check(plan: Plan) -> None:
    """Refuse neurons of other kinds, and norms that depend on the step."""
    for node in plan.neuron_nodes():
        neuron = plan.submodule(node)
        if not isinstance(neuron, Recorded):
            raise LeanspikeError(
                f"module {node.target}: other libraries have no {type(neuron).__name__}; train "
                "with neuron=LIF() (spike.neuron.name=lif)"
            )
    for path, module in plan.module.named_modules():
        if isinstance(module, Affine):
            raise LeanspikeError(
                f"module {path}: this norm differs from step to step, but an exported layer is "
                'the same at each; train with norm="tdbn" or norm="keep" (spike.norm=tdbn)'
            )


class _Shapes(fx.Interpreter):
    """Notes the shape of each node's output, for a sample of zeros."""

    def __init__(self, step: StepPlan, sample: Shape) -> None:
        super().__init__(step.module)
        self.found: dict[fx.Node, Shape] = {}
        like = next(step.module.parameters(), torch.zeros(()))
        x_N = torch.zeros(1, *sample, dtype=like.dtype, device=like.device)
        self.run(x_N, 0, *[None] * len(step.neurons))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n] = tuple(value.shape[1:])
        return value
