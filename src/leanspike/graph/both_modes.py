"""The check that a network has the same graph in training mode and in eval mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from leanspike.errors import SurgeryError
from leanspike.graph.ops import Operations
from leanspike.graph.places import where
from leanspike.graph.tracer import OWN_MODULE


def check_modes(
    training: fx.Graph, evaluation: fx.Graph, ann: nn.Module, operations: Operations
) -> None:
    """Raise SurgeryError unless both graphs are the same, apart from the switch of dropouts.

    Nodes are compared by their places. Their names differ: torch.fx numbers names over all nodes,
    also those that were removed because only one mode needs them.
    """
    pairs = list(zip(training.nodes, evaluation.nodes, strict=False))
    places = {node: place for place, pair in enumerate(pairs) for node in pair}
    for before, after in pairs:
        drops = after.op == "call_function" and operations.row(after.target).dropout is not None
        if drops and after.target == before.target:
            if after.kwargs.get("training", True):
                raise SurgeryError(
                    f"{where(after)}: drops in eval mode too; use nn.Dropout, or pass "
                    "training=self.training"
                )
            if not before.kwargs["training"]:  # it never drops
                after.update_kwarg("p", 0.0)
            continue
        if _signature(before, places) != _signature(after, places):
            _refuse_auxiliary(training, evaluation, ann)
            _refuse_mode(after)
    if len(training.nodes) != len(evaluation.nodes):
        _refuse_auxiliary(training, evaluation, ann)
        _refuse_mode(pairs[-1][1])


def _signature(node: fx.Node, places: Mapping[fx.Node, int]) -> tuple[Any, ...]:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{places.get(n)}")
    return node.op, node.target, str(args), str(kwargs)


def _refuse_mode(node: fx.Node) -> None:
    raise SurgeryError(
        f"{where(node)}: from here on the network computes something else in training mode than in "
        "eval mode (it uses self.training, or draws a number with Python or NumPy); "
        f"{OWN_MODULE}"
    )


def _refuse_auxiliary(training: fx.Graph, evaluation: fx.Graph, ann: nn.Module) -> None:
    """Raise SurgeryError if parts of the network are called in training mode only."""
    before, after = (
        dict.fromkeys(str(node.target) for node in graph.nodes if node.op == "call_module")
        for graph in (training, evaluation)
    )
    heads = {path: path.partition(".")[0] for path in before}
    used = {path.partition(".")[0] for path in after}
    parts = list(dict.fromkeys(head for head in heads.values() if head not in used))
    if not parts:
        return
    flags = [name for name, value in vars(ann).items() if value is True and "aux" in name]
    say = "; ".join(
        [*(f"net.{part} = None" for part in parts), *(f"net.{f} = False" for f in flags)]
    )
    raise SurgeryError(
        f"module {parts[0]}: adds an output in training mode that is missing in eval mode, but an "
        f"SNN has the same outputs in both; say {say}"
    )
