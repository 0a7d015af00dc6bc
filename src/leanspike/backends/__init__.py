"""Backends: code that computes neurons and convolutions, all with the same results.

A layer makes a *call*, such as `LIFCall`, which is a frozen description of the work. `choose` finds
the backend that runs it. Two come with leanspike: "reference" (plain PyTorch, to be read beside the
paper) and "native" (C for the CPU, in float32 and bfloat16). A backend of your own is a class:

>>> import torch
>>> from leanspike import LIF
>>> from leanspike.backends import Backend, LIFCall, backends, use_backend, watch_backends
>>> @backends.register("mine")
... class Mine(Backend):
...     def serves(self, call):
...         return isinstance(call, LIFCall)
...
...     def run(self, call):
...         return call.reference()  # yours: the same spikes, faster
>>> with use_backend("mine"), watch_backends() as ran:
...     _ = LIF()(torch.zeros(2, 1))
>>> ran.backend
'mine'
>>> backends.unregister("mine")
"""

from leanspike.backends.calls import (
    Call,
    ConvolutionCall,
    ConvolutionGradientCall,
    LIFCall,
    LIFRateCall,
    LIFStepCall,
    MaxPoolRateCall,
    NeuronCall,
    NormCall,
    NormLIFCall,
    NormLIFRateCall,
    NormMeanCall,
    NormRateCall,
    RateGradientCall,
)
from leanspike.backends.choice import choose, use_backend
from leanspike.backends.native import Native
from leanspike.backends.normalised import Normalised, NormalisedRates
from leanspike.backends.norms import Currents, Followed, NormRates, NormScale
from leanspike.backends.notes import Backends, note_backend, watch_backends
from leanspike.backends.plain import Reference
from leanspike.backends.pools import MaxPoolRates, Windows
from leanspike.backends.protocol import Backend, backends
from leanspike.backends.rates import Rates
from leanspike.backends.reference import Dynamics, Reset
from leanspike.backends.stream import Stream

__all__ = [
    "Backend",
    "Backends",
    "Call",
    "ConvolutionCall",
    "ConvolutionGradientCall",
    "Currents",
    "Dynamics",
    "Followed",
    "LIFCall",
    "LIFRateCall",
    "LIFStepCall",
    "MaxPoolRateCall",
    "MaxPoolRates",
    "Native",
    "NeuronCall",
    "NormCall",
    "NormLIFCall",
    "NormLIFRateCall",
    "NormMeanCall",
    "NormRateCall",
    "NormRates",
    "NormScale",
    "Normalised",
    "NormalisedRates",
    "RateGradientCall",
    "Rates",
    "Reference",
    "Reset",
    "Stream",
    "Windows",
    "backends",
    "choose",
    "note_backend",
    "use_backend",
    "watch_backends",
]
