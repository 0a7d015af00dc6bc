"""Whether torch looks on while a network runs, and its tensors are not what they seem."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def is_transforming() -> bool:
    """Return whether a transform of ``torch.func`` is at work, or forward-mode differentiation.

    Its tensors have no memory that native code could read, and no values that could be asked for.

    >>> torch.func.vmap(lambda x: x + is_transforming())(torch.zeros(2))
    tensor([1., 1.])
    >>> is_transforming()
    False
    """
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


def has_values() -> bool:
    """Return whether values can be looked at: by no such transform, nor ``torch.compile``.

    >>> has_values()
    True
    """
    return not torch.compiler.is_compiling() and not is_transforming()
