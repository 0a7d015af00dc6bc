"""Fusing, in training, a norm with the neurons behind it where a backend computes both at once.

The graph of a training step has one operation in the place of norm and neurons. It runs first the
norm and then the neurons where no backend serves the call, or somebody looks on (a hook). It also
does so where nothing is normalised by this batch. The bits are then those of the plan's own graph.
Norm and neurons as one differ from these bits by the rounding of the statistics' sums. The same
holds of a norm by itself, as before an addition.

Shapes: T timesteps, N samples, C channels; ``_TN`` is ``[T, N, C, ...]``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from leanspike.backends import Call, NormCall, NormRateCall, NormScale, choose
from leanspike.graph.modules import as_module, submodule
from leanspike.graph.ops import row, row_of
from leanspike.graph.plan import Plan
from leanspike.modes import hooks_of_all
from leanspike.neuron import Neuron
from leanspike.temporal import TemporalNorm, stack, unstack
from leanspike.temporal.moments import keep_statistics
from leanspike.temporal.synchronise import together


@dataclass(frozen=True)
class TrainingCode:
    """The code of a training step.

    ``graph`` is the graph of the whole sequence. ``run`` is its code: ``run(network, x, T)``.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
    >>> plan = spike(ann, example_input=torch.zeros(1, 2, 4, 4)).plan
    >>> [n.name for n in TrainingCode.of(plan).graph.nodes if n.target is fire_normalised]
    ['fire_normalised']
    """

    graph: fx.Graph
    run: Callable[..., Any]

    @staticmethod
    def of(plan: Plan) -> TrainingCode:
        """Return the training code of a plan, whose graph stays as it is."""
        graph = copy.deepcopy(plan.graph)
        for node in list(graph.nodes):
            between = _between(node, plan.module)
            if between:
                _put_together(graph, between, node)
        for node in list(graph.nodes):
            module = submodule(plan.module, node)
            if module is not None and _is_norm(node, plan.module, stacked=True):
                _put_alone(graph, node, module)
        graph.lint()
        return TrainingCode(graph, type(as_module(plan.module, graph)).forward)


def _between(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    """Return the nodes from a norm that only these neurons read to the neurons; [] if none."""
    if not isinstance(submodule(root, node), Neuron):
        return []
    found: list[fx.Node] = []
    before = node.args[0]
    while isinstance(before, fx.Node) and len(before.users) == 1:
        found.insert(0, before)
        if before.target not in (stack, unstack):
            return found if _is_norm(before, root, stacked=len(found) == 2) else []
        before = before.args[0]
    return []


def _is_norm(node: fx.Node, root: nn.Module, stacked: bool) -> bool:
    if isinstance(submodule(root, node), TemporalNorm):
        return True
    row = row_of(node, root).norm
    return stacked and row is not None and row.batch and not row.synchronised


def _put_together(graph: fx.Graph, between: list[fx.Node], neuron: fx.Node) -> None:
    norm, last = between[0], between[-1]
    timesteps = last.args[1] if len(between) == 2 else None  # where a batch norm is unstacked
    with graph.inserting_before(neuron):
        modules = (graph.get_attr(str(node.target)) for node in (norm, neuron))
        both = graph.call_function(fire_normalised, (*modules, norm.args[0], timesteps))
    both.meta = {**neuron.meta, "name": neuron.name}
    neuron.replace_all_uses_with(both)
    for node in (neuron, *reversed(between)):
        graph.erase_node(node)


def _put_alone(graph: fx.Graph, norm: fx.Node, module: nn.Module) -> None:
    _, timesteps = (node for node in graph.nodes if node.op == "placeholder")
    stacked = norm.meta["signal"].timed and not isinstance(module, TemporalNorm)
    with graph.inserting_before(norm):
        place = graph.get_attr(str(norm.target))
        how = place, norm.args[0], timesteps if stacked else None
        alone = graph.call_function(normalise_alone, how)
    alone.meta = {**norm.meta, "name": norm.name}
    norm.replace_all_uses_with(alone)
    graph.erase_node(norm)


def normalise_alone(norm: nn.Module, x: Tensor, timesteps: int | None) -> Tensor:
    """Return what a norm makes of ``x``, in the same shape.

    ``x``: stacked, ``[T*N, C, ...]``, if T is given; else ``[T, N, C, ...]`` for a norm that knows
    the step, and ``[N, C, ...]`` for a batch norm that time has not reached.

    >>> norm, x = nn.BatchNorm1d(1), torch.tensor([[0.0], [2.0]])
    >>> normalise_alone(norm, x, 2).flatten().tolist()
    [-0.99999..., 0.99999...]
    """
    still = timesteps is None and not isinstance(norm, TemporalNorm)
    x_TN = x.unsqueeze(0) if still else x if timesteps is None else unstack(x, timesteps)
    call = alone(norm, x_TN, rates=False)
    backend = None if call is None else choose(call)
    if call is None or backend is None:
        y: Tensor = norm(x)
        return y
    found = backend.run(call)
    keep(norm, found.mean_GC, found.var_GC, x_TN)
    y_TN: Tensor = found.y_TN
    return y_TN[0] if still else y_TN if timesteps is None else stack(y_TN)


def alone(norm: nn.Module, x_TN: Tensor, rates: bool) -> NormCall | NormRateCall | None:
    """Return the call of a norm by itself, or None where it must run as it is.

    ``rates``: for rate gradients.

    >>> alone(nn.BatchNorm1d(1).eval(), torch.zeros(2, 2, 1), rates=False) is None
    True
    """
    if not norm.training or torch.compiler.is_compiling() or is_watched(norm):
        return None
    scale = scale_of(norm, len(x_TN))
    if scale is None:
        return None
    return NormRateCall(x_TN, scale) if rates else NormCall(x_TN, scale)


def fire_normalised(norm: nn.Module, neuron: Neuron, x: Tensor, timesteps: int | None) -> Tensor:
    """Return the spikes of neurons behind a norm, ``[T, N, C, ...]``.

    ``x`` enters the norm. It is ``[T*N, C, ...]`` if T is given, else ``[T, N, C, ...]``.

    >>> norm, x = nn.BatchNorm1d(1), torch.tensor([[0.0], [2.0]])
    >>> from leanspike import LIF
    >>> fire_normalised(norm, LIF(0.5), x, 1).flatten().tolist()
    [0.0, 1.0]
    """
    x_TN = x if timesteps is None else unstack(x, timesteps)
    call = call_of(norm, neuron, x_TN, None)
    backend = None if call is None else choose(call)
    if call is None or backend is None:
        y = norm(x)
        o_TN: Tensor = neuron(y if timesteps is None else unstack(y, timesteps))
        return o_TN
    found = backend.run(call)
    keep(norm, found.mean_GC, found.var_GC, x_TN)
    fired_TN: Tensor = found.o_TN
    return fired_TN


def call_of(
    norm: nn.Module,
    neuron: Neuron,
    x_TN: Tensor,
    learned: tuple[str, ...] | None,
    arrival_T: Tensor | None = None,
) -> Call | None:
    """Return the call for a backend, or None if norm and neurons must run one after the other.

    >>> from leanspike import LIF
    >>> call_of(nn.BatchNorm1d(1).eval(), LIF(), torch.zeros(2, 2, 1), None) is None
    True
    """
    if not norm.training or torch.compiler.is_compiling() or is_watched(norm, neuron):
        return None
    scale = scale_of(norm, len(x_TN))
    return None if scale is None else neuron.behind_norm(x_TN, scale, learned, arrival_T)


def is_watched(*modules: nn.Module) -> bool:
    """Return whether modules have hooks, global hooks exist, or a forward was replaced.

    >>> is_watched(nn.ReLU(), nn.BatchNorm1d(1))
    False
    """
    return bool(hooks_of_all()) or any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        for module in modules
    )


def scale_of(norm: nn.Module, timesteps: int) -> NormScale | None:
    """Return the scale and shift of a norm in training, or None if it does more than that.

    >>> scale_of(nn.BatchNorm1d(2, affine=False), 3)
    NormScale(weight_RC=tensor([[1., 1.]]), bias_RC=None, eps=1e-05, together=False)
    """
    if isinstance(norm, TemporalNorm):
        norm.check_steps(timesteps)
        return norm.scale_in_training(timesteps)
    known = row(type(norm)).norm
    if together() or (known is not None and known.synchronised):
        return None
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    weight = norm.weight if norm.affine else torch.ones(norm.num_features)
    bias = norm.bias.unsqueeze(0) if norm.affine else None
    return NormScale(weight.unsqueeze(0), bias, norm.eps)


@torch.no_grad()
def keep(norm: nn.Module, mean_GC: Tensor, var_GC: Tensor, x_TN: Tensor) -> None:
    """Update the running statistics by those of a batch, as the norm itself would.

    >>> norm = nn.BatchNorm1d(1)
    >>> keep(norm, torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, 3, 1))
    >>> norm.running_mean, norm.running_var  # 0.9 + 0.1 * 3/2
    (tensor([0.1000]), tensor([1.0500]))
    """
    count = x_TN.numel() // mean_GC.numel()
    if isinstance(norm, TemporalNorm):
        norm.keep(mean_GC, var_GC, count)
        return
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    if norm.running_mean is None or norm.running_var is None:
        return
    assert momentum is not None
    keep_statistics(norm.running_mean, mean_GC[0], momentum)
    keep_statistics(norm.running_var, var_GC[0] * (count / (count - 1)), momentum)
