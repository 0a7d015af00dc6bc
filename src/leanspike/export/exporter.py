"""The base class of exporters, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from leanspike.execute import SpikingNetwork
from leanspike.registry import Registry
from leanspike.section import Section


class Exporter(ABC):
    """Writes a spiking network into a file for other libraries.

    Its ``Config`` holds the keyword arguments of its constructor. It works on ``plan.per_step()``.
    It refuses, with the path, what the file cannot hold.
    """

    Config: ClassVar[type[Section]] = Section

    @abstractmethod
    def write(self, network: SpikingNetwork, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises LeanspikeError for what the file cannot hold, with a way out.
        """


def _config(kind: type) -> type[Section]:
    assert issubclass(kind, Exporter)
    return kind.Config


exporters: Registry[Exporter] = Registry("exporter", "leanspike.exporters", _config)


def write(
    network: SpikingNetwork,
    path: str | Path,
    exporter: str,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network with the exporter of that name, also one of another package.

    Raises LeanspikeError for an unknown name or option, and as the exporter does.
    """
    path = Path(path)
    exporters.create(exporter, options).write(network, path)
    return path
