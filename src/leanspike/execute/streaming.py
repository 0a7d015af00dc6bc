"""Single steps as code, made from the graph of one step. Static values are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, final

from torch import Tensor, fx, nn

from leanspike.graph.modules import as_module, is_static
from leanspike.graph.per_step import StepGraph
from leanspike.graph.plan import Plan
from leanspike.temporal import Affine, TemporalNorm

First = Callable[..., tuple[Any, tuple[Any, ...], tuple[Tensor, ...], tuple[Any, ...]]]
Later = Callable[..., tuple[Any, tuple[Any, ...]]]


@final
class Steps:
    """The first step of a plan and any later step, as functions of the network and the input.

    Attributes:
        first: the first step. It takes network, input, number of the step and the neurons' states
            (None). It returns the output, the next states, and the static values and constants.
        later: a later step. It takes network, input, number, states, static values and constants,
            and returns the output and the next states.
        neurons: the paths of the neurons.
        static, constants: the names of the values that later steps need.
        network: a fingerprint of graph and sizes.
        sources: the node in the whole sequence's graph of each name, unless it is a norm's table.
    """

    def __init__(self, plan: Plan) -> None:
        step = StepGraph(plan.module)
        returned = _nodes_in(step.output)
        kept = [node for node in step.graph.nodes if _is_kept(node, returned)]
        static = [node for node in kept if node.meta["signal"].kind not in (None, "constant")]
        constants = [node for node in kept if node not in static]
        self.neurons = step.neurons
        self.static = tuple(node.name for node in static)
        self.constants = tuple(node.name for node in constants)
        self._tables = {
            node.name: (step.tables[node.args[0]], node.args[1])
            for node in constants
            if node.args and node.args[0] in step.tables
        }
        # A node that only passes a value on became the same node as the one that computed it.
        computed = {found: node for node, found in reversed(step.found.items())}
        self.sources = {n.name: computed[n] for n in kept if n.name not in self._tables}
        self._norms = tuple(step.tables.values())
        made_for = [plan.module.get_submodule(path).timesteps for path in self._norms]
        self._timesteps = min(map(int, made_for), default=None)  # type: ignore[arg-type]
        self.network = _fingerprint(plan)
        step.finish(tuple(static), tuple(constants))
        self.first: First = _function(plan, step.graph)
        self.later: Later = _function(plan, _later(step.graph, [*static, *constants]))

    def check(self, network: nn.Module, step: int) -> None:
        """Raise LeanspikeError if a norm has no parameters for a step, counted from 0."""
        if self._timesteps is None or step < self._timesteps:
            return
        for path in self._norms:
            norm = network.get_submodule(path)
            assert isinstance(norm, TemporalNorm | Affine)
            norm.check_steps(step + 1)

    def values(
        self, network: nn.Module, found: Mapping[fx.Node, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the values for later steps, from those of a first step run node by node."""

        def value(name: str) -> Any:
            if name in self._tables:
                path, which = self._tables[name]
                norm = network.get_submodule(path)
                assert isinstance(norm, TemporalNorm | Affine)
                return norm.affine(norm.timesteps)[int(which)]
            return found[self.sources[name]]

        return {n: value(n) for n in self.static}, {n: value(n) for n in self.constants}


def _is_kept(node: fx.Node, returned: set[fx.Node]) -> bool:
    """Whether later steps read or return a value that only the first step computes."""
    once = is_static(node) and node.op != "get_attr"
    return once and (node in returned or any(not is_static(user) for user in node.users))


def _nodes_in(argument: Any) -> set[fx.Node]:
    found = set[fx.Node]()
    fx.node.map_arg(argument, found.add)
    return found


def _is_read(node: fx.Node) -> bool:
    """Whether a node reads a part of the network that later steps need."""
    return node.op == "get_attr" and any(not is_static(user) for user in node.users)


def _later(first: fx.Graph, kept: list[fx.Node]) -> fx.Graph:
    """Return the graph of any later step, with static values as inputs."""
    graph, found = fx.Graph(), dict[fx.Node, fx.Node]()
    inputs = [node for node in first.nodes if node.op == "placeholder"]
    for node in (*inputs, *kept):
        found[node] = graph.placeholder(node.name)
    for node in first.nodes:
        if node.op == "output":
            y_N, states, *_ = node.args[0]
            graph.output(fx.node.map_arg((y_N, states), found.__getitem__))
        elif node not in found and (not is_static(node) or _is_read(node)):
            found[node] = graph.node_copy(node, found.__getitem__)
    return graph


def _function(plan: Plan, graph: fx.Graph) -> Callable[..., Any]:
    """Return the code of a graph. Its first argument is the network."""
    function: Callable[..., Any] = type(as_module(plan.module, graph)).forward
    return function


def _fingerprint(plan: Plan) -> str:
    """Return a text that is the same for networks of the same graph and sizes."""
    sizes = [(name, tuple(p.shape)) for name, p in plan.module.state_dict(keep_vars=True).items()]
    return sha256(f"{plan.graph}{sizes}".encode()).hexdigest()[:16]
