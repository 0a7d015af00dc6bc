"""From this machine's memory to the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on ``device``; nothing that computes there is waited for.

    >>> send(torch.ones(2), "meta").device
    device(type='meta')
    """
    # A CUDA device is fed from pinned memory, or every copy would wait for all work before it.
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
