"""The plan of a spiking network: its graph, the modules that it calls, how input enters.

A plan is what passes work on (`leanspike.lower`) and what runs (`leanspike.execute`).
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
"""What a node's ``meta`` says once the surgery is done."""


@dataclass(frozen=True)
class Plan:
    """What the surgery made: a graph with its modules, and what else must be known to run it.

    Attributes:
        module: the graph of the whole sequence as a module, which takes the encoded input and T.
            It holds the network's own modules, at their paths.
        encoder: how a sample enters.
        norm: what became of batch norms before the surgery.
        sample_shape: that of one input sample at one step.
        passes: the names of the passes that it went through.
        sample_dtype: the type of the input that it was made with.
        declared: what ``spike`` was told of operations.
        replaced: what the ANN's ``state_dict`` calls the parameters of activations that are
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
        """The node that returns: it reads ``[T, N, ...]`` of each tensor of the network's."""
        return self.graph.output_node()

    @property
    def container(self) -> Container | None:
        """The containers in which the network returns its tensors; None of a single tensor."""
        container: Container | None = self.output.meta["container"]
        return container

    def submodule(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls; None if it calls none."""
        return submodule(self.module, node)

    def neuron_nodes(self) -> list[fx.Node]:
        """Return the calls of what stands for activations, in order."""
        return neuron_nodes(self.graph)

    def per_step(self) -> StepPlan:
        """Return the network of one step as a plain graph with explicit state.

        The plan's modules are taken as they are now. Scales and shifts of norms are those of this
        moment. Layers that stand in for PyTorch's are PyTorch's again. Dropout is gone.
        """
        return step_plan(self.copied().module)

    def copied(self) -> Plan:
        """Another plan of the same layers, whose graph and tree of modules may be changed.

        Both plans share the modules that the graph calls, and all parameters. The modules that
        hold other modules are copied.
        """
        called = {id(self.submodule(node)) for node in self.graph.nodes}
        root, graph = copied_tree(self.module, called, {}), copy.deepcopy(self.graph)
        return replace(self, module=as_module(root, graph))

    def with_layers(self, layers: Mapping[str, nn.Module], name: str) -> Plan:
        """Another plan with these layers at their paths, put in by the pass of that name."""
        other = self.copied() if layers else self
        for path, layer in layers.items():
            other.module.set_submodule(path, layer)
        return replace(other, passes=(*self.passes, name))

    def after(self, name: str) -> Plan:
        """The plan, whose graph the pass of that name has changed; the graph as it is now."""
        self.graph.lint()
        self.module.recompile()
        return replace(self, passes=(*self.passes, name))


@dataclass(frozen=True)
class PlanRecord:
    """A plan without its modules, for copies and for pickle: the nodes in a row, no links.

    (A graph links each node to the next. Pickle would follow them one inside another, and end at
    a recursion limit.)
    """

    rows: tuple[tuple[Any, ...], ...]
    rest: dict[str, Any]

    @staticmethod
    def of(plan: Plan) -> PlanRecord:
        """Write a plan down."""
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
        """Return the plan again, on the modules of ``root``."""
        graph, found = fx.Graph(), dict[str, fx.Node]()
        for op, name, target, args, kwargs, facts in self.rows:
            args, kwargs = (_resolve(part, found) for part in (args, kwargs))
            found[name] = graph.create_node(op, target, args, kwargs, name)
            found[name].meta.update(facts)
        return Plan(as_module(root, graph), **self.rest)


@dataclass(frozen=True)
class _Reference:
    """A node in the arguments of another, by its name."""

    name: str

    @staticmethod
    def of(node: fx.Node) -> Any:
        return _Reference(node.name)


def _resolve(part: Any, found: dict[str, fx.Node]) -> Any:
    return fx.node.map_aggregate(
        part, lambda leaf: found[leaf.name] if isinstance(leaf, _Reference) else leaf
    )
