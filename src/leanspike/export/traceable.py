"""Networks in a form that PyTorch's exporter accepts: plain layers, explicit state, only tensors.

Both forms run a plan's graph operation by operation, so that a failure is reported with its path.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from leanspike.errors import LeanspikeError
from leanspike.execute import SpikingNetwork
from leanspike.execute.answers import readout
from leanspike.graph.outputs import Container, opened
from leanspike.neuron import Neuron
from leanspike.synapse import plain


@final
class Graph(fx.Interpreter):
    """A run of a graph that remembers its present node and the outputs of neurons.

    Attributes:
        node: the node that runs, or ran last.
        spikes: the outputs of the neurons, in the order of the graph.
    """

    def __init__(self, module: fx.GraphModule, step: Tensor | None = None) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.node: fx.Node | None = None
        self.spikes: list[Tensor] = []
        self._step = step

    def run_node(self, n: fx.Node) -> Any:
        """Run a node as usual, and keep the outputs of neurons."""
        self.node = n
        value = super().run_node(n)
        if n.meta.get("neuron"):  # (spikes, state) of one step, or [1, N, ...]
            self.spikes.append(value if self._step is None else value[0])
        return value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function; select the row of a step by a tensor, since a trace lacks the number."""
        if target is operator.getitem and self._step is not None and args[1] is self._step:
            return args[0].index_select(0, self._step.view(1))[0]
        return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method; let a neuron's step 0 begin from the neuron's initial state."""
        if self._step is None or not isinstance(args[0], Neuron):
            return super().call_method(target, args, kwargs)
        neuron, x_N, state = args
        begins = self._step == 0
        begun = pytree.tree_map(
            lambda initial, given: torch.where(begins, initial, given), neuron.initial(x_N), state
        )
        return neuron.step(x_N, begun)


@dataclass
class Seen:
    """The last run of a network, and the names of its outputs, without spikes."""

    run: Graph | None = None
    outputs: tuple[str, ...] = ()


class Traceable(nn.Module):
    """The base of networks that can be exported.

    Attributes:
        network: the graph with its layers, all of them PyTorch's or the user's.
        seen: the record of the last run, in an object of its own: PyTorch's exporter restores a
            module's attributes.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__()
        self.network = network
        self.seen = Seen()

    def _run(self, step: Tensor | None, *inputs: Any) -> tuple[Any, Graph]:
        self.seen.run = graph = Graph(self.network, step)
        return graph.run(*inputs), graph

    def _answer(self, value: Any, name: str) -> list[Tensor]:
        found = dict(_named(*opened(value), name))
        self.seen.outputs = tuple(found)
        return list(found.values())


@final
class WholeSequence(Traceable):
    """All timesteps at once, from the user's input to the logits of every step and the spikes.

    Args:
        snn: the network, in eval mode.
        timesteps: T, which is a part of the graph.
        mode: the mode of the readout.
    """

    def __init__(self, snn: SpikingNetwork, timesteps: int, mode: Literal["sum", "mean"]) -> None:
        plan = snn.plan.copied()
        for node in plan.graph.nodes:
            module = plan.submodule(node)
            if module is not None:
                plan.module.set_submodule(str(node.target), plain(module))
        super().__init__(plan.module)
        self.encoder, self.timesteps, self.mode = plan.encoder, timesteps, mode
        self.container = plan.container

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits ``[T, N, K]``, or outputs ``[T, N, ...]``, and spikes ``[T, N, ...]``."""
        self.seen.run = None
        sequence, steps = self.encoder.sequence(x, self.timesteps, training=False)
        y_TNK, run = self._run(None, sequence, steps)
        if self.container is not None:
            y_TNK = self.container.restored(y_TNK)
        return self._answer(readout(y_TNK, self.mode), "logits"), run.spikes


@final
class OneStep(Traceable):
    """One timestep, from its input, its number and the neurons' states to output and states.

    States are flat lists of tensors. At step 0 the given states do not count.
    """

    def __init__(self, snn: SpikingNetwork, x_N: Tensor) -> None:
        step = snn.plan.per_step()
        super().__init__(step.module)
        with torch.no_grad():
            _, states = step.module(x_N, 0, *[None] * len(step.neurons))
        self.container = snn.plan.container
        self._leaves, self._spec = pytree.tree_flatten(tuple(states))
        self.states = [leaf for leaf in self._leaves if isinstance(leaf, Tensor)]
        self.state_names = tuple(
            name
            for path, state in zip(step.neurons, states, strict=True)
            for name in _state_names(path, step.module.get_submodule(path), state)
        )

    def forward(
        self, x: Tensor, step: Tensor, states: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the step's output ``[N, K]``, the next states, and spikes ``[N, ...]``."""
        left = iter(states)
        leaves = [None if leaf is None else next(left) for leaf in self._leaves]
        given = pytree.tree_unflatten(leaves, self._spec)
        (y_NK, after), run = self._run(step, x, step, *given)
        if self.container is not None and self.container.plain:  # others are restored already
            y_NK = self.container.restored(y_NK)
        after = [leaf for leaf in pytree.tree_leaves(after) if leaf is not None]
        return self._answer(y_NK, "output"), after, run.spikes


def _named(value: Any, container: Container | None, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in containers, each with a name made of the keys to it."""
    if container is None:
        if isinstance(value, Tensor):
            yield name, value
        return
    given = list(value.values() if isinstance(value, dict) else value)
    names = container.names or range(len(given))
    for key, part, inner in zip(names, given, container.parts, strict=True):
        yield from _named(part, inner, f"{name}.{key}")


def _state_names(path: str, neuron: nn.Module, state: Any) -> list[str]:
    """Return a name like ``layer1.relu.membrane`` for each tensor of a neuron's state."""
    leaves = [] if state is None else pytree.tree_leaves(state)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise LeanspikeError(
                f"{path}: the state of {type(neuron).__name__} holds a {type(leaf).__name__}, but "
                "a graph holds tensors; keep only tensors in the state, or export the whole "
                "sequence with one_step=False"
            )
    assert isinstance(neuron, Neuron) or not leaves
    names = neuron.remembers if isinstance(neuron, Neuron) else ()
    if len(names) != len(leaves):
        names = tuple(f"state_{number}" for number in range(len(leaves)))
    return [f"{path}.{name}" for name in names]
