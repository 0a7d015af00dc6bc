"""leanspike: low-latency deep spiking neural networks from ordinary PyTorch networks.

>>> import leanspike as ls
"""

from leanspike import models
from leanspike.errors import DataError, LeanspikeError, SurgeryError
from leanspike.neuron import LIF, Arctan, Neuron, Rectangle, Sigmoid, Triangle
from leanspike.surgery import SpikingNetwork, readout, spike

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "Arctan",
    "DataError",
    "LeanspikeError",
    "Neuron",
    "Rectangle",
    "Sigmoid",
    "SpikingNetwork",
    "SurgeryError",
    "Triangle",
    "models",
    "readout",
    "spike",
]
