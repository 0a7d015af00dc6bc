"""The SNN's energy with its memory, beside the same network as ANNs of different precision."""

from __future__ import annotations

from leanspike.evaluation.record import Record


class Column(Record):
    """What one network spends on one sample, in pJ.

    ``arithmetic_pj`` is what is counted in ``Energy``, at this network's prices. The rest is
    memory: ``weights_pj`` (with biases, and scales and shifts of norms that remain), ``values_pj``
    (numbers between layers), ``spikes_pj`` (addresses of events) and ``membranes_pj``.
    """

    arithmetic_pj: float
    weights_pj: float
    values_pj: float
    spikes_pj: float = 0.0
    membranes_pj: float = 0.0

    @property
    def memory_pj(self) -> float:
        """The energy of all reading and writing."""
        return self.weights_pj + self.values_pj + self.spikes_pj + self.membranes_pj

    @property
    def total_pj(self) -> float:
        """The energy of arithmetic and memory.

        >>> Column(arithmetic_pj=4.6, weights_pj=5.0, values_pj=10.0).total_pj
        19.6
        """
        return self.arithmetic_pj + self.memory_pj


class BreakEven(Record):
    """The spike rate, per neuron and step, below which the SNN spends less than a rival.

    ``arithmetic`` compares arithmetic alone, ``total`` memory as well. 0 says that the SNN spends
    more even without a spike. A rate above 1 says that it spends less at any rate. None says that
    no neuron fired, so nobody knows where its spikes would go.
    """

    arithmetic: float | None
    total: float | None


class Quantised(Record):
    """The SNN, and an ANN with as many values as its neurons have counts; both of 8-bit weights.

    A neuron fires 0 to T times, so T + 1 values need ``value_bits`` = ⌈log₂(T + 1)⌉ bits. ``ann``
    has values of that many bits between its layers, and pixels of 8. ``snn`` adds weights of 8 bits
    to sums of 32, and updates its neurons in float32. Source: https://arxiv.org/abs/2409.08290.

    >>> spent = Column(arithmetic_pj=1.0, weights_pj=2.0, values_pj=3.0)
    >>> even = BreakEven(arithmetic=0.5, total=0.1)
    >>> Quantised(value_bits=2, ann=spent, snn=spent, break_even=even).snn.total_pj
    6.0
    """

    value_bits: int
    ann: Column
    snn: Column
    break_even: BreakEven


class Rivals(Record):
    """Networks of the same layers: ``ann`` in float32, ``ann_int8``, and the ``snn`` in float32.

    ``quantised`` has the pair of fewer bits; results of older versions lack it.

    ``spike_rate`` is the SNN's: spikes per neuron and step, over all neurons. The break-even rates
    assume that all layers fire more, or less, by the same factor.
    ``word_pj`` is the price of ``word_bits`` bits read or written; ``int8_mac_pj`` and
    ``int8_ac_pj`` are those of the int8 network's operations.

    >>> import torch
    >>> from leanspike import LIF, evaluate, spike
    >>> ann = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> snn = spike(ann, example_input=torch.zeros(1, 8), timesteps=2, neuron=LIF(threshold=99.0))
    >>> rivals = evaluate(snn, [(torch.rand(32, 8), torch.randint(3, (32,)))]).rivals
    >>> rivals.spike_rate, rivals.snn.spikes_pj, rivals.snn.membranes_pj  # 2·2·16·5 pJ
    (0.0, 0.0, 320.0)
    """

    ann: Column
    ann_int8: Column
    snn: Column
    spike_rate: float
    break_even_ann: BreakEven
    break_even_int8: BreakEven
    word_pj: float
    word_bits: int
    int8_mac_pj: float
    int8_ac_pj: float
    quantised: Quantised | None = None
