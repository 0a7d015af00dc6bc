"""Norms folded for inference: into the layers before them, or into the input of the neurons."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, fx, nn

from leanspike.errors import SurgeryError
from leanspike.graph.modules import submodule
from leanspike.graph.plan import Plan
from leanspike.graph.trace import Shapes
from leanspike.temporal import Affine, ChannelAffine, TemporalNorm, affine_of_norm, unfold

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_norms(plan: Plan) -> Plan:
    """No norm left, and the same answers in eval mode (to rounding).

    A norm that is the same at each step (batch norm, tdBN) goes into the weights of the
    convolution or linear layer before it, if that layer feeds nothing else. Any other becomes a
    scale and a shift of the current: per channel, or per step and channel where it differs from
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
        norm = submodule(root, node)
        if not isinstance(norm, BatchNorm | TemporalNorm):
            continue
        if _folds(root, graph, node):
            _fold_into_layer(root, graph, node)
        elif isinstance(norm, TemporalNorm):
            root.set_submodule(str(node.target), Affine(*norm.affine(norm.timesteps)))
        else:
            root.set_submodule(str(node.target), ChannelAffine(*_affine(norm, node)))
    return folded.after("fold_norms")


def fold_into_layers(root: nn.Module, graph: fx.Graph) -> None:
    """Fold every batch norm of ``root`` (in eval mode) into its convolution or linear layer.

    W ← W·γ/σ and b ← (b − μ)·γ/σ + β. The norms become ``nn.Identity``.

    Raises:
        SurgeryError: if a norm does not follow such a layer, or not that layer alone, or has no
            running statistics.
    """
    for node in list(graph.nodes):
        if not isinstance(submodule(root, node), BatchNorm):
            continue
        if not _folds(root, graph, node):
            raise SurgeryError(
                f"module {node.target}: this norm does not follow a convolution or linear layer "
                "of its own, so it cannot be folded; use norm='keep'"
            )
        _fold_into_layer(root, graph, node)


def remaining_norms(plan: Plan) -> dict[fx.Node, bool]:
    """The norms that cost something at inference, where :func:`fold_norms` leaves a scale.

    The value says whether it is so in the ANN too: a norm that differs from step to step stays
    where the ANN's would have gone into the layer before it.

    >>> from leanspike import spike
    >>> hidden = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), *hidden)
    >>> plan = spike(ann, example_input=torch.zeros(1, 2), norm="bntt").plan
    >>> {node.target: in_ann for node, in_ann in remaining_norms(plan).items()}
    {'3': False}
    """
    root, graph = plan.module, plan.graph
    norms = BatchNorm | TemporalNorm | Affine | ChannelAffine
    return {
        node: _layer_before(root, graph, node) is None
        for node in graph.nodes
        if isinstance(submodule(root, node), norms) and not _folds(root, graph, node)
    }


def _folds(root: nn.Module, graph: fx.Graph, node: fx.Node) -> bool:
    """Whether the weights of the layer before the norm at ``node`` can take it up."""
    norm = submodule(root, node)
    same = isinstance(norm, BatchNorm) or (isinstance(norm, TemporalNorm) and norm.folds)
    return same and _layer_before(root, graph, node) is not None


def _layer_before(root: nn.Module, graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """The layer that only the norm at ``node`` reads, and whose output channels it scales."""
    source = node.all_input_nodes[0]
    alone = _once(graph, node) and len(source.users) == 1
    if source.target is unfold:
        source = source.all_input_nodes[0]
        alone = alone and len(source.users) == 1
    layer = submodule(root, source)
    rank = len(Shapes.of(source).output or ())
    fits = isinstance(layer, CONVOLUTIONS) or (isinstance(layer, nn.Linear) and rank == 2)
    return source if alone and fits and _once(graph, source) else None


@torch.no_grad()
def _fold_into_layer(root: nn.Module, graph: fx.Graph, node: fx.Node) -> None:
    source = _layer_before(root, graph, node)
    assert source is not None
    layer = root.get_submodule(str(source.target))
    scale_C, shift_C = _affine(root.get_submodule(str(node.target)), node)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    fused = deepcopy(layer)
    fused.weight = nn.Parameter(weight * scale_C.view(-1, *[1] * (weight.dim() - 1)))
    fused.bias = nn.Parameter(shift_C + bias * scale_C if isinstance(bias, Tensor) else shift_C)
    fused.requires_grad_(weight.requires_grad)
    root.set_submodule(str(source.target), fused)
    root.set_submodule(str(node.target), nn.Identity())
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.erase_node(node)


@torch.no_grad()
def _affine(norm: nn.Module, node: fx.Node) -> tuple[Tensor, Tensor]:
    """What a norm that is the same at each step does in eval mode: scale and shift, ``[C]``."""
    if isinstance(norm, TemporalNorm):
        scale_1C, shift_1C = norm.affine(1)
        return scale_1C[0], shift_1C[0]
    assert isinstance(norm, BatchNorm)
    if norm.running_mean is None or norm.running_var is None:
        raise SurgeryError(
            f"module {node.target}: this norm has no running statistics, so it cannot be folded; "
            "keep it, or make it with track_running_stats=True and train it"
        )
    weight, bias = (norm.weight, norm.bias) if norm.affine else (None, None)
    return affine_of_norm(norm.running_mean, norm.running_var, norm.eps, weight, bias)


def _once(graph: fx.Graph, node: fx.Node) -> bool:
    return [n.target for n in graph.nodes if n.op == "call_module"].count(node.target) == 1
