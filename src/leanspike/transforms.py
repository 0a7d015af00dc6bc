"""Whether torch looks on while a network runs, and its tensors are not what they seem."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_transformed(x: Tensor) -> bool:
    """Whether a transform of ``torch.func`` is at work, or forward-mode differentiation.

    Such a tensor has no memory that native code could read, and no values that could be asked for.

    >>> torch.func.vmap(lambda x: x + is_transformed(x))(torch.zeros(2))
    tensor([1., 1.])
    >>> is_transformed(torch.zeros(2))
    False
    """
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return wrapped or forward_ad._current_level >= 0


def is_transforming() -> bool:
    """Whether any such transform is at work, on whatever tensor.

    >>> torch.func.vmap(lambda x: x + is_transforming())(torch.zeros(2))
    tensor([1., 1.])
    >>> is_transforming()
    False
    """
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


def has_values(x: Tensor) -> bool:
    """Whether the values of a tensor can be looked at: by no transform, nor ``torch.compile``.

    >>> has_values(torch.zeros(2))
    True
    """
    return not torch.compiler.is_compiling() and not is_transformed(x)
