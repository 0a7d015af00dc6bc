"""Rate gradients: the forward pass has all spikes, the backward pass runs once over means in time.

The source is rate-based backpropagation (Yu et al., NeurIPS 2024, arXiv 2410.11488). The network
runs operation by operation. Each value that depends on time is kept twice: as all its steps, and as
their mean. The steps have no gradients, and are freed as soon as they are read. The mean carries
the gradient. The memory for the backward pass does not grow with T.

The gradient of an operation's mean output by its mean input is computed in one of these ways:

- linear operations, and products of two signals: by the operation itself, at the mean;
- neurons: by the derivative that they add up while they fire (:class:`leanspike.backends.Rates`);
- norms: with the statistics of the steps (:mod:`leanspike.temporal.means`);
- max pools: by the largest input of each step (:mod:`leanspike.execute.rate_pools`);
- all others, as softmax: by the operation's derivative at the mean input.

In the derivatives of neurons and max pools, and for weights, each step counts with its share of the
gradient (:mod:`leanspike.execute.arrival`).

With one step all of these are exact, and the gradient is that of backpropagation through time.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``, no suffix is
stacked (``[T*N, ...]``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from leanspike.errors import LeanspikeError
from leanspike.execute.arrival import arrivals, mean_of, weighted_mean
from leanspike.execute.fused import fire_normalised, is_watched, normalise_alone
from leanspike.execute.listening import Listening
from leanspike.execute.observed import Execution
from leanspike.execute.rate_pools import largest, pooled, windows_of
from leanspike.execute.rate_rules import (
    activate,
    drop,
    fire,
    fire_behind_norm,
    normalise,
    normalise_behind,
    refuse_twice,
)
from leanspike.execute.timed import Timed, means_in, steps_in, timed_in
from leanspike.graph.ops import is_batch_norm, knows, row_of
from leanspike.graph.plan import Plan
from leanspike.neuron import Neuron
from leanspike.synapse.of_mean import follows_mean, output_of_mean
from leanspike.temporal import Affine, TemporalDropout, TemporalNorm, broadcast, repeat, stack
from leanspike.temporal import unstack as opened
from leanspike.temporal.means import batch_norm_of_mean, carried
from leanspike.transforms import is_transforming

Gradient = Literal["bptt", "rate"]
"""The kinds of gradient: backpropagation through time, or once over means in time."""


def check_gradient(gradient: str, observed: bool = False) -> None:
    """Raise unless it is one of the two, and can be had: ``observed``, for one who looks on.

    >>> check_gradient("rates")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: gradient is 'rates'; choose bptt or rate
    """
    if gradient not in get_args(Gradient):
        raise LeanspikeError(f"gradient is {gradient!r}; choose bptt or rate")
    if gradient != "rate" or not torch.is_grad_enabled():
        return
    if observed:
        raise LeanspikeError(
            "gradient is 'rate', and an observer sees operations that have no gradients of steps; "
            "leave one of the two out, or look on within torch.no_grad()"
        )
    if is_transforming():
        raise LeanspikeError(
            "gradient is 'rate', which torch.func does not know; call backward(), or choose bptt"
        )


@final
class RateExecution(Execution):
    """A run of a network's graph whose outputs have gradients through means.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> snn, x = spike(ann, example_input=torch.zeros(1, 2), timesteps=4), torch.rand(5, 2)
    >>> y_TNK = RateExecution(snn, snn.plan).begin(x, 4)
    >>> torch.equal(y_TNK, snn(x)), y_TNK.requires_grad
    (True, True)
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        graph: fx.Graph | None = None,
        listeners: Collection[Listening] = (),
    ) -> None:
        super().__init__(network, plan, graph=graph, listeners=listeners)
        self.timed = plan.encoder.timed
        self.timesteps, self.arrival = 0, dict[str, Tensor]()

    def begin(self, sequence: Tensor, timesteps: int) -> Any:
        """Run the graph. ``sequence`` comes from the encoder."""
        self.timesteps = timesteps
        if timesteps > 1:
            self.arrival = arrivals(self.graph, self.module, timesteps)
        entering: Any = sequence
        if self.timed:
            entering = Timed(sequence.detach(), mean_of(opened(sequence, timesteps)))
        return self.run(entering, timesteps)

    def heard(self, value: Any) -> tuple[Tensor, Tensor]:
        """Return all steps of a value, without a gradient, and their mean, with the gradient."""
        if not isinstance(value, Timed):
            return super().heard(value)
        return value.steps, value.mean

    def computed(self, n: fx.Node) -> Any:
        """Run one operation on the steps and on their mean, or once if no input is timed."""
        args: Any
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "output":
            return fx.node.map_aggregate(args[0], _answer)
        if n.target in (broadcast, repeat) and n.meta["signal"].timed:
            x_N: Tensor = args[0]
            spread = broadcast if n.target is broadcast else repeat
            return Timed(spread(x_N.detach(), self.timesteps), x_N)
        if not any(isinstance(part, Timed) for part in pytree.tree_leaves((args, kwargs))):
            return super().computed(n)
        if n.target in (stack, opened):
            with torch.no_grad():
                return Timed(self.call_function(n.target, steps_in(args), {}), args[0].mean)
        if n.target is fire_normalised:
            return self._fire_normalised(n, *args)
        if n.target is normalise_alone:
            return self._normalise(*args[:2])
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        way = None if module is None else self._way(n, module)
        return self._each(n, args, kwargs) if way is None else way(args[0])

    def _way(self, n: fx.Node, module: nn.Module) -> Callable[[Timed], Timed] | None:
        """Return how a module runs that knows time or statistics; None for any other."""
        if isinstance(module, Neuron):
            return lambda x: fire(str(n.target), module, x, self._arrival(n))
        if n.meta.get("neuron"):
            return lambda x: activate(str(n.target), module, x)
        if isinstance(module, TemporalDropout):
            return lambda x: drop(module, x)
        if isinstance(module, TemporalNorm | Affine):
            return lambda x: normalise(module, x)
        if is_batch_norm(module) and module.training:
            norm_row = row_of(n, self.module).norm
            if norm_row is None or not norm_row.batch:
                raise LeanspikeError(
                    f"{n.target}: rate gradients know PyTorch's batch norms only, but a "
                    f"{type(module).__name__} has a forward of its own; train with gradient=bptt"
                )
            return lambda x: self._normalise_batch(module, x)
        found = row_of(n, self.module)
        if found.linear and found.synapses is not None and knows(found):
            return lambda x: self._weighted(n, module, x)
        if found.sequence:
            raise LeanspikeError(
                f"{n.target}: rate gradients cannot apply a {type(module).__name__} to a mean over "
                "time; train with gradient=bptt"
            )
        return None

    def _fire_normalised(self, n: fx.Node, norm: Any, neuron: Neuron, x: Timed, _: Any) -> Timed:
        """Run a norm and the neurons behind it, fused or one after the other."""
        temporal = isinstance(norm, TemporalNorm)
        path = str(n.all_input_nodes[1].target)
        x_TN = x.steps if temporal else opened(x.steps, self.timesteps)
        arrival_T = self._arrival(n)
        found = fire_behind_norm(norm, neuron, x, x_TN, arrival_T)
        if found is not None:
            return found
        y = self._normalise(norm, x)
        return fire(path, neuron, y if temporal else self._opened(y), arrival_T)

    def _normalise(self, norm: Any, x: Timed) -> Timed:
        """Run a norm over all steps, or one with parameters for each."""
        if isinstance(norm, TemporalNorm):
            return normalise(norm, x)
        return self._normalise_batch(norm, x) if norm.training else self._layer(norm, x)

    def _opened(self, y: Timed) -> Timed:
        return Timed(opened(y.steps, self.timesteps), y.mean)

    def _layer(self, module: nn.Module, x: Timed) -> Timed:
        """Run a norm in eval mode, on the steps and on their mean."""
        with torch.no_grad():
            steps = module(x.steps)
        mean = module(x.mean)
        return Timed(steps, self._at_mean(steps, mean))

    def _weighted(self, n: fx.Node, layer: nn.Module, x: Timed) -> Timed:
        """Run a linear layer. Its mean output is known, so only the gradient is computed."""
        x_N: Tensor = x.mean
        if is_watched(layer) or not follows_mean(layer, x_N):
            return self._each(n, (x,), {})
        with torch.no_grad():
            steps = layer(x.steps)
            heard_N = self._heard(n, x)
        return Timed(
            steps,
            average=lambda: mean_of(opened(steps, self.timesteps)),
            follow=lambda y_N: output_of_mean(layer, x_N, y_N, heard_N),
        )

    def _arrival(self, n: fx.Node) -> Tensor:
        """Return the shares of the steps in the gradient of a node's value."""
        return self.arrival.get(n.name, torch.ones(self.timesteps))

    @torch.no_grad()
    def _heard(self, n: fx.Node, x: Timed) -> Tensor | None:
        """Return the mean that weights hear, of steps by their shares; None: the plain mean."""
        share_T = self._arrival(n)
        if bool((share_T == 1).all()):
            return None
        return weighted_mean(opened(x.steps, self.timesteps), share_T)

    def _each(self, n: fx.Node, args: Any, kwargs: Any) -> Timed:
        """Run an operation on all steps, and on their mean for the gradient."""
        call = getattr(self, n.op)
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        row = row_of(n, self.module)
        if row.max_pool:
            found = pooled(n, self.module, timed_in(args, kwargs)[0], self._arrival(n))
            if found is not None:
                return found
        with torch.no_grad(), refuse_twice(str(n.target), module):
            steps = call(n.target, steps_in(args), steps_in(kwargs))
        if row.max_pool and isinstance(steps, Tensor):
            found = self._largest(n, timed_in(args, kwargs)[0], steps)
            if found is not None:
                return found
        if row.synapses is None:
            mean = call(n.target, means_in(args), means_in(kwargs))
        else:
            mean = self._by_weights(n, args, kwargs)
        if n.meta["signal"].kind is None or row.linear:
            return Timed(steps, mean)
        return Timed(steps, pytree.tree_map(self._at_mean, steps, mean))

    def _largest(self, n: fx.Node, x: Timed, steps: Tensor) -> Timed | None:
        """Return what a max pool made, or None where its windows are not known."""
        windows = windows_of(n, self.module, x.steps, steps)
        return None if windows is None else largest(x, steps, windows, self._arrival(n))

    def _by_weights(self, n: fx.Node, args: Any, kwargs: Any) -> Any:
        """Run an operation with weights on means, of which its weights hear another one."""
        call = getattr(self, n.op)
        signals = timed_in(args, kwargs)
        heard_N = self._heard(n, signals[0]) if len(signals) == 1 else None
        if heard_N is None:
            return call(n.target, means_in(args), means_in(kwargs))
        heard = Timed(signals[0].steps, heard_N)
        at_heard = pytree.tree_map(lambda p: heard if isinstance(p, Timed) else p, (args, kwargs))
        by_weights = call(n.target, *means_in(at_heard))
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            still = {name: p.detach() for name, p in module.named_parameters()}
            by_input = functional_call(module, still, means_in(args), means_in(kwargs))
        else:
            by_input = call(n.target, *means_in(pytree.tree_map(_still, (args, kwargs))))
        return by_input + (by_weights - by_weights.detach())

    def _at_mean(self, steps: Any, mean: Any) -> Any:
        """Return the mean of the steps, with the derivative at the mean of the input."""
        if not (isinstance(mean, Tensor) and mean.is_floating_point()):
            return mean
        return carried(mean_of(opened(steps, self.timesteps)), mean)

    def _normalise_batch(self, norm: nn.Module, x: Timed) -> Timed:
        """Run a batch norm in training, with the statistics of all steps together."""
        found = normalise_behind(norm, x, opened(x.steps, self.timesteps))
        if found is not None:
            return Timed(stack(found.steps), found.mean)
        mean = batch_norm_of_mean(norm, x.mean, x.steps)
        with torch.no_grad():
            steps = norm(x.steps)
        return Timed(steps, self._at_mean(steps, mean))


def _still(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _answer(leaf: Any) -> Any:
    """Return the outputs of all steps, each with the gradient of the mean."""
    return carried(leaf.steps, leaf.mean) if isinstance(leaf, Timed) else leaf
