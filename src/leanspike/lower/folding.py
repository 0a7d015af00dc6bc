"""Folding norms for inference: into the layers before them, or into the neurons' input."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError
from leanspike.graph.modules import put, submodule
from leanspike.graph.ops import row_of
from leanspike.graph.plan import Plan
from leanspike.graph.trace import Shapes
from leanspike.temporal import Affine, ChannelAffine, TemporalNorm, unstack


def fold_norms(plan: Plan) -> Plan:
    """Remove all norms; the answers in eval mode stay the same (to rounding).

    A norm that is the same at each step (batch norm, tdBN) goes into the layer before it, if that
    is a convolution or a linear layer that feeds nothing else. Any other norm becomes a scale and
    a shift of the current. They are per channel, or per step and channel if the norm differs from
    step to step (``leanspike.temporal.Affine``).

    Raises:
        SurgeryError: for a batch norm without running statistics.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU())
    >>> plan = spike(ann, example_input=torch.zeros(1, 2)).plan
    >>> [node.target for node in fold_norms(plan).graph.nodes if node.op == "call_module"]
    ['0', '2']
    """
    folded = plan.copied()
    root, graph = folded.module, folded.graph
    for node in list(graph.nodes):
        if not _has_scale(root, node):
            continue
        norm = submodule(root, node)
        if _folds(root, graph, node):
            _fold_into_layer(root, graph, node)
        elif isinstance(norm, TemporalNorm):
            put(root, str(node.target), Affine(*norm.affine(norm.timesteps)))
        else:
            put(root, str(node.target), ChannelAffine(*_affine(root, node)))
    return folded.after("fold_norms")


def fold_into_layers(root: nn.Module, graph: fx.Graph) -> None:
    """Fold every batch norm of ``root`` (in eval mode) into its convolution or linear layer.

    W ← W·γ/σ and b ← (b − μ)·γ/σ + β. The norms become ``nn.Identity``.

    Raises:
        SurgeryError: if a norm does not follow such a layer, if that layer feeds something else,
            or if the norm has no running statistics.
    """
    for node in list(graph.nodes):
        if not _has_scale(root, node):
            continue
        if not _folds(root, graph, node):
            raise SurgeryError(
                f"module {node.target}: this norm does not follow a convolution or linear layer "
                "of its own, so it cannot be folded; use norm='keep'"
            )
        _fold_into_layer(root, graph, node)


def remaining_norms(plan: Plan) -> dict[fx.Node, bool]:
    """Return the norms with a cost at inference, for which :func:`fold_norms` leaves a scale.

    The value tells whether the ANN's norm has a cost, too. A norm that differs from step to step
    stays in the SNN, while the ANN's may fold into the layer before it. A norm that measures each
    sample stays in both.

    >>> from leanspike import spike
    >>> hidden = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), *hidden)
    >>> plan = spike(ann, example_input=torch.zeros(1, 2), norm="bntt").plan
    >>> {node.target: in_ann for node, in_ann in remaining_norms(plan).items()}
    {'3': False}
    """
    root, graph = plan.module, plan.graph
    norms = [(node, row_of(node, root).norm) for node in graph.nodes]
    return {
        node: norm.measures or _layer_before(root, graph, node) is None
        for node, norm in norms
        if norm is not None and norm.priced and not _folds(root, graph, node)
    }


def _has_scale(root: nn.Module, node: fx.Node) -> bool:
    """Whether ``node`` is a norm that is a scale and a shift in eval mode."""
    norm = row_of(node, root).norm
    return norm is not None and norm.channels is not None


def _folds(root: nn.Module, graph: fx.Graph, node: fx.Node) -> bool:
    """Whether the weights of the layer before the norm at ``node`` can take it up."""
    norm = row_of(node, root).norm
    if norm is None or norm.channels is None:
        return False
    same = norm.folds(submodule(root, node))
    return same and _layer_before(root, graph, node) is not None


def _layer_before(root: nn.Module, graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """Return the layer that only the norm at ``node`` reads and whose output channels it scales."""
    source = node.all_input_nodes[0]
    alone = _once(graph, node) and len(source.users) == 1
    if source.target is unstack:
        source = source.all_input_nodes[0]
        alone = alone and len(source.users) == 1
    synapses = row_of(source, root).synapses
    if synapses is None or synapses.norm_axis is None:
        return None
    rank = len(Shapes.of(source).output or ())
    fits = synapses.norm_axis in (1, 1 - rank)
    return source if alone and fits and _once(graph, source) else None


@torch.no_grad()
def _fold_into_layer(root: nn.Module, graph: fx.Graph, node: fx.Node) -> None:
    source = _layer_before(root, graph, node)
    assert source is not None
    layer = root.get_submodule(str(source.target))
    scale_C, shift_C = _affine(root, node)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    fused = deepcopy(layer)
    fused.weight = nn.Parameter(weight * scale_C.view(-1, *[1] * (weight.dim() - 1)))
    fused.bias = nn.Parameter(shift_C + bias * scale_C if isinstance(bias, Tensor) else shift_C)
    fused.requires_grad_(weight.requires_grad)
    root.set_submodule(str(source.target), fused)
    put(root, str(node.target), nn.Identity())
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.erase_node(node)


@torch.no_grad()
def _affine(root: nn.Module, node: fx.Node) -> tuple[Tensor, Tensor]:
    """Return scale and shift, ``[C]``, of a norm in eval mode that is the same at each step."""
    norm = row_of(node, root).norm
    assert norm is not None and norm.channels is not None  # noqa: PT018
    found = norm.channels(submodule(root, node))
    if found is None:
        raise SurgeryError(
            f"module {node.target}: this norm has no running statistics, so it cannot be folded; "
            "keep it, or make it with track_running_stats=True and train it"
        )
    return found


def _once(graph: fx.Graph, node: fx.Node) -> bool:
    return [n.target for n in graph.nodes if n.op == "call_module"].count(node.target) == 1
