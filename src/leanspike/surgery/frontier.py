"""The values that a halted run needs to go on, in little memory: each spike takes a bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, fx


@final
@dataclass(frozen=True)
class PackedSpikes:
    """Spikes packed into bits: each value is 0 or the one height of its place in a sample.

    >>> packed = PackedSpikes.of(0.5 * torch.eye(3))
    >>> torch.equal(packed.unpacked(), 0.5 * torch.eye(3))
    True
    >>> PackedSpikes.of(torch.tensor([[1.0], [2.0]])) is None
    True
    """

    bits: np.ndarray[Any, Any]
    heights: Tensor
    like: Tensor
    """A tensor without memory, which keeps type, device, shape and strides."""

    @staticmethod
    def of(x: Tensor) -> PackedSpikes | None:
        """Return the values packed, or None if they are no such spikes or lie with gaps."""
        if not x.is_floating_point() or x.numel() == 0 or _in_order(x) is None:
            return None
        heights, there = x.amax(0), x != 0
        if not torch.equal(there * heights, x):
            return None
        in_order = _in_order(there)
        assert in_order is not None
        return PackedSpikes(np.packbits(in_order.cpu().numpy()), heights, _blueprint(x))

    def unpacked(self) -> Tensor:
        """Return the values as they were, in the same layout."""
        found = torch.empty_strided(
            self.like.shape, self.like.stride(), dtype=torch.bool, device=self.heights.device
        )
        in_order = _in_order(found)
        assert in_order is not None
        in_order.copy_(torch.from_numpy(np.unpackbits(self.bits, count=found.numel())))
        return found * self.heights


def pack(env: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Return the values of a halted run, with declared spikes packed where that is possible."""
    return {
        node: (PackedSpikes.of(value) or value) if _are_spikes(node, value) else value
        for node, value in env.items()
    }


def unpack(env: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Return the values with all spikes unpacked."""
    return {n: v.unpacked() if isinstance(v, PackedSpikes) else v for n, v in env.items()}


def packed_bytes(env: Mapping[fx.Node, Any]) -> int:
    """Return the bytes that the values of a halted run will take, without parameters."""
    total = 0
    storages: dict[int, int] = {}
    for node, value in env.items():
        if not isinstance(value, Tensor) or node.op == "get_attr":
            continue
        if _are_spikes(node, value):
            total += value.numel() // 8 + value[0].nbytes
        else:  # views share it
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return total + sum(storages.values())


def _are_spikes(node: fx.Node, value: Any) -> bool:
    """Whether these are declared to be spikes, and the batch is large enough for packing."""
    signal = node.meta.get("signal")
    declared = signal is not None and signal.timed and signal.kind == "spike"
    return declared and isinstance(value, Tensor) and value.dim() > 1 and len(value) > 8


def _in_order(x: Tensor) -> Tensor | None:
    """Return a view of all elements in the order of memory; None if there are gaps or repeats."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not (x.is_contiguous() or last):
        return None
    return x.as_strided((x.numel(),), (1,))


def _blueprint(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
