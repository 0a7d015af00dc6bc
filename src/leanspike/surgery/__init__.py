"""The surgery that makes a network spike, and the network that comes out of it."""

from leanspike.surgery.calibrate import CalibratedLayer, Calibration, calibrate
from leanspike.surgery.fold_norms import fold_norms, remaining_norms
from leanspike.surgery.network import Observer, SpikingNetwork, State, readout
from leanspike.surgery.spike import spike

__all__ = [
    "CalibratedLayer",
    "Calibration",
    "Observer",
    "SpikingNetwork",
    "State",
    "calibrate",
    "fold_norms",
    "readout",
    "remaining_norms",
    "spike",
]
