"""Whether a transform of torch runs the code, so that tensors have no memory or values."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def is_transforming() -> bool:
    """Return whether a transform of ``torch.func`` or forward-mode differentiation is active.

    Its tensors have no memory that native code could read, and no values that could be checked.

    >>> torch.func.vmap(lambda x: x + is_transforming())(torch.zeros(2))
    tensor([1., 1.])
    >>> is_transforming()
    False
    """
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


def has_values() -> bool:
    """Return whether tensors have values: no such transform and no ``torch.compile`` is active.

    >>> has_values()
    True
    """
    return not torch.compiler.is_compiling() and not is_transforming()
