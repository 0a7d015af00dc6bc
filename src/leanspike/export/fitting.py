"""Fitting a network in parts to a target. Differences are refused by path, or approximated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from leanspike.errors import LeanspikeError
from leanspike.export.parts import (
    INPUT,
    Convolution,
    Dense,
    Operation,
    Part,
    Portable,
    Spiking,
    SumPool,
)
from leanspike.export.targets import TARGETS, Target
from leanspike.neuron import NeuronRecord

RESETS = {
    "soft": "subtracts the threshold",
    "hard": "resets to 0",
    "undecayed": "subtracts the threshold after the leak",
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parts that a target supports, and how they differ from the network's."""

    network: Portable
    approximated: tuple[str, ...]


def fitted(network: Portable, target: Target, approximate: bool) -> Fitted:
    """Return the parts in the form that the target supports.

    Raises LeanspikeError for a part that the target does not support. With ``approximate`` it is
    raised only if the part cannot be approximated.
    """
    fitting = Fitting(target, approximate)
    parts = {name: fitting.part(part) for name, part in network.parts.items()}
    fitting.check_branches(network)
    return Fitted(replace(network, parts=parts), tuple(fitting.notes))


class Fitting:
    """Fits part by part, and notes the changes."""

    def __init__(self, target: Target, approximate: bool) -> None:
        self.target, self.approximate = target, approximate
        self.notes: list[str] = []

    def part(self, part: Part) -> Part:
        """Return the part in the form that the target supports."""
        operation = part.operation
        if isinstance(operation, Spiking):
            self._check_leaks(part, operation.record)
            return replace(part, operation=Spiking(self._neuron(part.path, operation.record)))
        self._check_layer(part, operation)
        if isinstance(operation, Convolution) and operation.groups > 1:
            return replace(part, operation=ungrouped(operation))
        return part

    def _check_leaks(self, part: Part, record: NeuronRecord) -> None:
        if self.target.flat_leaks and len(part.outputs) > 1 and (record.leak != 1).any():
            takers = [t for t in TARGETS.values() if t.leaky is not None and not t.flat_leaks]
            self._elsewhere(part.path, "leaks of layers of images (leak=1.0 is none)", takers)

    def check_branches(self, network: Portable) -> None:
        """Refuse branches that the target does not read, or reads wrongly."""
        if self.target.branches == "any":
            return
        takers = [target for target in TARGETS.values() if target.branches == "any"]
        done: set[str] = set()
        for name in depth_first(network):
            part = network.parts[name]
            if self.target.branches == "none" and len(part.sources) > 1:
                self._elsewhere(part.path, "branches", takers)
            if not done.issuperset(set(part.sources) - {INPUT}):
                self._elsewhere(
                    part.path,
                    'two branches with layers of their own (a shortcut without, and height="unit", '
                    "it reads)",
                    takers,
                )
            done.add(name)

    def _check_layer(self, part: Part, operation: Operation) -> None:
        kind = primitive(operation)
        if kind not in self.target.reads:
            takers = [t for t in TARGETS.values() if kind in t.reads]
            if not takers:
                raise LeanspikeError(
                    f"module {part.path}: NIR's readers have no {kind}; train a network without it"
                )
            self._elsewhere(part.path, kind, takers)
        if isinstance(operation, SumPool) and any(operation.padding):
            raise LeanspikeError(
                f"module {part.path}: readers of NIR leave out the padding of a pool; train with "
                "padding=0"
            )

    def _elsewhere(self, path: str, what: str, takers: list[Target]) -> NoReturn:
        names = ", ".join(name for name, target in TARGETS.items() if target in takers)
        raise LeanspikeError(
            f"module {path}: {self.target.title} reads no {what}; train a network without, or "
            f"choose a target that does: {names}"
        )

    # -- neurons -------------------------------------------------------------------------------

    def _neuron(self, path: str, record: NeuronRecord) -> NeuronRecord:
        record = self._initial(path, record)
        record = self._reset(path, record)
        record = self._leak(path, record)
        record = self._floor(path, record)
        return self._uniform(path, record)

    def _initial(self, path: str, record: NeuronRecord) -> NeuronRecord:
        if record.initial == "half":
            self._differs(
                path,
                "its membranes begin at half a threshold, but NIR's begin at 0",
                'initial="zero" (spike.neuron.initial=zero)',
            )
        return replace(record, initial="zero")

    def _reset(self, path: str, record: NeuronRecord) -> NeuronRecord:
        if record.reset in self.target.resets:
            return record
        nearest = "soft" if "soft" in self.target.resets else "hard"
        does = {"soft": "subtracts it at once", "hard": "resets to 0"}[nearest]
        self._differs(
            path,
            f"it {RESETS[record.reset]}, and {self.target.title} {does}",
            f'reset="{nearest}" (spike.neuron.reset={nearest})',
        )
        return replace(record, reset="soft" if nearest == "soft" else "hard")

    def _leak(self, path: str, record: NeuronRecord) -> NeuronRecord:
        if record.synapse_leak.any() and self.target.filtered == "no":
            takers = [t for t in TARGETS.values() if t.filtered != "no"]
            self._elsewhere(path, "synapses with a leak", takers)
        if self.target.filtered == "must":
            self._check_filtered(path, record)
        if self.target.leaky is None and (record.leak != 1).any():
            self._differs(
                path,
                f"its membranes leak, but those of {self.target.title} do not",
                'leak=1.0, learn=("threshold",) '
                "(spike.neuron.leak=1.0 spike.neuron.learn=[threshold])",
            )
            return replace(record, leak=torch.ones_like(record.leak))
        return record

    def _check_filtered(self, path: str, record: NeuronRecord) -> None:
        synapse = record.synapse_leak
        if (synapse <= 0).any() or (synapse >= 1).any():
            raise LeanspikeError(
                f"module {path}: its synapses have no leak, but those of {self.target.title} have "
                "one; train with neuron=CurrentLIF() (spike.neuron.name=cuba_lif)"
            )
        if (record.leak <= 0).any():
            raise LeanspikeError(
                f"module {path}: its membranes keep nothing from step to step, but those of "
                f"{self.target.title} do; train with a leak above 0, as leak=0.9 "
                "(spike.neuron.leak=0.9)"
            )

    def _floor(self, path: str, record: NeuronRecord) -> NeuronRecord:
        holds = self.target.clamps and not (record.leak != 1).any()
        if record.floor is None or (holds and record.floor == 1):
            return record
        does = "are held at -1" if holds else "may fall lower"
        floor = ("1.0", "1.0") if holds else ("None", "null")
        self._differs(
            path,
            f"it holds membranes at {-record.floor:g} thresholds, but those of "
            f"{self.target.title} {does}",
            f"floor={floor[0]} (spike.neuron.floor={floor[1]})",
        )
        return replace(record, floor=1.0 if holds else None)

    def _uniform(self, path: str, record: NeuronRecord) -> NeuronRecord:
        values = record.threshold, record.leak, record.synapse_leak
        if not self.target.uniform or all(_is_one(value) for value in values):
            return record
        self._differs(
            path,
            "its channels or neurons have thresholds or leaks of their own, but "
            f"{self.target.title} has one for a layer",
            'per="layer" (spike.neuron.per=layer)',
        )
        v, leak, synapse = (value.mean() for value in values)
        return replace(record, threshold=v, leak=leak, synapse_leak=synapse)

    def _differs(self, path: str, what: str, train_with: str) -> None:
        if not self.approximate:
            raise LeanspikeError(
                f"module {path}: {what}; train with {train_with}, or write an approximation with "
                "approximate=True (--approximate)"
            )
        self.notes.append(f"module {path}: {what}")


