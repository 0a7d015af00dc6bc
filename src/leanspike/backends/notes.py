"""Which code computed: noted where it is chosen, for whoever watches.

Which backend serves depends on device, type and shape of what comes in, so it is known only
afterwards.
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
    """What has computed so far: names, each once.

    Native neurons and native event-driven convolutions both count as "native"; PyTorch's own
    convolutions are neither. What `torch.compile` has compiled is not seen.
    """

    names: set[str] = field(default_factory=set)
    instruction_sets: set[str] = field(default_factory=set)

    @property
    def backend(self) -> str | None:
        """The names that were noted, parted by commas; None where neither code ran.

        >>> Backends({"reference", "native"}, {"avx2"}).backend
        'native, reference'
        """
        return ", ".join(sorted(self.names)) or None

    @property
    def instructions(self) -> str | None:
        """The native code's instruction set ("plain", "avx2", "avx512"); None if none was told.

        >>> Backends({"reference"}).instructions is None
        True
        """
        return ", ".join(sorted(self.instruction_sets)) or None


_watching: ContextVar[tuple[Backends, ...]] = ContextVar("leanspike_backends", default=())


@contextmanager
def watch_backends() -> Iterator[Backends]:
    """What computes in this thread, for as long as the context lasts.

    >>> from leanspike.neuron import LIF
    >>> with watch_backends() as ran:
    ...     _ = LIF()(torch.zeros(2, 1, dtype=torch.float64))  # which the native code does not know
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
    """Tell those who watch what is about to compute.

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
