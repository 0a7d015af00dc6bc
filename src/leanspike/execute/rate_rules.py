"""Rules of rate gradients: neurons, norms and dropout on a value's steps and on their mean.

Shapes: T timesteps, N samples; ``_TN`` is ``[T, N, ...]``, ``_N`` is ``[N, ...]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leanspike.backends import NormalisedRates, choose
from leanspike.errors import LeanspikeError
from leanspike.execute.fused import call_of, keep, scale_of
from leanspike.execute.timed import Timed
from leanspike.graph.ops import row
from leanspike.neuron import Neuron
from leanspike.temporal import Affine, TemporalDropout, TemporalNorm
from leanspike.temporal.means import carried, mean_of_affine


def fire(path: str, neuron: Neuron, x: Timed) -> Timed:
    """Run neurons, which add up the derivatives of their mean output while they fire."""
    if not neuron.pointwise:
        raise LeanspikeError(
            f"neurons {path}: rate gradients need neurons that depend on their own input only, and "
            f"{type(neuron).__name__} does not declare that; set pointwise = True in the class if "
            "it is so, or train with gradient=bptt"
        )
    trained = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    with torch.no_grad():
        found = neuron.rates(x.steps, tuple(trained))
        mean_N = found.mean()
    by = [found.by[name] for name in trained]
    mean: Tensor = _MeanOutput.apply(mean_N, x.mean, found.by_input, *trained.values(), *by)
    _tell_hooks(path, neuron, x.steps, carried(found.o_TN, mean))
    return Timed(found.o_TN, mean)


def fire_behind_norm(norm: nn.Module, neuron: Neuron, x: Timed, x_TN: Tensor) -> Timed | None:
    """Run a norm over all steps fused with the neurons; return None if no backend serves that."""
    if not neuron.pointwise:
        return None  # fire refuses these neurons by their path
    trained = {name: p for name, p in neuron.named_parameters() if p.requires_grad}
    call, scale = call_of(norm, neuron, x_TN, tuple(trained)), scale_of(norm, len(x_TN))
    backend = None if call is None else choose(call)
    if call is None or backend is None or scale is None:
        return None
    found: NormalisedRates = backend.run(call)
    keep(norm, found.mean_C.unsqueeze(0), found.var_C.unsqueeze(0), x_TN)
    rates = found.rates
    y_N = _NormOfMean.apply(
        *(found.x_N, x.carrying(found.x_N)),
        *(scale.weight_GC[0], None if scale.bias_GC is None else scale.bias_GC[0]),
        *(found.mean_C, (found.var_C + scale.eps).rsqrt()),
    )
    by = [rates.by[name] for name in trained]
    how = y_N, rates.by_input, *trained.values(), *by
    return Timed(rates.o_TN, _MeanOutput.apply(rates.mean(), *how))


class _NormOfMean(torch.autograd.Function):
    """The gradients of a batch norm at a mean input. Its value, the input's, is not used."""

    @staticmethod
    def forward(
        ctx: Any,
        value_N: Tensor,
        x_N: Tensor,  # noqa: ARG004
        weight: Tensor | None,
        bias: Tensor | None,  # noqa: ARG004
        mean_C: Tensor,
        inverse_C: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(value_N, weight, mean_C, inverse_C)
        return value_N.view_as(value_N)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x_N, weight, mean_C, inverse_C = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:4]
        grad, x = (t.to(torch.float32) for t in (grad_outputs[0], x_N))
        found = torch.ops.aten.native_batch_norm_backward(
            *(grad, x, weight, None, None, mean_C, inverse_C, True, 0.0, wanted)
        )
        by_x, *others = (each if want else None for each, want in zip(found, wanted, strict=True))
        return None, None if by_x is None else by_x.to(x_N.dtype), *others, None, None


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
    with torch.no_grad():
        o_TN = module(x.steps)
    return Timed(o_TN, carried(o_TN.mean(0), module(x.mean)))


def drop(module: TemporalDropout, x: Timed) -> Timed:
    """Apply dropout with the same mask to all steps and to their mean."""
    mask_N = module.mask(x.mean)
    if mask_N is None:
        return x
    with torch.no_grad():
        steps = x.steps * mask_N
    return Timed(steps, x.mean * mask_N)


def normalise(norm: TemporalNorm | Affine, x: Timed) -> Timed:
    """Apply a norm that depends on the step."""
    if isinstance(norm, TemporalNorm):
        mean = norm.of_mean(x.mean, x.steps)
    else:
        mean = mean_of_affine(x.mean, x.steps, *norm.affine(len(x.steps)))
    with torch.no_grad():
        y_TN = norm(x.steps)
    return Timed(y_TN, carried(y_TN.mean(0), mean))
