"""The surgery that makes a network spike, and the network that comes out of it."""

from leanspike.execute import Observer, SpikingNetwork, readout
from leanspike.execute.state import State
from leanspike.surgery.calibration import CalibratedLayer, Calibration, calibrate
from leanspike.surgery.conversion import spike
from leanspike.surgery.inference import fold_norms, remaining_norms

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
