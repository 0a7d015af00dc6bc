"""From this machine's memory to the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return the tensor on ``device``, without waiting for what computes there.

    >>> send(torch.ones(2), "meta").device
    device(type='meta')
    """
    # A copy to CUDA from memory that is not pinned would wait for all work before it.
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
