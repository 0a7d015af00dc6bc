"""Batch norms folded into the layers before them: one affine map instead of two."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from leanspike.errors import SurgeryError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_norms(root: nn.Module, graph: fx.Graph) -> None:
    """Fold every batch norm of ``root`` (in eval mode) into its convolution or linear layer.

    W ← W·γ/σ and b ← (b − μ)·γ/σ + β. The norms become ``nn.Identity``.

    Raises:
        SurgeryError: if a norm does not follow such a layer, or not that layer alone.
    """
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(root.get_submodule(node.target), NORMS):
            continue
        source = node.all_input_nodes[0]
        before = root.get_submodule(source.target) if source.op == "call_module" else None
        if not isinstance(before, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)) or not (
            _once(graph, source) and _once(graph, node) and len(source.users) == 1
        ):
            raise SurgeryError(
                f"module {node.target}: this norm does not follow a convolution or linear layer "
                "of its own, so it cannot be folded; use norm='keep'"
            )
        norm = root.get_submodule(node.target).eval()
        if norm.running_mean is None:
            raise SurgeryError(
                f"module {node.target}: this norm has no running statistics, so it cannot be "
                "folded; use norm='keep'"
            )
        fuse = fuse_linear_bn_eval if isinstance(before, nn.Linear) else fuse_conv_bn_eval
        fused: nn.Module = fuse(before.eval(), norm)  # type: ignore[type-var, arg-type]
        root.set_submodule(source.target, fused)
        root.set_submodule(node.target, nn.Identity())
        node.replace_all_uses_with(source)
        graph.erase_node(node)


def _once(graph: fx.Graph, node: fx.Node) -> bool:
    return [n.target for n in graph.nodes if n.op == "call_module"].count(node.target) == 1
