"""One step of a spiking network as Python code: what its graph comes to for a sequence of one.

Where a sequence is unfolded for a neuron or a norm, and folded again, a step has nothing to do: it
hands ``[N, ...]`` on. What does not depend on time is computed at the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from leanspike.graph.ops import Signal
from leanspike.neuron import Neuron
from leanspike.temporal import Affine, TemporalNorm, broadcast, fold, unfold

Step = Callable[
    [nn.Module, Tensor, int, Mapping[str, Tensor], dict[str, Tensor], tuple[Any, ...]],
    tuple[Tensor, tuple[Any, ...]],
]
"""Of network, input, number of the step, membranes before and (filled in) after it, and the values
of `static_nodes`, which the first step does not look at; to the output and these values."""


def static_nodes(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """What does not depend on time and is read by what does: later steps need it kept."""
    return tuple(
        node
        for node in graph.nodes
        if _is_static(node) and any(user.meta["signal"].timed for user in node.users)
    )


def compile_step(graph: fx.Graph, first: bool) -> Step:
    """The first step, or any later one, as a function."""
    code = _StepGraph(graph, first).graph.python_code("self")
    names = dict(code.globals)
    exec(code.src, names)
    step: Step = names["forward"]
    return step


def advance(
    module: nn.Module,
    path: str,
    x_N: Tensor,
    step: int,
    before: Mapping[str, Tensor],
    after: dict[str, Tensor],
) -> Tensor:
    """A module that takes ``[T, N, ...]``, for one step: a neuron from its membrane.

    >>> import torch
    >>> from leanspike.neuron import LIF
    >>> after = {}
    >>> advance(LIF(), "relu", torch.tensor([0.75]), 1, {"relu": torch.tensor([0.5])}, after)
    tensor([1.])
    >>> after
    {'relu': tensor([0.2500])}
    """
    if isinstance(module, Neuron):
        o_N, after[path] = module.step(x_N, before.get(path))
        return o_N
    if isinstance(module, TemporalNorm | Affine):
        return module.step(x_N, step)
    o_1N: Tensor = module(x_N.unsqueeze(0))
    return o_1N[0]


class _StepGraph:
    """Builds the graph of a step from that of a sequence."""

    def __init__(self, whole: fx.Graph, first: bool) -> None:
        self.graph = fx.Graph()
        image, timesteps, *rest = whole.nodes
        x_N, *self.state, values = map(
            self.graph.placeholder, ("x_N", "step", "before", "after", "values")
        )
        self.found: dict[fx.Node, Any] = {image: x_N, timesteps: 1}
        kept = static_nodes(whole)
        if not first:
            for number, node in enumerate(kept):
                self.found[node] = self.graph.call_function(_item, (values, number))
        for node in rest:
            if node.op == "output":
                y_N = self.found[node.all_input_nodes[0]]
                self.graph.output((y_N, tuple(self.found[n] for n in kept)))
            elif first or not _is_static(node):
                self.found[node] = self._copy(node)

    def _copy(self, node: fx.Node) -> Any:
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is not None and node.target in (fold, unfold, broadcast):
            return self.found[source]
        if source is not None and node.op == "call_module" and source.target in (unfold, broadcast):
            module = self.graph.create_node("get_attr", str(node.target))
            arguments = (module, str(node.target), self.found[source], *self.state)
            return self.graph.call_function(advance, arguments)
        return self.graph.node_copy(node, self.found.__getitem__)


def _is_static(node: fx.Node) -> bool:
    signal: Signal | None = node.meta.get("signal")
    return node.op not in ("placeholder", "output") and signal is not None and not signal.timed


def _item(values: tuple[Any, ...], number: int) -> Any:
    return values[number]
