"""The defaults of ``spike`` and ``calibrate``, which follow from what the network has.

Spikes of height 1 change the scale of every signal. A network of nothing but layers does not
mind, since its thresholds are set from what arrives. Batch norms mind: their statistics are the
ANN's. Branches that meet mind: their scales must fit each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from torch import fx, nn

from leanspike.errors import LeanspikeError, check_number
from leanspike.execute.network import SpikingNetwork
from leanspike.graph.ops import Signal, is_batch_norm, kin, row_of
from leanspike.neuron import Calibrated, create_neuron
from leanspike.temporal import BNTT, NormFactory, TemporalNorm

Preset = Literal["network", "paper"]
Method = Literal["layerwise", "one_pass"]
Statistics = Literal["keep", "reestimate"]
NormsBefore = Literal["kept", "folded", "renewed"]

SCALES = (0.6, 0.7, 0.8, 1.0)
"""Scales of the thresholds that are tried by default."""

WIDE_SCALES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Scales to be tried by hand, on networks that are calibrated as in the papers."""


@dataclass(frozen=True)
class Traits:
    """The traits of a network that decide: batch norms that time reaches, temporal norms, branches.

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
    """Return the traits of a network, from the facts that the surgery declared of each edge.

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
        batch_norms=any(map(is_batch_norm, modules)),
        temporal_norms=any(isinstance(module, TemporalNorm) for module in modules),
        branches=any(_meet(node) for node in graph.nodes if node.op.startswith("call")),
    )


def _meet(node: fx.Node) -> bool:
    """Whether several signals enter, at least one of which depends on time."""
    signals: list[Signal] = [source.meta["signal"] for source in node.all_input_nodes]
    tensors = [signal for signal in signals if signal.kind not in (None, "constant")]
    return len(tensors) > 1 and any(signal.timed for signal in tensors)


PAPERS = {"learn": ("leak", "threshold")}
"""The options of the papers' neuron, the default of ``spike``, that differ from the neuron's."""


def choose_neurons(snn: SpikingNetwork, preset: Preset, norms: NormsBefore) -> str:
    """Set the first membrane and the spike height of default neurons, and return both in words.

    ``norms`` tells what became of batch norms. A maximum over spikes is larger than the maximum
    over their rates. Neurons that start from 0 fire later, which makes up for it.
    """
    traits = traits_of(snn.plan.graph, snn)
    renewed = norms == "renewed" and traits.temporal_norms
    if renewed:
        traits = replace(traits, batch_norms=True, temporal_norms=False)
    if preset == "paper" or not (traits.batch_norms or traits.branches or norms == "folded"):
        reason = "as asked for" if preset == "paper" else f"for {traits.reason}"
        return f"spike: spikes of height 1, membranes from 0, as in the papers, {reason}"
    starts = set()
    for node in snn.neuron_nodes():
        path = str(node.target)
        start: Literal["zero", "half"] = "zero" if _enters_max_pool(node, snn) else "half"
        chosen = create_neuron("lif", {**PAPERS, "height": "threshold", "initial": start})
        before = snn.get_submodule(path)
        place = next(before.parameters()).device
        snn.set_submodule(path, chosen.to(place).train(before.training))
        starts.add(start)
    words = {"half": "half a threshold", "zero": "0 before max pools"}
    membranes = " and ".join(words[start] for start in sorted(starts))
    statistics = ", norms with statistics of each step" if renewed else ""
    reason = "its batch norms are folded" if norms == "folded" else traits.reason
    return (
        f"spike: spikes of threshold height, membranes from {membranes}{statistics}, for {reason}"
    )


def _enters_max_pool(node: fx.Node, root: nn.Module) -> bool:
    """Whether the spikes of a node enter a max pool as they are."""
    for user in node.users:
        if row_of(user, root).max_pool:
            return True
        passed = user.meta["signal"].kind == "spike" and not user.meta.get("neuron")
        if passed and _enters_max_pool(user, root):
            return True
    return False


def norm_of_each_step(root: nn.Module, graph: fx.Graph) -> NormFactory | None:
    """Return BNTT for the places of trained batch norms, or None if it cannot take all of them.

    BNTT has statistics for each step. They differ most in the first steps.
    """
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    norms = [m for m in map(root.get_submodule, called) if is_batch_norm(m)]
    settings = {(kin(type(m)).norm, m.track_running_stats, m.eps) for m in norms}
    once = len(set(norms)) == len(norms)
    if not (is_trained(root) and once and len(settings) == 1):
        return None
    norm, tracked, eps = settings.pop()
    together = norm is not None and norm.synchronised
    return partial(BNTT, bias=True, eps=eps, synchronise=together) if tracked else None


def is_trained(ann: nn.Module) -> bool:
    """Return whether the statistics of the network's batch norms show that it has seen images.

    >>> is_trained(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    False
    """
    return any(
        bool(module.running_mean.any())
        for module in ann.modules()
        if is_batch_norm(module)
        and module.running_mean is not None
        and not module.running_mean.is_meta
    )


@dataclass(frozen=True)
class Choice:
    """The options of a calibration, their reason in words, and what to try if it fails.

    With ``each_step`` the answers of all steps choose the scale, else those of the last alone.
    """

    method: Method
    scales: tuple[float, ...]
    statistics: Statistics
    each_step: bool
    reason: str
    way_out: str


def choose_calibration(
    snn: SpikingNetwork,
    preset: Preset,
    method: Method | None,
    scale: float | Sequence[float] | None,
    statistics: Statistics | None,
) -> Choice:
    """Return the options given, and for the others what fits the network and its neurons."""
    traits = traits_of(snn.plan.graph, snn)
    norms = traits.batch_norms or traits.temporal_norms
    high = all(
        isinstance(module, Calibrated) and module.keeps_scale() for _, module in snn.neurons()
    )
    needs = norms or traits.branches or high
    fits = preset == "network" and needs
    several: tuple[float, ...] = SCALES if fits else (1.0,)
    if scale is not None:
        numbers = scale if isinstance(scale, Sequence) and not isinstance(scale, str) else [scale]
        several = tuple(check_number("scale", number) for number in numbers)
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
        scale is None,
        reason,
        _way_out(needs, usual=fits and high and not any(given), several=len(several) > 1),
    )


def _way_out(needs: bool, *, usual: bool, several: bool) -> str:
    """Return what to try where SNN and ANN seldom agree."""
    if needs and not usual:
        return (
            "leave out neuron=, norm= and preset= in spike, and scale=, method=, statistics= and "
            "preset= in calibrate"
        )
    if not needs and not several:
        return f"give several scales, as scale={WIDE_SCALES}"
    return "take more steps, as spike(timesteps={more})"


def check_preset(preset: str) -> None:
    """Raise LeanspikeError unless ``preset`` is the name of a preset."""
    if preset not in get_args(Preset):
        raise LeanspikeError(f"preset is {preset!r}; choose one of {', '.join(get_args(Preset))}")
