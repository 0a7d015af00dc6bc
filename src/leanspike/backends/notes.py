"""Notes on which code computed, made at the choice of a backend.

The backend depends on device, type and shape of the input, so it is known only afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

import torch

from leanspike.backends.protocol import Backend


@final
@dataclass
class Backends:
    """The names of the code that has computed so far, each once.

    Native neurons and native event-driven convolutions both count as "native". PyTorch's own
    convolutions are not noted, and neither is code that `torch.compile` has compiled.
    """

    names: set[str] = field(default_factory=set)
    instruction_sets: set[str] = field(default_factory=set)

    @property
    def backend(self) -> str | None:
        """The noted names, separated by commas; None if there are none.

        >>> Backends({"reference", "native"}, {"avx2"}).backend
        'native, reference'
        """
        return ", ".join(sorted(self.names)) or None

    @property
    def instructions(self) -> str | None:
        """The native code's instruction set ("plain", "avx2", "avx512"); None if not noted.

        >>> Backends({"reference"}).instructions is None
        True
        """
        return ", ".join(sorted(self.instruction_sets)) or None


_watching: ContextVar[tuple[Backends, ...]] = ContextVar("leanspike_backends", default=())


@contextmanager
def watch_backends() -> Iterator[Backends]:
    """Note what computes in this thread inside the context.

    >>> from leanspike.neuron import LIF
    >>> with watch_backends() as ran:
    ...     _ = LIF()(torch.zeros(2, 1, dtype=torch.float64))  # not served by the native code
    >>> ran.backend
    'reference'
    """
    found = Backends()
    token = _watching.set((*_watching.get(), found))
    try:
        yield found
    finally:
        _watching.reset(token)


def note_backend(name: str, backend: Backend) -> None:
    """Note the backend that is about to compute.

    >>> from leanspike.backends import Reference
    >>> with watch_backends() as ran:
    ...     note_backend("reference", Reference())
    >>> ran.names
    {'reference'}
    """
    if torch.compiler.is_compiling():
        return
    for found in _watching.get():
        found.names.add(name)
        instructions = backend.instructions()
        if instructions is not None:
            found.instruction_sets.add(instructions)
