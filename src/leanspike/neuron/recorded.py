"""Building neurons from a record of numbers."""

from __future__ import annotations

from leanspike.neuron.current_lif import CurrentLIF
from leanspike.neuron.lif import LIF
from leanspike.neuron.protocol import Neuron
from leanspike.neuron.record import NeuronRecord


def neuron_of(record: NeuronRecord) -> Neuron:
    """Return the neurons of a record. They are LIF if α is 0, else CurrentLIF.

    Raises LeanspikeError for numbers out of range.

    >>> import torch
    >>> leak, none = torch.tensor(0.5), torch.tensor(0.0)
    >>> type(neuron_of(NeuronRecord(torch.tensor(1.0), leak, none))).__name__
    'LIF'
    >>> type(neuron_of(NeuronRecord(torch.tensor(1.0), leak, synapse_leak=leak))).__name__
    'CurrentLIF'
    """
    v, leak, synapse = record.threshold, record.leak, record.synapse_leak
    reset, initial, height = record.reset, record.initial, record.height
    if not synapse.any():
        return LIF(v, leak, reset=reset, initial=initial, height=height, floor=record.floor)
    return CurrentLIF(
        *(v, leak, synapse), reset=reset, initial=initial, height=height, floor=record.floor
    )
