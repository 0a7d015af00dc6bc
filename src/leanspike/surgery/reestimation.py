"""Measuring the statistics of norms again, with the neurons in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx

from leanspike.execute.network import SpikingNetwork
from leanspike.graph.ops import is_batch_norm
from leanspike.surgery.sweep import Sweep
from leanspike.temporal import TemporalNorm
from leanspike.temporal.moments import Moments, with_others


def reestimate(sweep: Sweep) -> tuple[tuple[str, ...], list[Tensor] | None]:
    """Set the running mean and variance of each norm that time reaches, from all images and steps.

    Returns:
        The paths of the norms, and the network's answers with their new statistics. The answers
        are None if a norm was called twice: its first call then ran with other statistics.
    """
    norms = {node: norm for node in sweep.nodes if (norm := _timed_norm(sweep.snn, node))}

    def visit(node: fx.Node, inputs: Iterable[Tensor]) -> None:
        norm = norms[node]
        if isinstance(norm, TemporalNorm):
            with with_others(sweep.group):
                norm.set_statistics(inputs)
            return
        moments = Moments((1,))
        with with_others(sweep.group):
            moments.add_all(x.transpose(0, 1).flatten(1) for x in inputs)
        norm.running_mean.copy_(moments.mean)
        norm.running_var.copy_(moments.variance())

    answers = sweep.halting(norms, visit)
    paths = tuple(str(node.target) for node in norms)
    return paths, answers if len(set(paths)) == len(paths) else None


def _timed_norm(snn: SpikingNetwork, node: fx.Node) -> Any:
    """Return the norm that a node calls, if time reaches it and its statistics can be measured."""
    if node.op != "call_module" or not node.meta["signal"].timed:
        return None
    norm = snn.get_submodule(str(node.target))
    if isinstance(norm, TemporalNorm):
        return norm
    if not is_batch_norm(norm) or norm.running_mean is None or norm.running_var is None:
        return None
    return norm
