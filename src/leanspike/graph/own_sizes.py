"""Making calls read the number of samples from their own signal, which may have timesteps.

Where timesteps are stacked, axis 0 of a signal is T times as long as that of the image.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fractions import Fraction

from torch import fx

from leanspike.errors import SurgeryError
from leanspike.graph.costs import signal_nodes
from leanspike.graph.ops import Signal
from leanspike.graph.places import where
from leanspike.graph.samples import counts_samples, pieces


def take_own_sizes(graph: fx.Graph, node: fx.Node) -> None:
    """Replace numbers of samples among a call's inputs by those of its own signal.

    In ``y.view(x.size(0), -1)`` the image x has fewer rows than y if time reaches y.
    """
    sizes = list(filter(counts_samples, node.all_input_nodes))
    signals = signal_nodes(node)
    about = [*(s for s in signals if s.meta["signal"].timed), *signals]
    about += filter(_counts_steps, sizes)
    for size in sizes:
        if about and _counts_steps(size) != _counts_steps(about[0]):
            with graph.inserting_before(node):
                node.replace_input_with(size, _own_size(graph, size, about[0]))
    if counts_samples(node):
        counted = [source for source in node.all_input_nodes if counts_samples(source)]
        node.meta["steps"] = any(map(_counts_steps, counted or node.all_input_nodes))


def _own_size(graph: fx.Graph, size: fx.Node, about: fx.Node) -> fx.Node:
    """Return the node of the number ``size`` for as many samples as ``about`` has or counts."""
    own, times, has = about, size.meta["grows"], about.meta.get("grows")
    steps = _counts_steps(about)
    meta = {"signal": Signal(steps, None), "steps": steps, "shape": None}
    if counts_samples(about) and about.meta["several"]:
        own = graph.call_function(operator.getitem, (about, 0))
        own.meta.update(meta, grows=has)
    elif not counts_samples(about):
        own, has = graph.call_method("size", (about, 0)), pieces(about)
        own.meta.update(meta, grows=has)
    if times is None or has is None:
        raise SurgeryError(
            f"{where(size)}: computes with the number of samples, which differs where timesteps "
            "are stacked; write the number itself, or leave it out"
        )
    ratio = Fraction(times, has)
    if ratio.denominator != 1:
        own = graph.call_function(operator.floordiv, (own, ratio.denominator))
        own.meta.update(meta, grows=times)
    if ratio.numerator != 1:
        own = graph.call_function(operator.mul, (own, ratio.numerator))
        own.meta.update(meta, grows=times)
    if size.meta["several"]:
        own = graph.call_function(_beginning, (size, own))
        own.meta.update(meta, grows=times, several=True)
    return own


def _counts_steps(node: fx.Node) -> bool:
    """Whether a number of samples includes timesteps; for a signal, whether it is timed."""
    return bool(node.meta.get("steps", node.meta["signal"].timed))


def _beginning(sizes: Sequence[int], first: int) -> tuple[int, ...]:
    """Return the sizes with another number of samples."""
    return first, *sizes[1:]
