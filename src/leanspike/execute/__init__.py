"""The network that runs its graph: a whole sequence at once, or step by step."""

from leanspike.execute.network import Observer, SpikingNetwork, readout
from leanspike.execute.state import State

__all__ = ["Observer", "SpikingNetwork", "State", "readout"]
