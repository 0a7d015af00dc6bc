"""What ``spike`` and ``calibrate`` choose where nothing is said: by what the network has.

Spikes of height 1 change the scale of every signal. A network that is nothing but layers does not
mind, as its thresholds are set by what arrives. Batch norms do, whose statistics are the ANN's, and
branches that meet, whose scales must fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import fx, nn

from leanspike.errors import LeanspikeError
from leanspike.neuron import LIF
from leanspike.surgery.network import SpikingNetwork
from leanspike.surgery.ops import Signal
from leanspike.surgery.rewrite import BATCH_NORMS
from leanspike.temporal import TemporalNorm

Preset = Literal["network", "paper"]
Method = Literal["layerwise", "one_pass"]
Statistics = Literal["keep", "reestimate"]

SCALES = (0.5, 0.6, 0.7, 0.8, 1.0)
"""Of the thresholds, tried where the network chooses."""

WIDE_SCALES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""To be tried by hand, on networks that calibrate as the papers do."""


@dataclass(frozen=True)
class Traits:
    """What of a network decides: batch norms that time reaches, temporal norms, branches.

    >>> Traits(batch_norms=True, temporal_norms=False, branches=True).reason
    'time reaches its batch norms and branches meet in it'
    """

    batch_norms: bool
    temporal_norms: bool
    branches: bool

    @property
    def reason(self) -> str:
        """The traits in words."""
        found = (
            (self.batch_norms, "time reaches its batch norms"),
            (self.temporal_norms, "it has temporal norms"),
            (self.branches, "branches meet in it"),
        )
        words = " and ".join(word for has, word in found if has)
        return words or "no batch norm and no branches meet spikes"


def traits_of(graph: fx.Graph, root: nn.Module) -> Traits:
    """The traits of a network, by the facts that the surgery declared of each edge.

    >>> import torch
    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 2))
    >>> traits_of(snn.plan.graph, snn).batch_norms
    True
    """
    modules = [
        root.get_submodule(str(node.target))
        for node in graph.nodes
        if node.op == "call_module" and node.meta["signal"].timed
    ]
    return Traits(
        batch_norms=any(isinstance(module, BATCH_NORMS) for module in modules),
        temporal_norms=any(isinstance(module, TemporalNorm) for module in modules),
        branches=any(_meet(node) for node in graph.nodes if node.op.startswith("call")),
    )


def _meet(node: fx.Node) -> bool:
    """Whether several signals enter, one of which at least depends on time."""
    signals: list[Signal] = [source.meta["signal"] for source in node.all_input_nodes]
    tensors = [signal for signal in signals if signal.kind not in (None, "constant")]
    return len(tensors) > 1 and any(signal.timed for signal in tensors)


def choose_neurons(snn: SpikingNetwork, preset: Preset, folded: bool) -> str:
    """Give the neurons of ``spike``'s default the start and the height that fit; say which."""
    traits = traits_of(snn.plan.graph, snn)
    if preset == "paper" or not (traits.batch_norms or traits.branches or folded):
        reason = "as asked for" if preset == "paper" else f"for {traits.reason}"
        return f"spike: spikes of height 1, membranes from 0, as in the papers, {reason}"
    for _, module in snn.neurons():
        assert isinstance(module, LIF)
        module.dynamics = replace(module.dynamics, height="threshold", initial="half")
    reason = "its batch norms are folded" if folded else traits.reason
    return f"spike: spikes of threshold height, membranes from half a threshold, for {reason}"


@dataclass(frozen=True)
class Choice:
    """How a calibration goes about it, why in words, and what to try where it does not help."""

    method: Method
    scales: tuple[float, ...]
    statistics: Statistics
    reason: str
    way_out: str


def choose_calibration(
    snn: SpikingNetwork,
    preset: Preset,
    method: Method | None,
    scale: float | Sequence[float] | None,
    statistics: Statistics | None,
) -> Choice:
    """What was given, and for the rest what fits the network and its neurons."""
    traits = traits_of(snn.plan.graph, snn)
    norms = traits.batch_norms or traits.temporal_norms
    high = all(
        isinstance(module, LIF) and module.dynamics.height == "threshold"
        for _, module in snn.neurons()
    )
    fits = preset == "network" and (norms or traits.branches or high)
    several = SCALES if fits else (1.0,)
    if scale is not None:
        several = tuple(map(float, scale)) if isinstance(scale, Sequence) else (float(scale),)
    given = [argument is not None for argument in (method, scale, statistics)]
    if all(given):
        reason = "as given"
    elif preset == "paper":
        reason = "as in the papers"
    else:
        reason = f"for {'spikes are as high as the threshold' if high else traits.reason}"
    return Choice(
        method or ("one_pass" if fits and high else "layerwise"),
        several,
        statistics or ("reestimate" if fits and norms else "keep"),
        reason,
        _way_out(fits, high, changed=any(given) or preset == "paper"),
    )


def _way_out(fits: bool, high: bool, changed: bool) -> str:
    """What to try where SNN and ANN seldom agree."""
    if changed or (fits and not high):
        return (
            "leave out neuron= and preset= in spike, and scale=, method=, statistics= and preset= "
            "in calibrate"
        )
    if not fits:
        return f"give several scales, as scale={WIDE_SCALES}"
    return "take more steps, as spike(timesteps={more})"


def check_preset(preset: str) -> None:
    """Raise LeanspikeError unless it is one."""
    if preset not in get_args(Preset):
        raise LeanspikeError(f"preset is {preset!r}; choose one of {', '.join(get_args(Preset))}")
