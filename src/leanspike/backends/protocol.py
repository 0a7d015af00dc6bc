"""The base class of backends, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from leanspike.backends.calls import Call
from leanspike.registry import Registry


class Backend(ABC):
    """Code that computes calls: plain PyTorch, C for the CPU, kernels for another processor.

    A subclass is registered with ``@backends.register("its_name")``. It is made anew, without
    arguments, at each choice of a backend, and keeps no state. For each call that it serves it
    promises the reference's spikes, bit for bit, in the reference's shape and dtype. It promises
    the reference's gradients to rounding, and for a convolution PyTorch's results to rounding. The
    gradients of a convolution, and its results where it is ``learning``, may differ by 5e-5 of the
    largest.
    ``tests/backends/test_contract.py`` tests every registered backend for that.
    """

    def missing(self) -> str | None:
        """Return why it cannot run on this machine and what to do, or None if it can."""
        return None

    @abstractmethod
    def serves(self, call: Call) -> bool:
        """Return whether it can compute this call here, and is faster than the alternatives.

        It is called for every call of a layer, so checks that exclude most calls should come first.
        Under ``torch.compile`` it is traced, with tensors that have no values.
        """

    @abstractmethod
    def run(self, call: Call) -> Any:
        """Return the answer to a call that it serves. The call's class documents the type."""

    def instructions(self) -> str | None:
        """Return the instruction set that it uses now, or None if it has none."""
        return None


backends: Registry[Backend] = Registry("backend", "leanspike.backends")
"""All backends by name."""
