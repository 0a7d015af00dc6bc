"""An ordinary network in training on a part of a batch: as the whole batch would have it.

PyTorch's own dropout and batch norms know nothing of other processes, nor of micro-batches. They
are replaced where they call PyTorch's functions. So the network stays as it is, whatever its
classes. leanspike's own layers need no replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from leanspike.distributed import drawn
from leanspike.temporal.synchronise import synchronised_batch_norm, together


@final
class WholeBatch(TorchFunctionMode):
    """While it lasts, masks are drawn for the whole batch, and norms are over all processes.

    Masks come from :func:`leanspike.distributed.drawn`.
    :func:`leanspike.temporal.synchronise.together` tells whether norms go over all processes.
    Random numbers that a network draws in any other way are each process's own.

    >>> from leanspike.distributed import Share, sharing
    >>> x = torch.ones(1, 4)
    >>> _ = torch.manual_seed(0)
    >>> whole = F.dropout(torch.ones(2, 4))
    >>> _ = torch.manual_seed(0)
    >>> with WholeBatch(), sharing(Share(torch.tensor([1]), of=2, together=2)):
    ...     torch.equal(torch.nn.Dropout()(x), whole[1:])
    True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run in the place of each of PyTorch's functions."""
        other = _OTHERS.get(func)
        if other is None:
            return func(*args, **(kwargs or {}))
        return other(func, *args, **(kwargs or {}))


def _dropout(
    func: Callable[..., Tensor],
    input: Tensor,  # noqa: A002
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor:
    if not training or p == 0:
        return func(input, p, training, inplace)
    mask = drawn(input.shape, lambda shape: func(_ones(input, shape), p, True, False))
    return input.mul_(mask) if inplace else input * mask


def _ones(like: Tensor, shape: Any) -> Tensor:
    """Return ones in the memory format of ``like``, in whose order numbers are drawn."""
    ones = like.new_ones(shape)
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.dim())
    if last is None or like.is_contiguous() or not like.is_contiguous(memory_format=last):
        return ones
    return ones.contiguous(memory_format=last)


def _bernoulli(func: Callable[..., Tensor], mask: Tensor, *how: Any, **named: Any) -> Tensor:
    """Draw what stochastic depth of torchvision and timm draws."""
    if mask.dim() == 0:
        return func(mask, *how, **named)
    return mask.copy_(drawn(mask.shape, lambda shape: func(mask.new_empty(shape), *how, **named)))


def _batch_norm(
    func: Callable[..., Tensor],
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training or not together():
        return func(input, running_mean, running_var, weight, bias, training, momentum, eps)
    mean, var = _of_one_group(running_mean), _of_one_group(running_var)
    learned = _of_one_group(weight), _of_one_group(bias)
    return synchronised_batch_norm(input.unsqueeze(0), mean, var, *learned, momentum, eps)[0]


def _of_one_group(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.unsqueeze(0)


_OTHERS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.dropout3d: _dropout,
    F.batch_norm: _batch_norm,
    torch.Tensor.bernoulli_: _bernoulli,
}
