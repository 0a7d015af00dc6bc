"""The plan of a spiking network: its graph, the modules that it calls, and its encoder.

Passes turn a plan into another (`leanspike.lower`), and `leanspike.execute` runs it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import fx, nn

from leanspike.graph.modules import as_module, copied_tree, neuron_nodes, submodule
from leanspike.graph.named import Declared
from leanspike.graph.outputs import Container
from leanspike.graph.per_step import StepPlan, step_plan
from leanspike.temporal import Encoder

KEPT_FACTS = ("signal", "shape", "neuron", "row", "place", "container")
"""The entries of a node's ``meta`` that remain after the surgery."""


@dataclass(frozen=True)
class Plan:
    """The result of the surgery: a graph with its modules, and all that is needed to run it.

    Attributes:
        module: the graph of the whole sequence as a module, which takes the encoded input and T.
            It holds the network's own modules, at their paths.
        encoder: the encoder of the input.
        norm: whether batch norms were kept or folded before the surgery.
        sample_shape: the shape of one input sample at one step.
        passes: the names of the passes that were applied.
        sample_dtype: the type of the example input.
        declared: the operations that were declared to ``spike``.
        replaced: the names in the ANN's ``state_dict`` of the parameters of activations that are
            neurons now.
        fixed_shape: whether the shape of a sample decided a branch or a loop of the network.
        held: the paths of the modules that the network's own ``train()`` leaves in eval mode.

    Each node's ``meta["signal"]`` holds the declared facts of the edge it emits.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    >>> plan = spike(ann, example_input=torch.zeros(1, 2)).plan
    >>> [node.target for node in plan.neuron_nodes()], plan.sample_shape
    (['1'], (2,))
    """

    module: fx.GraphModule
    encoder: Encoder
    norm: Literal["keep", "fold"]
    sample_shape: tuple[int, ...]
    passes: tuple[str, ...] = ()
    sample_dtype: torch.dtype = torch.float32
    declared: Declared = field(default_factory=Declared)
    replaced: tuple[str, ...] = ()
    fixed_shape: bool = False
    held: tuple[str, ...] = ()

    @property
    def graph(self) -> fx.Graph:
        """The graph of the whole sequence, time stacked into the batch."""
        return self.module.graph

    @property
    def output(self) -> fx.Node:
        """The output node, which reads ``[T, N, ...]`` for each tensor that the network returns."""
        return self.graph.output_node()

    @property
    def container(self) -> Container | None:
        """The container in which the network returns its tensors; None for a single tensor."""
        container: Container | None = self.output.meta["container"]
        return container

    def submodule(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, or None if it calls none."""
        return submodule(self.module, node)

    def neuron_nodes(self) -> list[fx.Node]:
        """Return the nodes that call neurons or what else replaces an activation, in order."""
        return neuron_nodes(self.graph)

    def per_step(self) -> StepPlan:
        """Return the network of one step as a plain graph with explicit state.

        The result has the plan's modules as they are now, and the present scales and shifts of
        norms. Stand-ins are PyTorch's layers again. Dropout is left out.
        """
        return step_plan(self.copied().module)

    def copied(self) -> Plan:
        """Return another plan of the same layers, whose graph and module tree may be changed.

        Both plans share the modules that the graph calls, and all parameters. The modules that
        hold other modules are copied.
        """
        called = {id(self.submodule(node)) for node in self.graph.nodes}
        root, graph = copied_tree(self.module, called, {}), copy.deepcopy(self.graph)
        return replace(self, module=as_module(root, graph))

    def with_layers(self, layers: Mapping[str, nn.Module], name: str) -> Plan:
        """Return a plan with these layers at their paths, put in by the pass of that name."""
        other = self.copied() if layers else self
        for path, layer in layers.items():
            other.module.set_submodule(path, layer)
        return replace(other, passes=(*self.passes, name))

    def after(self, name: str) -> Plan:
        """Return the plan after the pass of that name changed its graph in place."""
        self.graph.lint()
        self.module.recompile()
        return replace(self, passes=(*self.passes, name))


@dataclass(frozen=True)
class PlanRecord:
    """A plan without its modules, for copies and for pickle: its nodes as rows without links.

    A graph links each node to the next. Pickle would follow the links recursively, and reach the
    recursion limit.
    """

    rows: tuple[tuple[Any, ...], ...]
    rest: dict[str, Any]

    @staticmethod
    def of(plan: Plan) -> PlanRecord:
        """Return the record of a plan."""
        rows = tuple(
            (
                *(node.op, node.name, node.target),
                *(fx.node.map_arg(part, _Reference.of) for part in (node.args, node.kwargs)),
                {fact: node.meta[fact] for fact in KEPT_FACTS if fact in node.meta},
            )
            for node in plan.graph.nodes
        )
        rest = {part.name: getattr(plan, part.name) for part in fields(plan)}
        del rest["module"]
        return PlanRecord(rows, rest)

    def plan(self, root: nn.Module) -> Plan:
        """Return the plan of this record, with the modules of ``root``."""
        graph, found = fx.Graph(), dict[str, fx.Node]()
        for op, name, target, args, kwargs, facts in self.rows:
            args, kwargs = (_resolve(part, found) for part in (args, kwargs))
            found[name] = graph.create_node(op, target, args, kwargs, name)
            found[name].meta.update(facts)
        return Plan(as_module(root, graph), **self.rest)


@dataclass(frozen=True)
class _Reference:
    """The name of a node that is an argument of another."""

    name: str

    @staticmethod
    def of(node: fx.Node) -> Any:
        return _Reference(node.name)


def _resolve(part: Any, found: dict[str, fx.Node]) -> Any:
    return fx.node.map_aggregate(
        part, lambda leaf: found[leaf.name] if isinstance(leaf, _Reference) else leaf
    )
