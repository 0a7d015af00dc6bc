"""The neuron's equation, and whatever computes it faster with the same results."""

from leanspike.neuron.kernels.reference import Dynamics, initial_membrane, lif, lif_step

__all__ = ["Dynamics", "initial_membrane", "lif", "lif_step"]
