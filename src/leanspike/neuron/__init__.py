"""Spiking neurons and the surrogate derivatives they are trained with.

>>> neurons.names()[:3]
('adaptive_lif', 'cuba_lif', 'lif')
>>> create_neuron("adaptive_lif", {"adaptation": 0.25}).adaptation.item()
0.25
>>> SurrogateSection(name="arctan", options={"alpha": 3.0}).create()
Arctan(alpha=3.0)
"""

from leanspike.neuron.adaptive_lif import AdaptiveLIF
from leanspike.neuron.current_lif import CurrentLIF
from leanspike.neuron.lif import LIF
from leanspike.neuron.protocol import (
    Calibrated,
    Cost,
    Neuron,
    NeuronSection,
    create_neuron,
    name_of,
    neurons,
)
from leanspike.neuron.record import NeuronRecord, Recorded
from leanspike.neuron.recorded import neuron_of
from leanspike.neuron.threshold import SMALLEST_THRESHOLD, ThresholdNeuron
from leanspike.surrogate import (
    SURROGATES,
    Arctan,
    Rectangle,
    Sigmoid,
    Surrogate,
    SurrogateSection,
    Triangle,
    surrogates,
)

__all__ = [
    "LIF",
    "SMALLEST_THRESHOLD",
    "SURROGATES",
    "AdaptiveLIF",
    "Arctan",
    "Calibrated",
    "Cost",
    "CurrentLIF",
    "Neuron",
    "NeuronRecord",
    "NeuronSection",
    "Recorded",
    "Rectangle",
    "Sigmoid",
    "Surrogate",
    "SurrogateSection",
    "ThresholdNeuron",
    "Triangle",
    "create_neuron",
    "name_of",
    "neuron_of",
    "neurons",
    "surrogates",
]
