"""Norms folded for inference: into the layers before them, or into the input of the neurons."""

from __future__ import annotations

from copy import deepcopy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from leanspike.errors import SurgeryError
from leanspike.surgery.network import SpikingNetwork
from leanspike.surgery.trace import Shapes
from leanspike.temporal import Affine, TemporalNorm

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_norms(snn: SpikingNetwork) -> SpikingNetwork:
    """A copy for inference, with no norm left in it and the same answers (to rounding).

    A batch norm goes into the weights of the layer before it. A temporal norm differs from step to
    step and becomes the scale and shift, per step and channel, of the current that enters the
    neurons (``leanspike.temporal.Affine``).

    Raises:
        SurgeryError: for a batch norm that does not follow a layer of its own.

    >>> import torch
    >>> from leanspike.surgery import spike
    >>> hidden = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), *hidden)
    >>> snn = spike(ann, example_input=torch.zeros(1, 2), norm="bntt").eval()
    >>> folded, x = fold_norms(snn), torch.randn(4, 2)
    >>> type(folded.get_submodule("3")).__name__, bool((folded(x) == snn(x)).float().mean() > 0.99)
    ('Affine', True)
    """
    folded = deepcopy(snn).eval()
    for path, module in list(folded.named_modules()):
        if isinstance(module, TemporalNorm):
            folded.set_submodule(path, Affine(*module.affine(module.timesteps)))
    fold_into_layers(folded, folded.plan.graph)
    return folded


def fold_into_layers(root: nn.Module, graph: fx.Graph) -> None:
    """Fold every batch norm of ``root`` (in eval mode) into its convolution or linear layer.

    W ← W·γ/σ and b ← (b − μ)·γ/σ + β. The norms become ``nn.Identity``.

    Raises:
        SurgeryError: if a norm does not follow such a layer, or not that layer alone, or has no
            running statistics.
    """
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(root.get_submodule(node.target), NORMS):
            continue
        source = node.all_input_nodes[0]
        layer = _layer_before(root, graph, node)
        norm = root.get_submodule(node.target).eval()
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        fused: nn.Module = fuse(layer.eval(), norm)  # type: ignore[type-var, arg-type]
        fused.requires_grad_(any(p.requires_grad for p in layer.parameters()))  # a new bias too
        root.set_submodule(source.target, fused)
        root.set_submodule(node.target, nn.Identity())
        node.replace_all_uses_with(source)
        graph.erase_node(node)


def _layer_before(root: nn.Module, graph: fx.Graph, node: fx.Node) -> nn.Module:
    """The layer that only the norm at ``node`` reads, and whose output channels it scales."""
    source = node.all_input_nodes[0]
    layer = root.get_submodule(str(source.target)) if source.op == "call_module" else None
    alone = _once(graph, source) and _once(graph, node) and len(source.users) == 1
    rank = len(Shapes.of(node).output or ())
    fits = isinstance(layer, CONVOLUTIONS) or (isinstance(layer, nn.Linear) and rank == 2)
    if layer is None or not (alone and fits):
        raise SurgeryError(
            f"module {node.target}: this norm does not follow a convolution or linear layer of its "
            "own, so it cannot be folded; use norm='keep'"
        )
    if root.get_submodule(str(node.target)).running_mean is None:
        raise SurgeryError(
            f"module {node.target}: this norm has no running statistics, so it cannot be folded; "
            "use norm='keep'"
        )
    return layer


def _once(graph: fx.Graph, node: fx.Node) -> bool:
    return [n.target for n in graph.nodes if n.op == "call_module"].count(node.target) == 1
