"""Passes over a network's plan that give the same answers at a lower cost."""

from leanspike.lower.convolutions import event_driven
from leanspike.lower.folding import fold_norms, remaining_norms
from leanspike.lower.passes import DEFAULT, PASSES, Pass, apply_passes
from leanspike.lower.pooling import tiled_pooling

__all__ = [
    "DEFAULT",
    "PASSES",
    "Pass",
    "apply_passes",
    "event_driven",
    "fold_norms",
    "remaining_norms",
    "tiled_pooling",
]
