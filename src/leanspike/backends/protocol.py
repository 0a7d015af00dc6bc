"""What a backend is, and where all of them are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from leanspike.backends.calls import Call
from leanspike.registry import Registry


class Backend(ABC):
    """Code that computes calls: plain PyTorch, C for the CPU, kernels for another processor.

    A subclass registers itself with ``@backends.register("its_name")``. It is made anew, without
    arguments, wherever a backend is chosen, and keeps nothing. For each call that it serves it
    promises the reference's spikes, bit for bit, in the reference's shape and dtype. It promises
    the reference's gradients to rounding, and for a convolution PyTorch's results to rounding.
    ``tests/backends/test_contract.py`` holds every registered backend to that.
    """

    def missing(self) -> str | None:
        """Why it cannot run on this machine, and what to do; None where it can."""
        return None

    @abstractmethod
    def serves(self, call: Call) -> bool:
        """Whether it can compute this call here, and, where there is a choice, is the faster one.

        It is asked at every call of a layer, so what rules most calls out comes first. Under
        ``torch.compile`` it is traced, with tensors that have no values.
        """

    @abstractmethod
    def run(self, call: Call) -> Any:
        """Return the answer to a call that it serves; of what type, the call's class says."""

    def instructions(self) -> str | None:
        """Return the instruction set that it works with now; None where that says nothing."""
        return None


backends: Registry[Backend] = Registry("backend", "leanspike.backends")
"""All of them, by name."""
