"""Importing a network of another library from NIR as a spiking network."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import fx, nn

from leanspike.errors import LeanspikeError, check_count, check_number
from leanspike.execute import SpikingNetwork
from leanspike.export.hdf5 import read_graph
from leanspike.export.layers import Shape, layer_of
from leanspike.export.nir import DT
from leanspike.export.nodes import LARGEST, ends, kind_of, path_of, shape_after, shape_of
from leanspike.export.numbers import NEURONS, Reading, record_of
from leanspike.neuron import NeuronRecord, neuron_of
from leanspike.optional import import_optional
from leanspike.surgery import spike

KINDS = f"{', '.join(NEURONS[:-1])} or {NEURONS[-1]}"
LONGEST = 200
"""The most letters of a node's name."""


def from_nir(
    source: Any,
    timesteps: int | None = None,
    *,
    dt: float | None = None,
    reset: Literal["soft", "hard"] = "hard",
    encode: Literal["direct", "frames", "poisson"] = "direct",
) -> SpikingNetwork:
    """Return a spiking network from a NIR file or graph, to evaluate, train and save.

    Its layers have the names of the nodes. A file that :func:`leanspike.to_nir` wrote is read
    exactly. Written again, it is the same file.

    Args:
        source: a file, or a ``nir.NIRGraph``.
        timesteps: T, the default number of steps. Default: the file's.
        dt: the seconds of a step, by which time constants become leaks. Default: the file's, else
            0.0001, as in SpikingJelly and snnTorch. For files by Norse give 1e-6: Norse writes
            time constants in units of its own dt of 0.001.
        reset: the reset after a spike, if the file does not name it. "hard" is NIR's own; "soft"
            is for files by sinabs.
        encode: the encoder of the input, as in ``leanspike.spike``.

    Returns:
        The network, in eval mode. Its weights are trained, the numbers of its neurons are not.

    Raises:
        LeanspikeError: in one line, for a file that is damaged or leads elsewhere, for node types
            that leanspike does not support, for cycles, and for missing timesteps.

    Example:
        >>> from leanspike import LIF, to_nir
        >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> snn = spike(ann, example_input=torch.zeros(1, 2), neuron=LIF(leak=0.5), timesteps=4)
        >>> same, x = from_nir(to_nir(snn)), torch.randn(16, 2)
        >>> torch.equal(same(x), snn(x))
        True
    """
    nir = import_optional("nir", "nir")
    graph = source if isinstance(source, nir.NIRGraph) else read_graph(_path(source))
    said = _metadata(graph)
    steps = check_count("timesteps", _told(timesteps, said))
    step_seconds = check_number("dt", said.get("dt", DT) if dt is None else dt, DT)
    if reset not in ("soft", "hard"):
        raise LeanspikeError(f"reset is {reset!r}; choose one of soft, hard")
    decay: Any = "exponential" if said.get("decay") == "exponential" else "euler"
    builder = Builder(graph, Reading(step_seconds, reset, decay))
    ann, records, shape = builder.build()
    lead = (1, 1) if encode == "frames" else (1,)
    return spike(
        ann.eval(),
        example_input=torch.zeros(*lead, *shape),
        timesteps=steps,
        encode=encode,
        neuron=lambda path: neuron_of(records[path]),
    )


def _path(source: Any) -> Path:
    if not isinstance(source, str | Path):
        raise LeanspikeError(
            f"source is a {type(source).__name__}; give a file, as 'network.nir', or a NIRGraph"
        )
    return Path(source)


def _told(timesteps: int | None, said: Mapping[str, Any]) -> Any:
    if timesteps is None and "timesteps" not in said:
        raise LeanspikeError(
            "timesteps is missing, and the file does not say it either; give it, as "
            "from_nir(file, timesteps=5)"
        )
    return said["timesteps"] if timesteps is None else timesteps


def _metadata(graph: Any) -> dict[str, Any]:
    """Return the graph's metadata as plain values."""
    found = graph.metadata if isinstance(graph.metadata, dict) else {}
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}
    return {
        k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in plain.items()
    }


