"""A layer of PyTorch's that gives way to one of ours."""

from __future__ import annotations

from typing import Any, Self

from torch import nn


class StandIn(nn.Module):
    """Another class for a layer that is there: beside PyTorch's class, a base of ours."""

    @classmethod
    def of(cls, layer: nn.Module) -> Self:
        """Return the same layer, parameters and hooks shared."""
        found = cls.__new__(cls)
        found.__dict__ = layer.__dict__
        return found


def plain(layer: nn.Module) -> nn.Module:
    """The layer of PyTorch's that a stand-in stands for, parameters and hooks shared; else itself.

    >>> class Ours(StandIn, nn.Linear):
    ...     pass
    >>> type(plain(Ours.of(nn.Linear(2, 3)))).__name__
    'Linear'
    """
    if not isinstance(layer, StandIn):
        return layer
    theirs: Any = next(kind for kind in type(layer).__mro__ if not issubclass(kind, StandIn))
    found: nn.Module = theirs.__new__(theirs)
    found.__dict__ = layer.__dict__
    return found
