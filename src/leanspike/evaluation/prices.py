"""What counted operations cost: prices from one table, and the papers' formulas beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leanspike.evaluation.formulas import bntt_ratio, diet_snn_ratio
from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.result import Energy
from leanspike.neuron import Cost


@dataclass(frozen=True)
class Prices:
    """Energy per operation in pJ: 32-bit floating point at 45 nm (Horowitz, ISSCC 2014).

    A MAC is a multiplication (3.7) and an addition (0.9). Each kind of neuron says which of them a
    membrane update takes. LIF's update is a MAC if the leak multiplies, and an addition if it is 1.

    >>> round(Prices().mac_pj / Prices().ac_pj, 1)  # so much cheaper is a spike than a product
    5.1
    """

    mac_pj: float = 4.6
    ac_pj: float = 0.9

    def of(self, cost: Cost) -> float:
        """Return the energy of such arithmetic."""
        return cost.macs * self.mac_pj + cost.acs * self.ac_pj


def price(
    operations: Sequence[LayerOperations],
    neurons: Sequence[NeuronActivity],
    timesteps: int,
    prices: Prices,
    norm_pj: tuple[float, float] = (0.0, 0.0),
) -> Energy:
    """Return the energy of everything counted, and both papers' formulas beside it.

    ``norm_pj`` is the energy of the norms: the ANN's and the SNN's.
    """
    updates = float(sum(layer.neurons for layer in neurons) * timesteps)
    membranes = timesteps * sum(
        layer.neurons * (layer.update_macs * prices.mac_pj + layer.update_acs * prices.ac_pj)
        for layer in neurons
    )
    layers = [row for row in operations if row.edge != "product"]  # those with weights
    ann_norm_pj, snn_norm_pj = norm_pj
    ann_pj = sum(row.ann_pj for row in operations) + ann_norm_pj
    snn_pj = sum(row.snn_pj for row in operations) + membranes + snn_norm_pj
    total = sum(layer.neurons for layer in neurons)
    rate = sum(layer.spikes_per_neuron * layer.neurons for layer in neurons) / total
    return Energy(
        mac_pj=prices.mac_pj,
        ac_pj=prices.ac_pj,
        ann_pj=ann_pj,
        snn_pj=snn_pj,
        membrane_updates=updates,
        membrane_pj=membranes,
        norm_pj=snn_norm_pj,
        ann_norm_pj=ann_norm_pj,
        ratio=ann_pj / snn_pj,
        formula_ratio=diet_snn_ratio(layers, rate, prices.mac_pj, prices.ac_pj),
        bntt_formula_ratio=bntt_ratio(layers, timesteps, prices.mac_pj, prices.ac_pj),
        spikes_per_neuron=rate,
    )