@final
class Builder:
    """Builds the ANN of a graph: its layers, with a ReLU for each layer of neurons.

    Attributes:
        nodes, edges: those of the graph, and of graphs inside it.
        values: the node in the ANN's graph for each node, with its shape.
    """

    def __init__(self, graph: Any, reading: Reading) -> None:
        self.reading = reading
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self._take(graph, "")
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            self.sources[target].append(source)
        self.numbers = 0
        self.graph = fx.Graph()
        self.layers: dict[str, nn.Module] = {}
        self.records: dict[str, NeuronRecord] = {}
        self.values: dict[str, tuple[fx.Node, Shape]] = {}

    def build(self) -> tuple[nn.Module, Mapping[str, NeuronRecord], Shape]:
        """Return the ANN, the record of each ReLU by its path, and the shape of a sample."""
        inputs = [name for name, node in self.nodes.items() if kind_of(node) == "Input"]
        first = [name for name in inputs if not self.sources[name]]
        leads = {source for source, _ in self.edges}
        last = [name for name in self.nodes if name not in leads]
        if len(first) != 1 or len(last) != 1:
            raise LeanspikeError(
                f"the graph has {len(first)} inputs and {len(last)} outputs; give a graph with one "
                "of each"
            )
        for name in self._in_order():
            self._add(name)
        if not self.records:
            raise LeanspikeError(f"the graph has no neurons; give one with {KINDS}")
        self.graph.output(self.values[last[0]][0])
        shape = self.values[first[0]][1]
        return fx.GraphModule(self._tree(), self.graph), self.records, shape

    # -- the graph, flat -----------------------------------------------------------------------

    def _take(self, graph: Any, prefix: str) -> None:
        """Take in nodes and edges. A graph inside is replaced by its own nodes."""
        if prefix.count(".") > 8:
            raise LeanspikeError(f"node {prefix[:40]}: graphs are nested too deep; write one graph")
        inside: dict[str, Any] = {}
        for name, node in graph.nodes.items():
            if not name.isprintable() or len(name) > LONGEST:
                raise LeanspikeError(
                    f"a node is named {name[:40]!r}; give it a name of at most {LONGEST} letters, "
                    "in one line"
                )
            if kind_of(node) == "NIRGraph":
                self._take(node, f"{prefix}{name}.")
                inside[name] = node
            else:
                self.nodes[f"{prefix}{name}"] = node
        for source, target in graph.edges:
            for end in (source, target):
                if end not in graph.nodes:
                    raise LeanspikeError(
                        f"an edge leads to {end!r}, which is no node; write one of "
                        f"{', '.join(list(graph.nodes)[:8])}"
                    )
            self.edges += [
                (f"{prefix}{start}", f"{prefix}{end}")
                for start in ends(source, inside, "Output")
                for end in ends(target, inside, "Input")
            ]

    def _in_order(self) -> list[str]:
        try:
            return list(TopologicalSorter(self.sources).static_order())
        except CycleError as error:
            raise LeanspikeError(
                f"the graph has a cycle through {', '.join(error.args[1][:3])}; leanspike's "
                "networks go forward: write one without recurrence"
            ) from None

    # -- node by node --------------------------------------------------------------------------

    def _add(self, name: str) -> None:
        node, kind = self.nodes[name], kind_of(self.nodes[name])
        sources = self.sources[name]
        if kind == "Input" and not sources:
            shape = shape_of(name, node.input_type["input"])
            self.values[name] = self.graph.placeholder("x"), shape
            return
        value, before = self._sum(name, sources)
        if kind in ("Input", "Output"):
            self.values[name] = value, before
            return
        path = self._path(name)
        if kind in NEURONS:
            self.records[path] = record_of(name, kind, node, self.reading, before)
            self.layers[path], after = nn.ReLU(), before
        else:
            self.layers[path] = layer_of(name, kind, node, before)
            after = shape_after(name, self.layers[path], before)
        self._count(name, after)
        self.values[name] = self.graph.call_module(path, (value,)), after

    def _count(self, name: str, after: Shape) -> None:
        """Refuse a network that no memory could hold, before it is computed."""
        self.numbers += math.prod(after)
        if self.numbers > LARGEST:
            raise LeanspikeError(
                f"node {name}: up to it a sample takes {self.numbers:,} numbers, more than "
                f"{LARGEST:,}; write a network of smaller inputs"
            )

    def _sum(self, name: str, sources: list[str]) -> tuple[fx.Node, Shape]:
        if not sources:
            raise LeanspikeError(f"node {name}: nothing leads to it; write an Input before it")
        (value, shape), *others = (self.values[source] for source in sources)
        for other, its_shape in others:
            if its_shape != shape:
                raise LeanspikeError(
                    f"node {name}: {shape} and {its_shape} meet in it; write branches of one shape"
                )
            value = self.graph.call_function(operator.add, (value, other))
        return value, shape

    def _path(self, name: str) -> str:
        """Return a path for a node that no other node has."""
        stem = path_of(name)
        taken, number, path = self.layers, 1, stem
        while path in taken or path in dir(nn.Module):
            number, path = number + 1, f"{stem}_{number + 1}"
        return path

    def _tree(self) -> nn.Module:
        """Return the tree of layers at their paths."""
        root = nn.Module()
        for path, layer in sorted(self.layers.items(), key=lambda pair: pair[0].count(".")):
            owner = root
            *folders, own = path.split(".")
            for folder in folders:
                if folder not in dict(owner.named_children()):
                    owner.add_module(folder, nn.Module())
                owner = owner.get_submodule(folder)
            owner.add_module(own, layer)
        return root
