"""The network that runs its graph: a whole sequence at once, or step by step."""

from leanspike.execute.answers import readout
from leanspike.execute.network import SpikingNetwork
from leanspike.execute.observed import Observer
from leanspike.execute.rate import Gradient
from leanspike.execute.state import State

__all__ = ["Gradient", "Observer", "SpikingNetwork", "State", "readout"]