def depth_first(network: Portable) -> list[str]:
    """Return the order of parts in a reader that follows each edge at once, depth first."""
    after: dict[str, list[str]] = {}
    for name, part in network.parts.items():
        for source in part.sources:
            after.setdefault(source, []).append(name)
    waiting, found = [INPUT], dict[str, None]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += reversed(after.get(name, []))
    return [name for name in found if name != INPUT]


def primitive(operation: Operation) -> str:
    """Return NIR's name of a part that is no neuron."""
    if isinstance(operation, Convolution):
        return f"Conv{operation.weight.ndim - 2}d"
    if isinstance(operation, Dense):
        return "Affine"
    return "SumPool2d" if isinstance(operation, SumPool) else "Flatten"


def ungrouped(layer: Convolution) -> Convolution:
    """Return a convolution without groups that computes the same, with zeros between groups.

    The package nir takes the inputs of one group for those of all, and then refuses the file.

    >>> one = Convolution(torch.ones(2, 1, 1), None, (1,), (0,), (1,), groups=2)
    >>> ungrouped(one).weight.squeeze()
    tensor([[1., 0.],
            [0., 1.]])
    """
    blocks = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
    groups, outputs, inputs = blocks.shape[:3]
    full = blocks.new_zeros(groups, outputs, groups, inputs, *layer.weight.shape[2:])
    for group in range(groups):
        full[group, :, group] = blocks[group]
    whole = full.flatten(2, 3).flatten(0, 1)
    return replace(layer, weight=whole, groups=1, blocks=groups)


def _is_one(value: Tensor) -> bool:
    return bool((value == value.reshape(-1)[0]).all())
