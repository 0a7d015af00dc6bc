"""The surgery that makes a network spike, and the network that comes out of it."""

from leanspike.execute.network import Observer, SpikingNetwork, State, readout
from leanspike.lower.folding import fold_norms, remaining_norms
from leanspike.surgery.calibrate import CalibratedLayer, Calibration, calibrate
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
