"""Reading files back with the libraries that they are for, if those are installed.

Each reader runs step by step, as in its own documentation. The outputs of each layer of neurons are
recorded. The libraries are imported when a file is read, and not before.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.export.hdf5 import read_graph
from leanspike.export.imported import from_nir
from leanspike.export.nodes import path_of
from leanspike.export.targets import Target, target_of
from leanspike.optional import import_optional

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Reader(ABC):
    """Reads a file with a target's own library."""

    @abstractmethod
    def read(self, path: Path, *, soft: bool) -> nn.Module:
        """Return the library's network, a function of a step's input and a state."""


class Norse(Reader):
    """Norse's reader, whose reset is an argument."""

    def read(self, path: Path, *, soft: bool) -> nn.Module:
        """See :meth:`Reader.read`."""
        nir, norse = import_optional("nir", "nir"), import_optional("norse.torch", "peers")
        reset = import_optional("norse.torch.functional.reset", "peers")
        method = reset.reset_subtract if soft else reset.reset_value
        network: nn.Module = norse.from_nir(nir.read(path), reset_method=method, dt=1e-4)
        return network


class SpikingJelly(Reader):
    """SpikingJelly's reader, whose neurons reset to 0."""

    def read(self, path: Path, *, soft: bool) -> nn.Module:  # noqa: ARG002
        """See :meth:`Reader.read`."""
        exchange = import_optional("spikingjelly.activation_based.nir_exchange", "peers")
        network: nn.Module = exchange.import_from_nir(path, dt=1e-4)
        return network


class SnnTorch(Reader):
    """snnTorch's reader, whose neurons reset to 0."""

    def read(self, path: Path, *, soft: bool) -> nn.Module:  # noqa: ARG002
        """See :meth:`Reader.read`."""
        nir = import_optional("nir", "nir")
        library = import_optional("snntorch.import_nir", "peers")
        network: nn.Module = library.import_from_nir(nir.read(path))
        return network


READERS: Mapping[str, type[Reader]] = {
    "norse": Norse,
    "spikingjelly": SpikingJelly,
    "snntorch": SnnTorch,
}


class ReadBack:
    """Runs a file by its target's own reader.

    Args:
        path: the path of the file.
        target: the target of the file.
        soft: whether the reader is to subtract the threshold, if it has that option.
        layers: the names of its layers of neurons in the network, and in the file.

    Raises:
        LeanspikeError: if the library is not installed, or does not read the file.
    """

    reader: ClassVar[Mapping[str, type[Reader]]] = READERS

    def __init__(self, path: Path, target: str, *, soft: bool, layers: Mapping[str, str]) -> None:
        if target not in READERS:
            raise LeanspikeError(
                f"{_why_not(target_of(target))}, so this file cannot be read back; verify one of "
                f"{', '.join(READERS)}, or read it there: {target_of(target).reading}"
            )
        self.path, self.target, self.soft, self.layers = path, target, soft, layers

    @torch.no_grad()
    def run(self, steps: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output of each step, and the spikes of each layer: ``[T, N, ...]`` each.

        ``steps`` are the inputs of the steps, ``[N, ...]`` each. The network is read anew, since
        some libraries keep the state inside.
        """
        spikes: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        with _quiet():
            network = READERS[self.target]().read(self.path, soft=self.soft)
            for name, node in self.layers.items():
                neurons = network.get_submodule(node.replace(".", "_"))
                neurons.register_forward_hook(_noting(spikes[name]))
            outputs, state = [], None
            for x_N in steps:
                y_N, state = network(x_N, state)
                outputs.append(y_N)
        found = {name: torch.stack(each) for name, each in spikes.items()}
        return torch.stack(outputs), found


def _why_not(target: Target) -> str:
    if target.package is None:
        return f"no reader of {target.title} is on PyPI, or it needs the chip"
    return f"{target.package} wants an older nir than leanspike"


class ByRules:
    """Runs a file by leanspike itself, by the rules of its target.

    It shows the cost of an approximation without a reader. It proves nothing about the target's own
    reader.

    Args: see :class:`ReadBack`.
    """

    def __init__(self, path: Path, target: str, *, layers: Mapping[str, str]) -> None:
        graph = read_graph(path)
        if target_of(target).clamps:
            for node in graph.nodes.values():
                if type(node).__name__ == "IF":
                    node.metadata["floor"] = 1.0
        self.network, self.layers = from_nir(graph, encode="frames"), layers

    @torch.no_grad()
    def run(self, steps: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the same as :meth:`ReadBack.run`."""
        spikes: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        handles = [
            self.network.get_submodule(path_of(node)).register_forward_hook(_noting(spikes[name]))
            for name, node in self.layers.items()
        ]
        try:
            outputs = self.network(torch.stack(list(steps)))
        finally:
            for handle in handles:
                handle.remove()
        return outputs, {name: found for name, (found,) in spikes.items()}


def _noting(found: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def note(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    return note


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the prints and warnings of the libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
