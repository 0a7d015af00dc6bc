"""Passes over a network's plan that give the same answers for less."""

from leanspike.lower.folding import fold_norms, remaining_norms

__all__ = ["fold_norms", "remaining_norms"]
