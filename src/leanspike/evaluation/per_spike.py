"""How many accumulates a spike causes, at each place of a network where spikes arise.

Spikes arise in neurons, in the input, and in max pools, since several spikes may give one there.
Behind these places they are moved, averaged and added up, in fixed ways. So the accumulates of a
spike are known before anything runs: they are the sum of all weights that it meets.

Shapes: N samples; ``_N`` is ``[N, ...]``, without the axis of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx

from leanspike.errors import LeanspikeError
from leanspike.evaluation.energy import OperationCounter, place_of
from leanspike.evaluation.fan_out import summed, widest
from leanspike.evaluation.prices import Prices
from leanspike.evaluation.spikes_under import followed, is_kind, of_spikes, spikes_of
from leanspike.execute import SpikingNetwork
from leanspike.execute.observed import Execution
from leanspike.graph.costs import signal_nodes
from leanspike.graph.modules import submodule
from leanspike.graph.ops import Kind, knows, row_of
from leanspike.modes import eval_mode
from leanspike.neuron import Neuron

_WAY_OUT = "take spike_rate in the place of accumulates"


@final
@dataclass(frozen=True, eq=False)
class Source:
    """A place where spikes arise.

    Attributes:
        kind: "spike", or "graded" for an input of counts.
        met: the accumulates that each spike causes, ``[pieces, ...]``.
        emitter: the name of the node of neurons whose spikes are as high; None for the input.
        neurons: the path of these neurons.
        uniform: whether all of them have one height.
    """

    kind: Kind
    met: Tensor
    emitter: str | None = None
    neurons: str = ""
    uniform: bool = True


@final
@dataclass(frozen=True, eq=False)
class PerSpike:
    """The accumulates of a network by its spikes.

    Attributes:
        sources: the places where spikes arise that cause accumulates, by the names of their nodes.
        ann_macs: the multiply-accumulates of a sample in the network as an ANN.

    >>> from torch import nn
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    >>> found = PerSpike.of(spike(ann, example_input=torch.zeros(1, 2)))
    >>> [(one.neurons, one.met.tolist()) for one in found.sources.values()], found.ann_macs
    ([('1', [[4.0, 4.0, 4.0]])], 18.0)
    """

    sources: Mapping[str, Source]
    ann_macs: float

    @staticmethod
    def of(network: SpikingNetwork) -> PerSpike:
        """Return the accumulates of a network, from a run of one sample that is 0.

        Raises:
            LeanspikeError: where spikes cannot be counted, naming the place.
        """
        for path, _ in network.neurons():
            _height(network, path)
        walk = _Walk(network)
        zeros = next(network.parameters()).new_zeros(1, *network.plan.sample_shape)
        with torch.no_grad(), eval_mode(network):
            _Unheard(network, network.plan, walk).run(zeros, 1)
        return walk.found()

    @property
    def heard(self) -> set[str]:
        """The names of the nodes whose values :class:`Caused` must hear."""
        emitters = {source.emitter for source in self.sources.values() if source.emitter}
        return {*self.sources, *emitters}


@final
class Caused:
    """Adds up the accumulates of a run: a listener to the nodes that ``found.heard`` names.

    The gradient does not depend on the height of spikes. The height is not detached: the threshold
    in outputs v·o has to cancel in the gradient, too.
    """

    def __init__(self, found: PerSpike, network: SpikingNetwork) -> None:
        self.found, self.network = found, network
        self.parts: list[Tensor] = []
        self._emitted: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor, by: Tensor) -> None:
        """Hear the value of a node, and what carries the value's gradient."""
        self._emitted[name] = by
        source = self.found.sources.get(name)
        if source is None:
            return
        met = source.met.to(value.device)
        if source.emitter is None:
            part = (summed(spikes_of(value, source.kind), met.shape) * met).sum()
        else:
            height = _height(self.network, source.neurons)
            height = height.flatten()[0] if source.uniform else height
            part = _of_height(height, met, value, by)
            several = value.numel() > by.numel() and name != source.emitter
            if several and height.requires_grad:
                part = _by_unit_spikes(part, by, self._emitted[source.emitter], height)
        self.parts.append(part.to(torch.promote_types(value.dtype, torch.float32)))

    def total(self) -> Tensor:
        """Return the accumulates of all samples, as a scalar."""
        return torch.stack(self.parts).sum()


def _of_height(height: Tensor, met: Tensor, value: Tensor, by: Tensor) -> Tensor:
    """Return the accumulates of spikes of that height; those in bf16 are as high as it is there."""
    return (summed(value, met.shape, by) / height.to(value.dtype) * met).sum()


def _by_unit_spikes(part: Tensor, by_N: Tensor, mean_N: Tensor, height: Tensor) -> Tensor:
    """Return a number whose gradient goes to mean spikes by their number, not by their height.

    With rate gradients the height of spikes behind a max pool does not cancel: the mean of what
    passes, ``by_N``, is no sum of shares of the mean inputs. So the shares come first, and then the
    height goes from the inputs ``mean_N``.
    """
    (passed_N,) = torch.autograd.grad(part, by_N, retain_graph=True)
    dense_N = torch.empty_like(by_N).copy_(passed_N)
    (share_N,) = torch.autograd.grad(by_N, mean_N, dense_N, retain_graph=True)
    reached = (mean_N * share_N).sum_to_size(height.shape)
    fixed = reached.detach() / height.detach()
    return part.detach() + (reached - fixed * height).sum()


