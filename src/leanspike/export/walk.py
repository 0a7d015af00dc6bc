"""The walk over the graph of a step, in which the rules build the parts."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.errors import LeanspikeError
from leanspike.export.folded import depthwise, with_factor
from leanspike.export.parts import (
    INPUT,
    Convolution,
    Dense,
    Flatten,
    Operation,
    Part,
    Portable,
    Shape,
    Spiking,
    SumPool,
)
from leanspike.export.wires import Wire, added, source
from leanspike.graph.per_step import StepPlan
from leanspike.neuron import NeuronRecord


@final
class Walk:
    """Builds the parts of a network, node by node.

    Attributes:
        shapes: the shape of each node's output, without N.
        parts: the parts made so far.
        values: the value of each node: a wire, a constant, or None if no part needs it.
    """

    def __init__(self, step: StepPlan, shapes: dict[fx.Node, Shape], timesteps: int) -> None:
        self.root, self.shapes = step.module, shapes
        self.timesteps = timesteps
        self.parts: dict[str, Part] = {}
        self.values: dict[fx.Node, Any] = {}

    def begin(self, image: fx.Node) -> None:
        """Begin with the node of the input."""
        self.values[image] = source(INPUT, self.shapes[image])

    def end(self, image: fx.Node, output: fx.Node) -> Portable:
        """Return all parts, after every node has a value."""
        found: Any = output.args[0]
        wire = self.values.get(found[0]) if isinstance(found[0], fx.Node) else None
        if not isinstance(wire, Wire):
            raise LeanspikeError(
                "the network returns several tensors, but an exported one returns a single tensor; "
                "return the answer alone"
            )
        wire = self.plain(wire, "output")
        inputs = self.shapes[image]
        return Portable(self.parts, inputs, wire.sources, wire.shape, self.timesteps)

    # -- for the rules -------------------------------------------------------------------------

    def wire(self, node: Any) -> Wire | None:
        """Return the value of a node if it is a wire, else None."""
        found = self.values.get(node) if isinstance(node, fx.Node) else None
        return found if isinstance(found, Wire) else None

    def module(self, node: fx.Node) -> Any:
        """Return the module that a node calls."""
        return self.root.get_submodule(str(node.target))

    def put(self, path: str, operation: Operation, wire: Wire, shape: Shape) -> Wire:
        """Add a part that reads the wire and has taken up its factors; return the new wire."""
        name = self._name(path)
        self.parts[name] = Part(path, operation, wire.sources, wire.shape, shape)
        return source(name, shape)

    def weighted(self, path: str, layer: Convolution | Dense, wire: Wire, shape: Shape) -> Wire:
        """Add a layer whose weights take up the factor of the wire; return the new wire."""
        factor = wire.common
        if factor is None or (factor.ndim and isinstance(layer, Convolution) and _by_entry(factor)):
            factor, wire = torch.ones((), dtype=torch.float64), self.plain(wire, path)
        return self.put(path, with_factor(layer, factor), wire, shape)

    def pooled(self, path: str, pool: SumPool, divisor: float, wire: Wire, shape: Shape) -> Wire:
        """Add sums over windows, divided by a number; return the new wire."""
        factor = wire.common
        if factor is None or _by_entry(factor):
            factor, wire = torch.ones((), dtype=torch.float64), self.plain(wire, path)
        return self.put(path, pool, wire, shape).times(factor / divisor)

    def flattened(self, path: str, wire: Wire, shape: Shape) -> Wire:
        """Add a flatten, unless the wire has one axis already; return the new wire."""
        if len(wire.shape) == 1:
            return wire
        factor = wire.common
        if factor is None:
            factor, wire = torch.ones((), dtype=torch.float64), self.plain(wire, path)
        before = Wire(source(INPUT, wire.shape, factor).terms, wire.shape).shaped(shape)
        return self.put(path, Flatten(), wire, shape).times(before.terms[0].factor)

    def spiking(self, path: str, record: NeuronRecord, wire: Wire) -> Wire:
        """Add a layer of neurons; return a wire with the spike height as its factor."""
        wire = self.put(path, Spiking(record), self.plain(wire, path), wire.shape)
        height = record.threshold.double().cpu() if record.height == "threshold" else 1.0
        return wire.times(height)

    def plain(self, wire: Wire, path: str) -> Wire:
        """Return the wire without factors; extra parts multiply by them."""
        terms = []
        for term in wire.terms:
            if term.plain:
                terms.append(source(term.source, wire.shape))
                continue
            if len(wire.shape) != 1 and (len(wire.shape) < 2 or _by_entry(term.factor)):
                raise LeanspikeError(
                    f"module {path}: it would need a factor for each entry, which no layer of NIR "
                    'holds; train with neurons of per="channel" or per="layer" '
                    '(spike.neuron.per=channel), or of height="unit"'
                )
            read = source(term.source, wire.shape)
            terms.append(
                self.put(f"{path}_scale", depthwise(wire.shape, term.factor), read, wire.shape)
            )
        return added(terms)

    def _name(self, path: str) -> str:
        """Return a name that no other part has, even if a reader replaces "." by "_"."""
        stem = path.replace("/", "_") or "layer"
        taken = {name.replace(".", "_") for name in self.parts} | {INPUT, "output"}
        number, name = 1, stem
        while name.replace(".", "_") in taken:
            number, name = number + 1, f"{stem}_{number + 1}"
        return name


def _by_entry(factor: Tensor) -> bool:
    """Whether a factor of an image has more than a number for each channel."""
    return factor.ndim > 0 and factor[:1].numel() > 1
