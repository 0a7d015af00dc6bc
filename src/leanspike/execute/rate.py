"""Rate gradients: forward with all spikes, backward once, over means in time.

Rate-based backpropagation (Yu et al., NeurIPS 2024, arXiv 2410.11488). The network runs operation
by operation. Each value that depends on time is two: all its steps, without gradients, which are
gone as soon as they are read, and their mean, which carries the gradient. So what is kept for the
backward pass does not grow with T.

How the mean of an operation's output follows the mean of its input:

- linear operations, and products of two signals: as the operation itself, at the mean;
- neurons: by the derivative that they add up while they fire (:class:`leanspike.backends.Rates`);
- norms: with the statistics that the steps had (:mod:`leanspike.temporal.means`);
- what else there is, as max pools and softmax: by the operation's derivative at the mean input.

With one step all of these are exact, and the gradient is that of backpropagation through time.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``, no suffix is
stacked (``[T*N, ...]``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from leanspike.errors import LeanspikeError
from leanspike.execute.observed import Execution
from leanspike.graph.ops import is_batch_norm, row, row_of
from leanspike.graph.plan import Plan
from leanspike.neuron import Neuron
from leanspike.temporal import Affine, TemporalDropout, TemporalNorm, broadcast, repeat, stack
from leanspike.temporal import unstack as opened
from leanspike.temporal.means import batch_norm_of_mean, carried, mean_of_affine

Gradient = Literal["bptt", "rate"]
"""Backpropagation through time, or once over means in time."""


def check_gradient(gradient: str) -> None:
    """Raise unless it is one of the two.

    >>> check_gradient("rates")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: gradient is 'rates'; choose bptt or rate
    """
    if gradient not in get_args(Gradient):
        raise LeanspikeError(f"gradient is {gradient!r}; choose bptt or rate")


@final
@dataclass(frozen=True)
class Timed:
    """What depends on time: all its steps, without gradients, and their mean, with them.

    (Sizes are two as well: of the stacked batch, and of the batch.)
    """

    steps: Any
    mean: Any


@final
class RateExecution(Execution):
    """One run of a network's graph whose outputs have gradients through means.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> snn, x = spike(ann, example_input=torch.zeros(1, 2), timesteps=4), torch.rand(5, 2)
    >>> y_TNK = RateExecution(snn, snn.plan).begin(x, 4)
    >>> torch.equal(y_TNK, snn(x)), y_TNK.requires_grad
    (True, True)
    """

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        super().__init__(network, plan)
        self.timed = plan.encoder.timed
        self.timesteps = 0

    def begin(self, sequence: Tensor, timesteps: int) -> Any:
        """Run the graph; ``sequence`` is what the encoder gave."""
        self.timesteps = timesteps
        entering: Any = sequence
        if self.timed:
            entering = Timed(sequence.detach(), opened(sequence, timesteps).mean(0))
        return self.run(entering, timesteps)

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation on the steps and on their mean; on one value where time is not."""
        args: Any
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "output":
            return fx.node.map_aggregate(args[0], _answer)
        if n.target in (broadcast, repeat) and n.meta["signal"].timed:
            x_N: Tensor = args[0]
            spread = broadcast if n.target is broadcast else repeat
            return Timed(spread(x_N.detach(), self.timesteps), x_N)
        if not any(isinstance(part, Timed) for part in pytree.tree_leaves((args, kwargs))):
            return super().run_node(n)
        if n.target in (stack, opened):
            with torch.no_grad():
                return Timed(self.call_function(n.target, _steps(args), {}), args[0].mean)
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        way = None if module is None else self._way(n, module)
        return self._each(n, args, kwargs) if way is None else way(args[0])

    def _way(self, n: fx.Node, module: nn.Module) -> Callable[[Timed], Timed] | None:
        """How a module that knows time, or statistics, runs; None of any other."""
        if isinstance(module, Neuron):
            return lambda x: _fire(str(n.target), module, x)
        if n.meta.get("neuron"):
            return lambda x: _activate(str(n.target), module, x)
        if isinstance(module, TemporalDropout):
            return lambda x: _drop(module, x)
        if isinstance(module, TemporalNorm | Affine):
            return lambda x: _normalise(module, x)
        if is_batch_norm(module) and module.training:
            return lambda x: self._normalise_batch(n, module, x)
        if row_of(n, self.module).sequence:
            raise LeanspikeError(
                f"{n.target}: rate gradients do not know what a {type(module).__name__} makes of a "
                "mean over time; train with gradient=bptt"
            )
        return None

    def _each(self, n: fx.Node, args: Any, kwargs: Any) -> Timed:
        """Run an operation on all steps, and on their mean for the gradient."""
        call = getattr(self, n.op)
        with torch.no_grad():
            steps = call(n.target, _steps(args), _steps(kwargs))
        mean = call(n.target, _means(args), _means(kwargs))
        if n.meta["signal"].kind is None or row_of(n, self.module).linear:
            return Timed(steps, mean)
        return Timed(steps, pytree.tree_map(self._at_mean, steps, mean))

    def _at_mean(self, steps: Any, mean: Any) -> Any:
        """The mean of the steps, with the derivative at the mean of the input."""
        if not (isinstance(mean, Tensor) and mean.is_floating_point()):
            return mean
        return carried(opened(steps, self.timesteps).mean(0), mean)

    def _normalise_batch(self, n: fx.Node, norm: nn.Module, x: Timed) -> Timed:
        """Batch norm in training, whose statistics are those of all steps together."""
        norm_row = row_of(n, self.module).norm
        if norm_row is None or not norm_row.batch:
            raise LeanspikeError(
                f"{n.target}: rate gradients know PyTorch's batch norms, and a "
                f"{type(norm).__name__} has a forward of its own; train with gradient=bptt"
            )
        mean = batch_norm_of_mean(norm, x.mean, x.steps)
        with torch.no_grad():
            steps = norm(x.steps)
        return Timed(steps, self._at_mean(steps, mean))


