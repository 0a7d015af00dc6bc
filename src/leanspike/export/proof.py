"""Proving that a file computes the same: spikes are compared, layer by layer, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leanspike.execute import SpikingNetwork
from leanspike.export.parts import Spiking
from leanspike.export.portable import portable
from leanspike.export.readers import ByRules, ReadBack
from leanspike.modes import eval_mode
from leanspike.neuron import Recorded


@dataclass(frozen=True)
class LayerProof:
    """A layer of neurons: the numbers of spikes and of differing spikes at each step."""

    path: str
    mismatches: tuple[int, ...]
    spikes: tuple[int, ...]
    neurons: int


@dataclass(frozen=True)
class Proof:
    """The comparison of a file, run by its target's own reader, with the network.

    Attributes:
        target: the target of the file.
        samples: the number of samples that were run.
        layers: the layers of neurons, in order.
        ours, theirs: the accuracies by the mean over all steps; None without labels.
        apart: the largest difference of an output at any step.
        by_rules: whether leanspike itself computed the file, by the target's rules.
    """

    target: str
    samples: int
    layers: tuple[LayerProof, ...]
    ours: float | None
    theirs: float | None
    apart: float
    by_rules: bool = False

    @property
    def mismatches(self) -> int:
        """The number of spikes that differ, over all layers and steps."""
        return sum(sum(layer.mismatches) for layer in self.layers)


def prove(
    network: SpikingNetwork,
    path: str | Path,
    target: str,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    *,
    by_rules: bool = False,
) -> Proof:
    """Read a file back with the target's own reader, and run both on the same images.

    Args:
        network: the network that was written.
        path: the path of the file.
        target: the target of the file. Its library must be installed.
        batches: pairs of images, as the network takes them, and their labels or None.
        by_rules: let leanspike itself compute the file, by the rules of the target. This shows
            the cost of an approximation without the target's reader. It does not test the reader.

    Raises:
        LeanspikeError: if the reader is not installed or cannot be installed.
    """
    parts = portable(network).parts.items()
    names = {part.path: name for name, part in parts if isinstance(part.operation, Spiking)}
    soft = any(_subtracts(neuron) for _, neuron in network.neurons())
    back: ReadBack | ByRules
    if by_rules:
        back = ByRules(Path(path), target, layers=names)
    else:
        back = ReadBack(Path(path), target, soft=soft, layers=names)
    count = _Count(list(names))
    with eval_mode(network), torch.no_grad():
        for images, labels in batches:
            ours, spikes = _run(network, images)
            theirs, their_spikes = back.run(_steps(network, images))
            count.see(ours, spikes, theirs, their_spikes, labels)
    return count.proof(target, by_rules)


def _subtracts(neuron: nn.Module) -> bool:
    return isinstance(neuron, Recorded) and neuron.record().reset != "hard"


def _steps(network: SpikingNetwork, images: Tensor) -> list[Tensor]:
    """Return the input of each step, as the network itself encodes it."""
    encoder = network.plan.encoder
    sequence, steps = encoder.sequence(images, network.timesteps, False)
    return list(sequence.chunk(steps)) if encoder.timed else [sequence] * steps


def _run(network: SpikingNetwork, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the outputs and spikes of each step."""
    spikes: dict[str, Tensor] = {}
    handles = [
        neuron.register_forward_hook(lambda _, __, o, name=name: spikes.__setitem__(name, o))
        for name, neuron in network.neurons()
    ]
    try:
        return network(images), spikes
    finally:
        for handle in handles:
            handle.remove()


class _Count:
    """Adds up the comparisons of batches."""

    def __init__(self, layers: list[str]) -> None:
        self.mismatches: dict[str, Any] = dict.fromkeys(layers, 0)
        self.spikes: dict[str, Any] = dict.fromkeys(layers, 0)
        self.neurons: dict[str, int] = {}
        self.samples = self.right = self.their_right = 0
        self.labelled = False
        self.apart = 0.0

    def see(
        self,
        ours: Tensor,
        spikes: dict[str, Tensor],
        theirs: Tensor,
        their_spikes: dict[str, Tensor],
        labels: Tensor | None,
    ) -> None:
        """Add the comparison of a batch."""
        self.samples += ours.shape[1]
        self.apart = max(self.apart, (ours - theirs).abs().max().item())
        for name, o_TN in spikes.items():
            fired, other = o_TN != 0, their_spikes[name] != 0
            self.mismatches[name] += (fired != other.reshape(fired.shape)).flatten(1).sum(1)
            self.spikes[name] += fired.flatten(1).sum(1)
            self.neurons[name] = o_TN[0, 0].numel()
        if labels is not None:
            self.labelled = True
            self.right += int((ours.mean(0).argmax(-1) == labels).sum())
            self.their_right += int((theirs.mean(0).argmax(-1) == labels).sum())

    def proof(self, target: str, by_rules: bool) -> Proof:
        """Return the proof over all batches."""
        layers = tuple(
            LayerProof(
                name,
                tuple(self.mismatches[name].tolist()),
                tuple(self.spikes[name].tolist()),
                self.neurons[name],
            )
            for name in self.mismatches
        )
        ours, theirs = (
            found / self.samples if self.labelled else None
            for found in (self.right, self.their_right)
        )
        return Proof(target, self.samples, layers, ours, theirs, self.apart, by_rules)
