"""The SNN beside the same network as an ANN: in float32, in int8, and with values of few bits.

Arithmetic is counted as in :mod:`leanspike.evaluation.energy`. Memory is by the counts of Lemaire
and others (see :mod:`leanspike.evaluation.traffic`), for one sample and each layer with weights:

========== ================================= ===============================================
read       ANN, or a layer that multiplies   a layer that spikes enter
========== ================================= ===============================================
weights    one per product                   one per accumulate
bias       one per output                    one per output and step
input      one per product (a linear layer:  one address per spike
           each input once)
written    one per output                    membranes: read and written per accumulate
========== ================================= ===============================================

Each layer of neurons reads and writes its membranes once a step, and writes an address per spike.
If its currents were multiplied, it reads them at each step, too. Products of two signals read two
values each, as do products inside declared modules.

An SNN of T steps tells no more values apart than an ANN whose values have ⌈log₂(T + 1)⌉ bits. These
two are compared by Yan and others, Reconsidering the Energy Efficiency of Spiking Neural Networks,
2024 (https://arxiv.org/abs/2409.08290), with weights of the same width in both. Here it is 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leanspike.evaluation.layers import LayerOperations, NeuronActivity
from leanspike.evaluation.result import Energy
from leanspike.evaluation.rivals_result import BreakEven, Column, Quantised, Rivals
from leanspike.evaluation.traffic import LayerTraffic, Memory, TrafficCounter

WIDE = 32
"""Bits of float32, of biases, of sums, and of the address of a spike."""
NARROW = 8


@dataclass(frozen=True)
class Int8Prices:
    """Energy per operation of an ANN in 8-bit integers, in pJ at 45 nm (Horowitz, ISSCC 2014).

    A product of 8 bits (0.2) is added to a sum of 32 bits (0.1). An addition alone has 32 bits.
    Scaling the sums back to 8 bits is left out, to the ANN's favour.
    """

    mac_pj: float = 0.3
    ac_pj: float = 0.1

    def product_pj(self, bits: int) -> float:
        """Return the energy of a weight of 8 bits times a value of ``bits`` bits, added to a sum.

        A product costs as its two widths multiplied: one of 32 bits (3.1) 15.5 times one of 8.

        >>> round(Int8Prices().product_pj(2), 2)
        0.15
        """
        return (self.mac_pj - self.ac_pj) * bits / NARROW + self.ac_pj


@dataclass(frozen=True)
class _Layer:
    row: LayerOperations
    traffic: LayerTraffic

    @property
    def inputs(self) -> float:
        """How often a dense pass reads an input."""
        return self.traffic.inputs if self.traffic.once else self.row.ann_macs

    @property
    def takes_spikes(self) -> bool:
        """Whether the SNN only adds in this layer."""
        return not self.row.snn_macs


def compare_rivals(
    operations: Sequence[LayerOperations],
    neurons: Sequence[NeuronActivity],
    energy: Energy,
    traffic: TrafficCounter,
    timesteps: int,
    memory: Memory | None = None,
    int8: Int8Prices | None = None,
) -> Rivals:
    """Return all columns, and the spike rates at which the SNN breaks even.

    Args:
        operations, neurons, energy: what was counted of one run of the SNN.
        traffic: what saw the same run.
        timesteps: T of that run.
        memory, int8: other prices than the cited ones.

    Example:
        >>> import torch
        >>> from leanspike import spike
        >>> from leanspike.evaluation import OperationCounter, Prices, SpikeCounter
        >>> from leanspike.evaluation.prices import price
        >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 4))
        >>> snn = spike(ann, example_input=torch.zeros(1, 2), timesteps=5)
        >>> spikes, operations = SpikeCounter(snn), OperationCounter(snn)
        >>> traffic = TrafficCounter(snn, operations)
        >>> operations.begin_batch(1)
        >>> counters = (spikes, operations, traffic)
        >>> _ = snn.run(torch.zeros(1, 2), observer=lambda *seen: [see(*seen) for see in counters])
        >>> rows, neurons = operations.rows(Prices()), spikes.rows()
        >>> energy = price(rows, neurons, timesteps=5, prices=Prices())
        >>> found = compare_rivals(rows, neurons, energy, traffic, timesteps=5)
        >>> found.ann.values_pj, found.ann_int8.values_pj  # 2 + 3 inputs, 3 + 4 outputs
        (60.0, 15.0)
    """
    memory, int8 = memory or Memory(), int8 or Int8Prices()
    layers = _paired(operations, traffic.layers())
    norms = energy.ann_norm_pj / energy.mac_pj
    macs = sum(layer.row.ann_macs for layer in layers) + norms
    acs = (energy.ann_pj - macs * energy.mac_pj) / energy.ac_pj
    ann = _dense(layers, norms, energy.ann_pj, memory, WIDE, WIDE)
    small = _dense(layers, norms, macs * int8.mac_pj + acs * int8.ac_pj, memory, NARROW, NARROW)
    bits = timesteps.bit_length()  # ⌈log₂(T + 1)⌉
    cheaper = sum(
        layer.row.ann_macs * (int8.mac_pj - int8.product_pj(bits))
        for layer in layers
        if layer.takes_spikes
    )
    few = _dense(layers, norms, small.arithmetic_pj - cheaper, memory, NARROW, bits)
    updates = sum(layer.neurons * traffic.state_values[layer.path] for layer in neurons) * timesteps
    snn = _spiking(layers, neurons, energy, updates, timesteps, memory, energy.snn_pj, WIDE)
    whole_pj = energy.snn_pj - sum(
        layer.row.snn_macs * (energy.mac_pj - int8.mac_pj)
        + layer.row.snn_acs * (energy.ac_pj - int8.ac_pj)
        for layer in layers
    )
    whole = _spiking(layers, neurons, energy, updates, timesteps, memory, whole_pj, NARROW)
    rate = energy.spikes_per_neuron / timesteps
    moving = _moving(layers, neurons, energy.ac_pj, memory, WIDE)
    return Rivals(
        ann=ann,
        ann_int8=small,
        snn=snn,
        spike_rate=rate,
        break_even_ann=_break_even(snn, ann, moving, rate),
        break_even_int8=_break_even(snn, small, moving, rate),
        quantised=Quantised(
            value_bits=bits,
            ann=few,
            snn=whole,
            break_even=_break_even(
                whole, few, _moving(layers, neurons, int8.ac_pj, memory, NARROW), rate
            ),
        ),
        word_pj=memory.word_pj,
        word_bits=memory.word_bits,
        int8_mac_pj=int8.mac_pj,
        int8_ac_pj=int8.ac_pj,
    )


def _paired(operations: Sequence[LayerOperations], traffic: Sequence[LayerTraffic]) -> list[_Layer]:
    """Return each row with what is known of its layer.

    They are matched by path, and by order where several have one path. A row without weights of its
    own, such as a product of signals, counts two reads for each product.
    """
    waiting: dict[str, list[LayerTraffic]] = {}
    for layer in traffic:
        waiting.setdefault(layer.path, []).append(layer)
    unknown = LayerTraffic("", 0.0, 0.0, 0.0, once=False, events=0.0, fired=False)
    return [
        _Layer(row, waiting[row.path].pop(0) if waiting.get(row.path) else unknown)
        for row in operations
    ]


def _dense(
    layers: Sequence[_Layer],
    norms: float,
    arithmetic_pj: float,
    memory: Memory,
    weight_bits: int,
    value_bits: int,
) -> Column:
    """Return the column of an ANN with weights of ``weight_bits`` and values of ``value_bits``.

    What enters a layer that multiplies in the SNN, too, has at least 8 bits: pixels. Biases, scales
    and shifts have 32 bits.
    """
    weights = sum(layer.row.ann_macs for layer in layers)
    wide = sum(layer.traffic.biases for layer in layers) + 2 * norms
    value_pj, pixel_pj = memory.of(value_bits), memory.of(max(value_bits, NARROW))
    return Column(
        arithmetic_pj=arithmetic_pj,
        weights_pj=weights * memory.of(weight_bits) + wide * memory.of(WIDE),
        values_pj=sum(
            layer.inputs * (value_pj if layer.takes_spikes else pixel_pj)
            + layer.traffic.outputs * value_pj
            for layer in layers
        ),
    )


def _spiking(
    layers: Sequence[_Layer],
    neurons: Sequence[NeuronActivity],
    energy: Energy,
    updates: float,
    timesteps: int,
    memory: Memory,
    arithmetic_pj: float,
    weight_bits: int,
) -> Column:
    """Return the column of an SNN whose weights, and values that are multiplied, have some bits.

    ``updates`` is how many state values are updated. They, currents and biases have 32 bits.
    """
    narrow_pj, wide_pj = memory.of(weight_bits), memory.of(WIDE)
    weights_pj, values_pj = 2 * energy.norm_pj / energy.mac_pj * wide_pj, 0.0
    events, accumulates = _fired(neurons), 0.0
    for layer in layers:
        row, facts = layer.row, layer.traffic
        weights_pj += (row.snn_macs + row.snn_acs) * narrow_pj
        if layer.takes_spikes:
            weights_pj += facts.biases * timesteps * wide_pj
            events += facts.events
            accumulates += row.snn_acs
        else:
            runs = 1 if row.static else timesteps
            weights_pj += facts.biases * runs * wide_pj
            values_pj += layer.inputs * runs * narrow_pj
            values_pj += facts.outputs * (runs + timesteps) * wide_pj
    return Column(
        arithmetic_pj=arithmetic_pj,
        weights_pj=weights_pj,
        values_pj=values_pj,
        spikes_pj=events * wide_pj,
        membranes_pj=2 * (accumulates + updates) * wide_pj,
    )


def _fired(neurons: Sequence[NeuronActivity]) -> float:
    """Count all spikes of all neurons, each of which is written once."""
    return sum(layer.neurons * layer.spikes_per_neuron for layer in neurons)


def _moving(
    layers: Sequence[_Layer],
    neurons: Sequence[NeuronActivity],
    ac_pj: float,
    memory: Memory,
    weight_bits: int,
) -> tuple[float, float]:
    """Return the energy that goes with the neurons' spikes: arithmetic, and memory."""
    reading = [layer for layer in layers if layer.traffic.fired and layer.takes_spikes]
    acs = sum(layer.row.snn_acs for layer in reading)
    events = _fired(neurons) + sum(layer.traffic.events for layer in reading)
    return acs * ac_pj, acs * memory.of(weight_bits) + (2 * acs + events) * memory.of(WIDE)


def _break_even(snn: Column, rival: Column, moving: tuple[float, float], rate: float) -> BreakEven:
    """Solve E_SNN(r) = E_fixed + E_moving · r / rate for E_SNN(r) = E_rival."""

    def solved(spent: float, of_spikes: float, rivals: float) -> float | None:
        if not of_spikes:
            return None
        return max(0.0, rate * (rivals - (spent - of_spikes)) / of_spikes)

    return BreakEven(
        arithmetic=solved(snn.arithmetic_pj, moving[0], rival.arithmetic_pj),
        total=solved(snn.total_pj, sum(moving), rival.total_pj),
    )
