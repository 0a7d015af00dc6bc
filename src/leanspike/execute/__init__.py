"""The network that runs its graph: a whole sequence at once, or step by step."""

from leanspike.execute.network import Observer, SpikingNetwork, State, readout

__all__ = ["Observer", "SpikingNetwork", "State", "readout"]
