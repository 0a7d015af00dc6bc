"""What backends have laid out of a network's weights, kept from step to step of a stream."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class Stream:
    """Weights laid out for events, kept from step to step of a stream.

    A layer whose weights are changed on the way, moved or put into another type, is laid out again.
    (In-place changes through ``.data`` are not seen; begin the stream anew after them.) A copy, or
    what was pickled, begins empty.

    >>> Stream().get(torch.ones(8, 8, 3, 3), None, torch.float32) is None
    True
    """

    def __init__(self) -> None:
        self._found: dict[Tensor, tuple[object, Tensor]] = {}

    def get(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Return what was laid out of them for input of a type, if they are the same still."""
        kept = self._found.get(weight)
        if kept is None or kept[0] != _version(weight, bias, dtype):
            return None
        return kept[1]

    def put(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, packed: Tensor) -> None:
        """Keep what was laid out of them."""
        if not weight.is_inference():  # which does not count its changes
            self._found[weight] = _version(weight, bias, dtype), packed

    def __reduce__(self) -> tuple[type[Stream], tuple[()]]:
        return Stream, ()


def _version(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> object:
    """Another where the weights are."""
    tensors = [t for t in (weight, bias) if t is not None and not t.is_inference()]
    return dtype, [(t.data_ptr(), t._version) for t in tensors]
