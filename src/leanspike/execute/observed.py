"""Runs of a network's graph operation by operation, for observers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, fx, nn

from leanspike.execute.listening import Listening, name_in_plan
from leanspike.execute.state import State
from leanspike.execute.streaming import Steps
from leanspike.graph.modules import is_static
from leanspike.graph.plan import Plan
from leanspike.neuron import Neuron
from leanspike.synapse import Stream
from leanspike.temporal import Affine, TemporalNorm

Observer = Callable[[fx.Node, Mapping[fx.Node, Any], Any], None]
"""A function called after each operation with its node, the values so far, and its value."""


class Execution(fx.Interpreter):
    """One run of a network's graph, operation by operation, for those who look on or listen."""

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        observer: Observer | None = None,
        graph: fx.Graph | None = None,
        listeners: Collection[Listening] = (),
    ) -> None:
        super().__init__(network, graph=plan.graph if graph is None else graph)
        self.extra_traceback = False
        self.observer, self.listeners = observer, listeners

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation, call the observer, and tell the listeners."""
        value = self.computed(n)
        if self.observer is not None and n.op.startswith("call"):
            self.observer(n, self.env, value)
        for one in self.listeners:
            name = name_in_plan(n)
            if name in one.names:
                one.listener(name, *self.heard(value))
        return value

    def computed(self, n: fx.Node) -> Any:
        """Return the value of one operation."""
        return super().run_node(n)

    def heard(self, value: Any) -> tuple[Tensor, Tensor]:
        """Return a value as listeners hear it, and the tensor to which its gradient goes."""
        assert isinstance(value, Tensor)
        return value, value


class Streaming(Execution):
    """A run of a single step: neurons take their states, and static values are kept."""

    def __init__(
        self, network: nn.Module, plan: Plan, steps: Steps, state: State, observer: Observer
    ) -> None:
        super().__init__(network, plan, observer)
        self.network, self.steps, self.state = network, steps, state
        self.after: dict[str, Any] = {}
        kept = {**state.static, **state.constants}
        self.found = {node: kept.get(name) for name, node in steps.sources.items()}

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation, unless it is static and this is not the first step."""
        if not is_static(n):
            return super().run_node(n)
        if self.state.steps > 0 and n.op != "get_attr":
            return self.found.get(n)
        value = super().run_node(n)
        if n in self.found:
            self.found[n] = value
        return value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a neuron for one step from its state, and a temporal norm with the step's number."""
        module = self.fetch_attr(target)
        if isinstance(module, TemporalNorm | Affine):
            return module.step(args[0][0], self.state.steps).unsqueeze(0)
        if not isinstance(module, Neuron):
            return super().call_module(target, args, kwargs)
        o_N, self.after[target] = module.step(args[0][0], self.state.neurons.get(target))
        return o_N.unsqueeze(0)

    def next_state(self, samples: int, weights: Stream | None) -> State:
        """Return the state for the next step of ``samples`` samples."""
        neurons = {path: self.after.get(path) for path in self.steps.neurons}
        static, constants = self.state.static, self.state.constants
        if self.state.steps == 0:
            static, constants = self.steps.values(self.network, self.found)
        return State(
            *(self.state.steps + 1, neurons, static, constants),
            *(self.steps.network, samples, weights),
        )
