"""The spiking network, which runs its graph for a whole sequence at once, or step by step.

Shapes: T timesteps, N samples, K outputs; ``_TNK`` is ``[T, N, K]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from operator import itemgetter
from typing import Any, SupportsIndex, final

import torch
from torch import Tensor, fx, nn

from leanspike.errors import LeanspikeError, SurgeryError, check_count
from leanspike.execute.ann_weights import ANNWeights
from leanspike.execute.answers import value_range
from leanspike.execute.doubts import Doubts
from leanspike.execute.fused import TrainingCode
from leanspike.execute.inputs import check_samples, explain, other_scale
from leanspike.execute.layout import Layout, leave
from leanspike.execute.listening import listeners_of
from leanspike.execute.observed import Execution, Observer, Streaming
from leanspike.execute.rate import Gradient, RateExecution, check_gradient
from leanspike.execute.state import State, check_state
from leanspike.execute.streaming import Steps
from leanspike.graph.modules import share
from leanspike.graph.ops import row_of
from leanspike.graph.outputs import mapped
from leanspike.graph.plan import Plan, PlanRecord
from leanspike.neuron import Neuron
from leanspike.synapse import Stream, streaming
from leanspike.transforms import has_values


@final
class SpikingNetwork(nn.Module):
    """A network with neurons in the places of activations. :func:`leanspike.spike` makes it.

    It has the ANN's modules at the ANN's paths, and no state between calls. In eval mode two calls
    ``snn(x)`` give the same. The batch size may change, and there is nothing to reset.

    Attributes:
        timesteps: the default number of steps of a call. It may be changed.
        plan: the graph and the encoder.
        input_range: the smallest and the largest value of the images that it was calibrated on,
            None before. Input of a very different range causes one warning.
        doubts: the warnings that calls have not given yet.
        layout: the memory layout of images inside.
    """

    def __init__(self, plan: Plan, timesteps: int) -> None:
        super().__init__()
        self.training = plan.module.training
        self.plan = plan
        self.timesteps = timesteps
        self.input_range: tuple[float, float] | None = None
        self._warned_of: tuple[float, float] | None = None
        self.doubts = Doubts()
        _check_names(plan.module, self)
        share(plan.module, self)
        self._prepare()

    def train(self, mode: bool = True) -> SpikingNetwork:
        """Set the mode. Modules that the network's own ``train()`` freezes stay in eval mode."""
        super().train(mode)
        for path in self.plan.held:
            self.get_submodule(path).training = False
        return self

    def _prepare(self) -> None:
        """Take the code of the plan's graphs before `torch.compile` may trace."""
        self._whole: Callable[..., Any] = type(self.plan.module).forward
        self._in_training = TrainingCode.of(self.plan)
        self._steps = Steps(self.plan)
        self._container = self.plan.container
        self.layout = Layout.of(self.plan)

    def replanned(self, plan: Plan) -> SpikingNetwork:
        """Return this network with another plan, such as a pass makes from this one's."""
        other = SpikingNetwork(plan, self.timesteps)
        other.input_range, other.doubts = self.input_range, self.doubts
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies and pickle, without functions, which are made again."""
        made = ("_whole", "_in_training", "_steps", "_container", "layout")
        state = {name: value for name, value in vars(self).items() if name not in made}
        return {**state, "plan": PlanRecord.of(self.plan)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.plan = state["plan"].plan(self)
        self._prepare()

    def forward(self, x: Tensor, timesteps: int | None = None, gradient: Gradient = "bptt") -> Any:
        """Run the network, and return the output of every step.

        Args:
            x: ``[N, ...]`` (``[T, N, ...]`` when encoded as frames), floating point.
            timesteps: T; default ``self.timesteps``. Frames have their own T.
            gradient: "bptt", backpropagation through time, or "rate", once over means in time.
                "rate" keeps as much for the backward pass as one step would. The outputs are the
                same. See :mod:`leanspike.execute.rate`.

        Returns:
            ``y_TNK`` of shape ``[T, N, K]``: the outputs of the last layer at each step, not
            cumulated; see :func:`leanspike.readout`. A network may return several tensors, in
            tuples, lists, dictionaries, named tuples or dataclasses. The result is then the same
            container, with ``[T, N, ...]`` for each tensor.

        Raises:
            LeanspikeError: for input of another shape or type than the example input.
        """
        return self.run(x, timesteps, gradient=gradient)

    def run(
        self,
        x: Tensor,
        timesteps: int | None = None,
        observer: Observer | None = None,
        gradient: Gradient = "bptt",
    ) -> Any:
        """Run :meth:`forward`, and call ``observer`` after each operation."""
        check_gradient(gradient, observed=observer is not None)
        encoder = self.plan.encoder
        self.check_input(x, encoder.batch_axis)
        steps = self.timesteps if timesteps is None else timesteps
        if isinstance(steps, bool) or not isinstance(steps, SupportsIndex) or steps < 1:
            check_count("timesteps", steps)
        if self.doubts.any and not torch.compiler.is_compiling():
            self.doubts.tell(self.neurons(), training=self.training and torch.is_grad_enabled())
        sequence, steps = encoder.sequence(x, steps, self.training)
        sequence, turned = self.layout.enter(sequence)
        graph, listeners = self._in_training.graph, listeners_of(self)
        try:
            if gradient == "rate" and torch.is_grad_enabled():
                y_TNK = RateExecution(self, self.plan, graph, listeners).begin(sequence, steps)
            elif observer is not None or listeners:
                graph = graph if self.training and observer is None else self.plan.graph
                run = Execution(self, self.plan, observer, graph, listeners)
                y_TNK = run.run(sequence, steps)
            elif self.training and not torch.compiler.is_compiling():
                y_TNK = self._in_training.run(self, sequence, steps)
            else:
                y_TNK = self._whole(self, sequence, steps)
        except RuntimeError as error:
            self.explain(error, x, encoder.batch_axis)
            raise
        return self._in_containers(leave(y_TNK) if turned else y_TNK)

    def _in_containers(self, plain: Any) -> Any:
        """Return a graph's outputs in the network's own containers."""
        return plain if self._container is None else self._container.restored(plain)

    @torch.no_grad()
    def step(
        self, x_N: Tensor, state: State | None = None, observer: Observer | None = None
    ) -> tuple[Any, State]:
        """Compute one timestep, for streaming and early exit, in eval mode and without gradients.

        Args:
            x_N: the input of this step, ``[N, ...]``. With direct input only that of the first
                step counts, since static values are kept.
            state: the state that the previous step returned; None to begin.
                ``state.keep(samples)`` drops the other samples; then pass the input of these only.
            observer: called after each operation that this step computes.

        Returns:
            The output of this step ``[N, K]``, and the state for the next step. Several outputs
            are ``[N, ...]`` each, in the containers of :meth:`forward`.

        Example:
            >>> from leanspike import spike
            >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
            >>> snn = spike(ann, example_input=torch.zeros(1, 2), timesteps=3)
            >>> x, state, steps = torch.ones(4, 2), None, []
            >>> for _ in range(3):
            ...     y_NK, state = snn.step(x, state)
            ...     steps.append(y_NK)
            >>> torch.allclose(torch.stack(steps), snn(x), atol=1e-6)
            True
        """
        if self.training:
            raise LeanspikeError("step() was called in training mode; call .eval() first")
        if self.doubts.any and not torch.compiler.is_compiling():
            self.doubts.tell(self.neurons(), training=False)
        state = state or State()
        ignored = state.steps > 0 and not self.plan.encoder.timed
        self.check_input(x_N, batch_axis=0, values=not ignored)
        check_state(state, self._steps.network, len(x_N))
        self._steps.check(self, state.steps)
        current_N, turned = self.layout.enter(self.plan.encoder.step(x_N, state.steps))
        weights = state.weights
        if weights is None and has_values():
            weights = Stream()
        try:
            with nullcontext() if weights is None else streaming(weights):
                y_NK, after = self._step(current_N, state, weights, observer)
        except RuntimeError as error:
            self.explain(error, x_N, batch_axis=0)
            raise
        return self._in_containers(leave(y_NK) if turned else y_NK), after

    def _step(
        self, x_N: Tensor, state: State, weights: Stream | None, observer: Observer | None
    ) -> tuple[Any, State]:
        if observer is not None:
            execution = Streaming(self, self.plan, self._steps, state, observer)
            y_1NK = execution.run(x_N, 1)
            return mapped(itemgetter(0), y_1NK), execution.next_state(len(x_N), weights)
        steps, number = self._steps, state.steps
        if number == 0:
            none = [None] * len(steps.neurons)
            y_NK, after, static, constants = steps.first(self, x_N, number, *none)
            kept: Mapping[str, Tensor] = dict(zip(steps.static, static, strict=True))
            same: Mapping[str, Any] = dict(zip(steps.constants, constants, strict=True))
        else:
            kept, same = state.static, state.constants
            inputs = *state.neurons.values(), *kept.values(), *same.values()
            y_NK, after = steps.later(self, x_N, number, *inputs)
        neurons = dict(zip(steps.neurons, after, strict=True))
        return y_NK, State(number + 1, neurons, kept, same, steps.network, len(x_N), weights)

    def neurons(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the paths and modules of the neurons, in the order of the graph."""
        return ((path, self.get_submodule(path)) for path in self._steps.neurons)

    def neuron_nodes(self) -> list[fx.Node]:
        """Return the graph nodes of the neurons, in order."""
        return self.plan.neuron_nodes()

    def synaptic_nodes(self) -> list[fx.Node]:
        """Return the graph nodes of the layers with weights (convolutions, linear), in order."""
        return [
            node
            for node in self.plan.graph.nodes
            if node.op == "call_module" and row_of(node, self).synapses is not None
        ]

    def keep_in_range(self) -> None:
        """Clamp every neuron's trained parameters to their range. Call it after optimiser steps."""
        for _, module in self.neurons():
            if isinstance(module, Neuron):
                module.keep_in_range()

    def load_ann(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load an ANN's ``state_dict`` strictly: all its keys fit, and only those of neurons lack.

        Temporal norms begin as the ANN's batch norms, the same at each step. Entries of activations
        that neurons replaced are left out. Prefixes of wrappers (``module.``, ``_orig_mod.`` or any
        other) are removed if the rest then fits.

        Raises:
            LeanspikeError: naming the keys that are missing, unexpected or of another shape.

        Example:
            >>> from leanspike import spike
            >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
            >>> snn = spike(ann, example_input=torch.zeros(1, 2))
            >>> snn.load_ann(ann.state_dict())
        """
        fired = {module for _, module in self.neurons()}
        ANNWeights(self, self.plan, fired).load(state_dict)

    def check_input(self, x: Tensor, batch_axis: int, values: bool = True) -> None:
        """Raise LeanspikeError unless ``x`` is like the example input, for any N, and finite.

        Without ``values`` only shape and type are checked.
        """
        check_samples(self.plan, x, batch_axis)
        if values and has_values() and x.numel() > 0:
            self._check_values(x, batch_axis)

    def _check_values(self, x: Tensor, batch_axis: int) -> None:
        """Raise LeanspikeError for values that are not finite; warn of a range of another scale."""
        low, high = value_range(x)
        if self.input_range is None or self.input_range == self._warned_of:
            return
        several = x.shape[batch_axis] > 1
        warning = other_scale((low, high), self.input_range, several)
        if warning is not None:
            self._warned_of = self.input_range
            logging.getLogger("leanspike").warning(warning)

    def explain(self, error: RuntimeError, x: Tensor, batch_axis: int) -> None:
        """Raise LeanspikeError if the input's type, device or size explains the error."""
        explain(self, self.plan, error, x, batch_axis)


def _check_names(root: nn.Module, network: SpikingNetwork) -> None:
    """Raise SurgeryError if a name in the user's network is an attribute of SpikingNetwork."""
    for name in (*root._modules, *root._parameters, *root._buffers):
        if name in dir(network):
            raise SurgeryError(
                f"the network's own attribute {name!r} collides with one of SpikingNetwork; "
                "wrap the network: nn.Sequential(network)"
            )
