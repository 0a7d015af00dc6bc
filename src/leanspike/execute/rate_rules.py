"""Rules of rate gradients: neurons, norms and dropout on a value's steps and on their mean.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.backends import (
    Followed,
    NormalisedRates,
    NormMeanCall,
    NormRateCall,
    NormRates,
    NormScale,
    RateGradientCall,
    choose,
)
from leanspike.errors import LeanspikeError
from leanspike.execute.fused import alone, call_of, keep, scale_of
from leanspike.execute.timed import Timed
from leanspike.graph.ops import row
from leanspike.neuron import Neuron
from leanspike.temporal import Affine, TemporalDropout, TemporalNorm
from leanspike.temporal.means import carried, mean_of_affine


def fire(path: str, neuron: Neuron, x: Timed, arrival_T: Tensor | None) -> Timed:
    """Run neurons, which add up the derivatives of their mean output while they fire.

    ``arrival_T`` has the shares of the steps in the gradient.
    """
    if not neuron.pointwise:
        raise LeanspikeError(
            f"neurons {path}: rate gradients need neurons that depend on their own input only, and "
            f"{type(neuron).__name__} does not declare that; set pointwise = True in the class if "
            "it is so, or train with gradient=bptt"
        )
    trained = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    with torch.no_grad():
        found = neuron.rates(x.steps, tuple(trained), arrival_T)
        mean_N = found.mean()
    by = [found.by[name] for name in trained]
    mean: Tensor = _MeanOutput.apply(mean_N, x.mean, found.by_input, *trained.values(), *by)
    _tell_hooks(path, neuron, x.steps, carried(found.o_TN, mean))
    return Timed(found.o_TN, mean)


def fire_behind_norm(
    norm: nn.Module, neuron: Neuron, x: Timed, x_TN: Tensor, arrival_T: Tensor | None
) -> Timed | None:
    """Run a norm fused with the neurons; return None if no backend serves that."""
    if not neuron.pointwise:
        return None  # fire refuses these neurons by their path
    trained = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    call = call_of(norm, neuron, x_TN, tuple(trained), arrival_T)
    scale = scale_of(norm, len(x_TN))
    backend = None if call is None else choose(call)
    if call is None or backend is None or scale is None:
        return None
    found: NormalisedRates = backend.run(call)
    keep(norm, found.followed.mean_GC, found.followed.var_GC, x_TN)
    rates, x_N = found.rates, x.carrying(found.x_N)
    y_N = _follow_norm(found.x_N, x_N, scale, found.followed)  # whose value nobody reads
    by = [rates.by[name] for name in trained]
    how = y_N, rates.by_input, *trained.values(), *by
    return Timed(rates.o_TN, _MeanOutput.apply(rates.mean(), *how))


def normalise_behind(norm: nn.Module, x: Timed, x_TN: Tensor) -> Timed | None:
    """Run a norm in training in two walks; return None if no backend serves that."""
    call = alone(norm, x_TN, rates=True)
    backend = None if call is None else choose(call)
    if not isinstance(call, NormRateCall) or backend is None:
        return None
    found: NormRates = backend.run(call)
    keep(norm, found.followed.mean_GC, found.followed.var_GC, x_TN)
    y_N = _follow_norm(found.y_N, x.carrying(found.x_N), call.norm, found.followed)
    return Timed(found.y_TN, y_N)


def _follow_norm(value_N: Tensor, x_N: Tensor, scale: NormScale, found: Followed) -> Tensor:
    call = NormMeanCall(value_N, x_N, scale, found)
    y_N: Tensor = choose(call).run(call)
    return y_N


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
        g_N, nothing = once(grad_outputs[0]), [None] * len(by)
        call = RateGradientCall(g_N, by_input, tuple(by)) if not any(ctx.shapes) else None
        backend = None if call is None or g_N.dtype != ctx.dtype else choose(call)
        if call is not None and backend is not None:
            by_x, of_scalars = backend.run(call)
            return None, by_x, None, *of_scalars, *nothing
        g_N = g_N.to(by_input.dtype)
        of_parameters = (
            (g_N * d).sum_to_size(shape) for d, shape in zip(by, ctx.shapes, strict=True)
        )
        return None, (g_N * by_input).to(ctx.dtype), None, *of_parameters, *nothing


def once(gradient: Tensor) -> Tensor:
    """Return a gradient that must not be differentiated, as slopes would count as constants.

    >>> once(torch.ones(1))
    tensor([1.])
    """
    if not (torch.is_grad_enabled() and gradient.requires_grad):
        return gradient
    same: Tensor = _Once.apply(gradient)
    return same


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:  # noqa: ARG004
        raise LeanspikeError(
            "rate gradients have no second derivatives; choose gradient=bptt, and set "
            "LEANSPIKE_BACKEND=reference, which have"
        )


def _tell_hooks(path: str, neuron: Neuron, x_TN: Tensor, o_TN: Tensor) -> None:
    """Call forward hooks on all steps, for the objectives of spike rates and features."""
    for hook in tuple(neuron._forward_hooks.values()):
        if hook(neuron, (x_TN,), o_TN) is not None:
            raise LeanspikeError(
                f"neurons {path}: a forward hook changes their outputs, which rate gradients would "
                "ignore; let it return None, or train with gradient=bptt"
            )


def activate(path: str, module: nn.Module, x: Timed) -> Timed:
    """Run a plain activation in a neuron's place."""
    if not row(type(module)).activation:
        raise LeanspikeError(
            f"neurons {path}: rate gradients cannot apply a {type(module).__name__} to a mean over "
            "time; write it as a leanspike.Neuron, or train with gradient=bptt"
        )
    with torch.no_grad(), refuse_twice(path, module):
        o_TN = module(x.steps)
    return Timed(o_TN, carried(o_TN.mean(0), module(x.mean)))


