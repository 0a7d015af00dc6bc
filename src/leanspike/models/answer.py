"""A network that returns one of the outputs of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from leanspike.errors import LeanspikeError


class Answer(nn.Module):
    """One of a network's outputs, for accuracy, training and early exit.

    The network itself lies at ``network``, and computes the same as without this.

    Args:
        network: a network that returns containers of tensors.
        *path: the keys, numbers or names that lead to the output, from the outermost container.

    >>> import torch
    >>> class Heads(nn.Module):
    ...     def forward(self, x):
    ...         return {"logits": 2 * x, "features": (x, x)}
    >>> Answer(Heads(), "logits")(torch.ones(1)), Answer(Heads(), "features", 1)(torch.ones(1))
    (tensor([2.]), tensor([1.]))
    """

    def __init__(self, network: nn.Module, *path: str | int) -> None:
        super().__init__()
        self.network = network
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        """Return the chosen output.

        Raises LeanspikeError if there is none of that name.
        """
        value: Any = self.network(x)
        for key in self.path:
            try:
                by_key = isinstance(key, int) or isinstance(value, Mapping)
                value = value[key] if by_key else getattr(value, str(key))
            except (LookupError, AttributeError, TypeError):
                has = f": {', '.join(map(repr, value))}" if isinstance(value, Mapping) else ""
                raise LeanspikeError(
                    f"Answer: the network's {type(value).__name__} has no {key!r}; give one of "
                    f"what it returns{has}"
                ) from None
        answer: Tensor = value
        return answer

    def extra_repr(self) -> str:
        """Return the path to the output."""
        return ", ".join(map(repr, self.path))