def _steps(part: Any) -> Any:
    return fx.node.map_aggregate(part, _steps_of)


def _means(part: Any) -> Any:
    return fx.node.map_aggregate(part, _mean_of)


def _steps_of(leaf: Any) -> Any:
    return leaf.steps if isinstance(leaf, Timed) else leaf


def _mean_of(leaf: Any) -> Any:
    return leaf.mean if isinstance(leaf, Timed) else leaf


def _answer(leaf: Any) -> Any:
    """Outputs of all steps, each of which moves as the mean does."""
    return carried(leaf.steps, leaf.mean) if isinstance(leaf, Timed) else leaf


def _fire(path: str, neuron: Neuron, x: Timed) -> Timed:
    """Neurons: the derivatives of their mean output are added up while they fire."""
    if not neuron.pointwise:
        raise LeanspikeError(
            f"neurons {path}: a {type(neuron).__name__} does not say that each neuron hears its "
            "own input alone, as rate gradients have it; set pointwise = True in the class if it "
            "is so, or train with gradient=bptt"
        )
    trained = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    with torch.no_grad():
        found = neuron.rates(x.steps, tuple(trained))
        mean_N = found.o_TN.mean(0)
    by = [found.by[name] for name in trained]
    mean: Tensor = _MeanOutput.apply(mean_N, x.mean, found.by_input, *trained.values(), *by)
    _tell_hooks(path, neuron, x.steps, carried(found.o_TN, mean))
    return Timed(found.o_TN, mean)


class _MeanOutput(torch.autograd.Function):
    """A mean output, and its derivatives by the mean input and by parameters."""

    @staticmethod
    def forward(ctx: Any, mean_N: Tensor, x_N: Tensor, by_input: Tensor, *rest: Tensor) -> Tensor:
        parameters, by = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        ctx.shapes, ctx.dtype = [p.shape for p in parameters], x_N.dtype
        ctx.save_for_backward(by_input, *by)
        return mean_N.view_as(mean_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        by_input, *by = ctx.saved_tensors
        g_N = grad_outputs[0].to(by_input.dtype)
        of_parameters = (
            (g_N * d).sum_to_size(shape) for d, shape in zip(by, ctx.shapes, strict=True)
        )
        nothing = [None] * len(by)
        return None, (g_N * by_input).to(ctx.dtype), None, *of_parameters, *nothing


def _tell_hooks(path: str, neuron: Neuron, x_TN: Tensor, o_TN: Tensor) -> None:
    """What watches neurons, as the objectives of spike rates and features do, sees all steps."""
    for hook in tuple(neuron._forward_hooks.values()):
        if hook(neuron, (x_TN,), o_TN) is not None:
            raise LeanspikeError(
                f"neurons {path}: a forward hook changes their outputs, which rate gradients would "
                "not follow; let it return None, or train with gradient=bptt"
            )


def _activate(path: str, module: nn.Module, x: Timed) -> Timed:
    """A plain activation in a neuron's place."""
    if not row(type(module)).activation:
        raise LeanspikeError(
            f"neurons {path}: rate gradients do not know what a {type(module).__name__} makes of a "
            "mean over time; write it as a leanspike.Neuron, or train with gradient=bptt"
        )
    with torch.no_grad():
        o_TN = module(x.steps)
    return Timed(o_TN, carried(o_TN.mean(0), module(x.mean)))


def _drop(module: TemporalDropout, x: Timed) -> Timed:
    """Dropout: the same mask for all steps, and for their mean."""
    mask_N = module.mask(x.mean)
    if mask_N is None:
        return x
    with torch.no_grad():
        steps = x.steps * mask_N
    return Timed(steps, x.mean * mask_N)


def _normalise(norm: TemporalNorm | Affine, x: Timed) -> Timed:
    """Norms that know the step."""
    if isinstance(norm, TemporalNorm):
        mean = norm.of_mean(x.mean, x.steps)
    else:
        mean = mean_of_affine(x.mean, x.steps, *norm.affine(len(x.steps)))
    with torch.no_grad():
        y_TN = norm(x.steps)
    return Timed(y_TN, carried(y_TN.mean(0), mean))