@contextmanager
def refuse_twice(path: str, module: nn.Module | None) -> Iterator[None]:
    """Refuse a module that runs with other numbers each time, or keeps some: it runs twice here.

    >>> with refuse_twice("0", nn.RReLU()):
    ...     _ = nn.RReLU()(torch.full((1,), -1.0))
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: module 0: a RReLU draws random numbers, and rate gradients ...
    """
    if module is None or not module.training:
        yield
        return
    kept, drawn = [(id(b), b._version) for b in module.buffers()], torch.get_rng_state()
    yield
    what = ""
    if not torch.equal(drawn, torch.get_rng_state()):
        what = "draws random numbers"
    elif kept != [(id(b), b._version) for b in module.buffers()]:
        what = "changes its buffers"
    if what:
        raise LeanspikeError(
            f"module {path}: a {type(module).__name__} {what}, and rate gradients run it twice, on "
            "all steps and on their mean; use nn.Dropout or a batch norm for it, or train with "
            "gradient=bptt"
        )


def drop(module: TemporalDropout, x: Timed) -> Timed:
    """Apply dropout with the same mask to all steps and to their mean."""
    mask_N = module.mask(x.mean)
    if mask_N is None:
        return x
    with torch.no_grad():
        steps = x.steps * mask_N
    return Timed(steps, x.mean * mask_N)


def normalise(norm: TemporalNorm | Affine, x: Timed) -> Timed:
    """Norms that know the step."""
    found = normalise_behind(norm, x, x.steps) if isinstance(norm, TemporalNorm) else None
    if found is not None:
        return found
    if isinstance(norm, TemporalNorm):
        mean = norm.of_mean(x.mean, x.steps)
    else:
        mean = mean_of_affine(x.mean, x.steps, *norm.affine(len(x.steps)))
    with torch.no_grad():
        y_TN = norm(x.steps)
    return Timed(y_TN, carried(y_TN.mean(0), mean))
