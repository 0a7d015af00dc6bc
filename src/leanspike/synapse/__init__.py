"""Layers with weights, where spikes enter them: work only where there are any."""

from leanspike.synapse.convolution import EventConv2d

__all__ = ["EventConv2d"]
