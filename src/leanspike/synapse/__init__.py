"""Layers between neurons that compute the same as PyTorch's with less work."""

from leanspike.backends import Stream
from leanspike.synapse.convolution import EventConv2d, streaming
from leanspike.synapse.dense import convolving_faster
from leanspike.synapse.onednn import step_around, stepping_around
from leanspike.synapse.pooling import TiledAvgPool2d
from leanspike.synapse.stand_in import plain

__all__ = [
    "EventConv2d",
    "Stream",
    "TiledAvgPool2d",
    "convolving_faster",
    "plain",
    "step_around",
    "stepping_around",
    "streaming",
]
