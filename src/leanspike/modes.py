"""Contexts in which a network has another mode, or after which its buffers are restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Set eval mode inside the context, and restore the mode of each module afterwards.

    >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    >>> with eval_mode(network):
    ...     print(network[0].training)
    False
    >>> network[0].training, network[1].training
    (True, False)
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Restore the buffers, such as running statistics, with their values afterwards.

    >>> network = nn.BatchNorm1d(2)
    >>> with buffers_kept(network):
    ...     _ = network(torch.rand(4, 2))
    >>> network.num_batches_tracked
    tensor(0)
    """
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    held = [
        (module._buffers, dict(module._buffers))
        for module in network.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # it replaces no buffers
    ]
    try:
        yield
    finally:
        for buffers, before in held:
            buffers.clear()
            buffers.update(before)
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def hooks_of_all() -> list[str]:
    """Return the kinds of global hooks that PyTorch's modules have now.

    >>> hooks_of_all()
    []
    """
    kinds = ("forward", "forward_pre", "backward", "backward_pre")
    return [kind for kind in kinds if vars(nn.modules.module)[f"_global_{kind}_hooks"]]
