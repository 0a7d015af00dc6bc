"""Reading answers from a network's outputs, and checking that values are finite.

Shapes: T timesteps, N samples, K outputs; ``_TNK`` is ``[T, N, K]``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.graph.outputs import mapped

Outputs = TypeVar("Outputs")


def readout(y_TNK: Outputs, mode: Literal["sum", "mean"] = "mean") -> Outputs:
    """Return the answer after every step ("anytime logits") from the outputs of the steps.

    "sum" is Σ_{s≤t} y_s (DIET-SNN trains on its last entry). "mean" is the sum divided by t, as in
    BNTT. The scale of the mean does not grow with t. Use it for margins, temperatures and early
    exit.

    Args:
        y_TNK: the outputs of the steps ``[T, N, K]``, or several such in containers of any kind.
        mode: "sum" or "mean".

    Returns:
        ``[T, N, K]``, in float32 at least. For several outputs it is the same containers.

    >>> readout(torch.tensor([[[1.0]], [[3.0]]]), "mean").flatten().tolist()
    [1.0, 2.0]
    >>> readout(torch.tensor([[[1.0]], [[3.0]]]), "sum").flatten().tolist()
    [1.0, 4.0]
    >>> readout({"logits": torch.ones(2, 1, 1), "aux": None}, "sum")["logits"].ravel().tolist()
    [1.0, 2.0]
    """
    check_readout(mode)
    read: Outputs = mapped(partial(_read_out, mode=mode), y_TNK)
    return read


def _read_out(y_TNK: Tensor, mode: str) -> Tensor:
    y_TNK = y_TNK.to(torch.promote_types(y_TNK.dtype, torch.float32))
    total_TNK = y_TNK.cumsum(0)
    if mode == "sum":
        return total_TNK
    t = torch.arange(1, len(y_TNK) + 1, device=y_TNK.device, dtype=total_TNK.dtype)
    return total_TNK / t.view(-1, *[1] * (y_TNK.dim() - 1))


def check_readout(mode: str) -> None:
    """Raise LeanspikeError unless ``mode`` is the name of a readout."""
    if mode not in ("sum", "mean"):
        raise LeanspikeError(f"readout is {mode!r}; choose one of sum, mean")


def value_range(x: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value. Raise LeanspikeError if any is not finite.

    >>> value_range(torch.tensor([0.5, -2.0]))
    (-2.0, 0.5)
    """
    # aminmax passes NaN on, and is faster than isfinite.
    low, high = torch.stack(x.detach().aminmax()).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise LeanspikeError(
            "the input holds NaN or infinity, which spikes would hide; give finite values"
        )
    return low, high
