"""Weights in the layout of a backend, kept from step to step of a stream."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class Stream:
    """Weights laid out for events, kept from step to step of a stream.

    Weights that are changed, moved or converted on the way are laid out again. In-place changes
    through ``.data`` are not noticed; begin the stream anew after them. A copy or an unpickled
    stream begins empty.

    >>> Stream().get(torch.ones(8, 8, 3, 3), None, torch.float32) is None
    True
    """

    def __init__(self) -> None:
        self._found: dict[Tensor, tuple[object, Tensor]] = {}

    def get(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Return the laid out weights for input of a type, if the weights have not changed."""
        kept = self._found.get(weight)
        if kept is None or kept[0] != _version(weight, bias, dtype):
            return None
        return kept[1]

    def put(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, packed: Tensor) -> None:
        """Keep laid out weights."""
        if not weight.is_inference():  # inference tensors do not count changes
            self._found[weight] = _version(weight, bias, dtype), packed

    def __reduce__(self) -> tuple[type[Stream], tuple[()]]:
        return Stream, ()


def _version(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> object:
    """Return a value that changes when the weights do."""
    tensors = [t for t in (weight, bias) if t is not None and not t.is_inference()]
    return dtype, [(t.data_ptr(), t._version) for t in tensors]
