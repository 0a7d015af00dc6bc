"""The two papers' own formulas of an SNN's energy, from spikes per neuron, beside the count.

Both give E_ANN / E_SNN; larger is better. D is the textbook's count of operations of a layer with
weights (``dense_macs``). Both formulas take spikes at the neurons' outputs. They ignore pools,
which change how many spikes arrive. They ignore borders and membranes, too. Both are at the T steps
of the result.

DIET-SNN (arXiv 2008.03658) has one rate for the whole network, BNTT (arXiv 2010.01729) one for each
layer. ``docs/methods.md`` says what of BNTT's is known and what is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import fx

from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.execute import SpikingNetwork
from leanspike.graph.ops import row_of

CHAINS = frozenset(
    (
        *("mlp", "mnist_net", "vgg", "vgg6", "vgg9", "vgg11", "vgg16", "vgg9_bntt", "vgg11_bntt"),
        *(f"cifar_resnet{depth}" for depth in (20, 32, 44, 56)),
    )
)
"""Networks of the zoo in which each layer with weights reads only the neurons right before it."""


def diet_snn_ratio(
    operations: Sequence[LayerOperations], spikes_per_neuron: float, mac_pj: float, ac_pj: float
) -> float:
    """Return DIET-SNN's ratio, the inverse of E_SNN/E_ANN = f₁ + (1 − f₁)·R·(AC/MAC).

    f₁ is the share of D in layers that are computed once. R is the spikes per neuron of the whole
    network, summed over all steps. The ratio is infinite for a network that is silent and computes
    nothing once.

    >>> from leanspike.evaluation.layers import LayerOperations
    >>> row = LayerOperations.model_construct
    >>> layers = [row(static=True, dense_macs=1.0), row(static=False, dense_macs=9.0)]
    >>> round(diet_snn_ratio(layers, spikes_per_neuron=0.5, mac_pj=4.6, ac_pj=0.9), 2)
    5.32
    """
    dense = sum(row.dense_macs for row in operations)
    first = sum(row.dense_macs for row in operations if row.static) / dense
    share = first + (1 - first) * spikes_per_neuron * ac_pj / mac_pj
    return 1 / share if share else math.inf


def bntt_ratio(
    operations: Sequence[LayerOperations], timesteps: int, mac_pj: float, ac_pj: float
) -> float:
    """Return BNTT's ratio of E_ANN = Σ_l D(l)·MAC to E_SNN = Σ_l D(l)·R(l)·AC.

    R(l) is ``spike_rate``, the rate of the neurons whose spikes enter layer l, summed over all
    steps. A layer without a rate multiplies: once if its input is the same at each step, else at
    each step. The ratio is infinite for a network that is silent and multiplies nothing.

    >>> from leanspike.evaluation.layers import LayerOperations
    >>> row = LayerOperations.model_construct
    >>> layers = [row(static=True, dense_macs=1.0), row(dense_macs=9.0, spike_rate=0.5)]
    >>> round(bntt_ratio(layers, timesteps=5, mac_pj=4.6, ac_pj=0.9), 2)  # 46 / (4.6 + 4.05)
    5.32
    """
    ann = mac_pj * sum(row.dense_macs for row in operations)
    snn = 0.0
    for row in operations:
        if row.spike_rate is not None:
            snn += row.dense_macs * row.spike_rate * ac_pj
        else:
            snn += row.dense_macs * (1 if row.static else timesteps) * mac_pj
    return ann / snn if snn else math.inf


def entering_rates(snn: SpikingNetwork, fired: Mapping[str, float]) -> dict[fx.Node, float]:
    """Return spikes per neuron, over all steps, for the neurons behind each signal made of spikes.

    Pools, reshapes and the like hand the rate on. Sums of branches add the rates of their sources,
    and a concatenation has the mean over its entries. A signal with a source whose rate is not
    known has none.

    Args:
        snn: the spiking network.
        fired: spikes per neuron by the path of the neurons.
    """
    rates: dict[fx.Node, float] = {}
    for node in snn.plan.graph.nodes:
        if node.meta.get("neuron"):
            if str(node.target) in fired:
                rates[node] = fired[str(node.target)]
            continue
        sources = [source for source in node.all_input_nodes if _made_of_spikes(source)]
        if not sources or not _made_of_spikes(node) or not all(s in rates for s in sources):
            continue
        if row_of(node, snn).concatenates:
            entries = [source.meta["shape"][1:].numel() for source in sources]
            parts = zip(sources, entries, strict=True)
            rates[node] = sum(rates[s] * size for s, size in parts) / sum(entries)
        else:
            rates[node] = sum(rates[source] for source in sources)
    return rates


def _made_of_spikes(node: fx.Node) -> bool:
    signal = node.meta.get("signal")
    return signal is not None and signal.kind in ("spike", "graded")


def chain_rates(
    operations: Sequence[LayerOperations], neurons: Sequence[NeuronActivity]
) -> list[float | None]:
    """Return the ``spike_rate`` of each layer of a network in :data:`CHAINS`, for older results.

    These results were written before the rate was recorded. Layer l reads the neurons before it.
    Spikes that enter the first layer are the input's own.
    """
    rates: list[float | None] = []
    for number, row in enumerate(operations):
        if row.static or row.edge == "analog":
            rates.append(None)
        elif number == 0:
            rates.append(row.snn_acs / row.ann_macs)
        else:
            rates.append(neurons[number - 1].spikes_per_neuron)
    return rates