class _Unheard(Execution):
    """A run that calls no hooks of modules: who counts by hooks shall not count this run."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.fetch_attr(target).forward(*args, **kwargs)


@final
class _Walk:
    """Sees a run operation by operation, and follows a spike from where it arises to weights."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network, self.counter = network, OperationCounter(network)
        self.arising: dict[fx.Node, Tensor] = {}
        self.counts: dict[fx.Node, Tensor] = {}
        self.total: Tensor | None = None

    def __call__(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        for source in node.all_input_nodes:
            entered = source.op == "placeholder" and of_spikes(source)
            if entered and source not in self.counts:
                self._arise(source, values[source])
        self.counter.learn(node, values, value)
        source, *_ = (*signal_nodes(node), node)
        if node in self.counter.fan_out and source in self.counts:
            with torch.enable_grad():
                caused = (self.counts[source] * self.counter.fan_out[node]).sum()
                self.total = caused if self.total is None else self.total + caused
        elif of_spikes(node):
            self._follow(node, values, value)

    def _arise(self, node: fx.Node, value: Tensor) -> None:
        zeros = torch.zeros_like(value, dtype=widest(value.device))
        self.arising[node] = self.counts[node] = zeros.requires_grad_()

    def _follow(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Tensor) -> None:
        """Follow spikes through an operation, or let them arise there."""
        with torch.enable_grad():
            counts = followed(node, self.network, self.counts, values)
        if counts is not None and all(source in self.counts for source in signal_nodes(node)):
            self.counts[node] = counts
        elif is_kind(node, "spike"):
            self._arise(node, value)
        elif counts is not None:
            raise _refusal(node, "another signal chooses which spikes are added up")

    def found(self) -> PerSpike:
        """Return what was found, without places whose spikes cause nothing."""
        for part in self.counter.uncounted():
            raise LeanspikeError(
                f"module {part.path}: what a {part.kind} computes is not counted; {_WAY_OUT}"
            )
        if self.total is None:
            raise LeanspikeError(f"no spikes enter a layer with weights; {_WAY_OUT}")
        leaves = list(self.arising.values())
        caused = torch.autograd.grad(self.total, leaves, allow_unused=True)
        sources = {
            node.name: self._source(node, met)
            for node, met in zip(self.arising, caused, strict=True)
            if met is not None
        }
        rows = self.counter.rows(Prices())
        return PerSpike(sources, sum(row.ann_macs for row in rows))

    def _source(self, node: fx.Node, met: Tensor) -> Source:
        emitter, kind = self._emitter(node), node.meta["signal"].kind
        if emitter is None:
            return Source(kind, met)
        path = str(emitter.target)
        height, met = _height(self.network, path), met.flatten(0, int(emitter is node))
        uniform = _uniform(height)
        pixels = height.shape[2 - met.dim() :] if met.dim() > 2 else ()
        per_channel = self._keeps_channels(node) and all(size == 1 for size in pixels)
        if not uniform and emitter is not node and not per_channel:
            raise _refusal(node, f"spikes of neurons {path} have several heights")
        return Source(kind, met, emitter.name, path, uniform)

    def _emitter(self, node: fx.Node) -> fx.Node | None:
        """Return the neurons whose spikes are as high as a node's; None for the input."""
        if node.op == "placeholder":
            return None
        if isinstance(submodule(self.network, node), Neuron):
            return node
        if not knows(row_of(node, self.network)):
            raise _refusal(node, "it is declared to give spikes, of an unknown height")
        first, *others = (self._emitter(s) for s in signal_nodes(node) if is_kind(s, "spike"))
        for other in others:
            if other is not first and not self._alike(first, other):
                raise _refusal(node, "spikes of several heights enter")
        return first

    def _alike(self, *emitters: fx.Node | None) -> bool:
        """Return whether neurons have the same height, and keep it."""
        heights = [_height(self.network, str(node.target)) for node in emitters if node]
        kept = len(heights) == len(emitters) and not any(h.requires_grad for h in heights)
        return kept and _uniform(torch.cat([height.flatten() for height in heights]))

    def _keeps_channels(self, node: fx.Node) -> bool:
        """Return whether there are only max pools between neurons and a node."""
        if isinstance(submodule(self.network, node), Neuron):
            return True
        row = row_of(node, self.network)
        return (row.max_pool or row.sequence) and self._keeps_channels(signal_nodes(node)[0])


def _height(network: SpikingNetwork, path: str) -> Tensor:
    neuron = network.get_submodule(path)
    height = neuron.spike_height() if isinstance(neuron, Neuron) else None
    if height is None:
        raise LeanspikeError(
            f"neurons {path}: a {type(neuron).__name__} emits no spikes, so nothing tells how many "
            "accumulates it causes; leave accumulates out, or put neurons that spike in its place"
        )
    return height


def _uniform(height: Tensor) -> bool:
    """Return whether heights are one number, and stay so."""
    if height.numel() == 1:
        return True
    return not height.requires_grad and bool((height == height.flatten()[0]).all())


def _refusal(node: fx.Node, why: str) -> LeanspikeError:
    return LeanspikeError(f"{place_of(node)}: {why}, so they cannot be counted; {_WAY_OUT}")
