"""The surgery that makes a network spike, and the network that comes out of it."""

from leanspike.surgery.calibrate import CalibratedLayer, Calibration, calibrate
from leanspike.surgery.network import SpikingNetwork, State, readout
from leanspike.surgery.spike import spike

__all__ = [
    "CalibratedLayer",
    "Calibration",
    "SpikingNetwork",
    "State",
    "calibrate",
    "readout",
    "spike",
]
