"""The native backend: C for the CPU, in float32 and bfloat16. Its code is in ``src/native``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, final

from leanspike import native as library
from leanspike.backends.calls import (
    Call,
    ConvolutionCall,
    ConvolutionGradientCall,
    LIFCall,
    LIFRateCall,
    LIFStepCall,
    MaxPoolRateCall,
    NormCall,
    NormLIFCall,
    NormLIFRateCall,
    NormMeanCall,
    NormRateCall,
    RateGradientCall,
)
from leanspike.backends.native import (
    convolution,
    lif,
    norm,
    norm_alone,
    pool,
    rate_gradients,
    rates,
)
from leanspike.backends.protocol import Backend, backends

_RUN: Mapping[type[Call], Callable[[Any], Any]] = {
    LIFCall: lif.run_lif,
    LIFStepCall: lif.run_step,
    LIFRateCall: rates.run_rates,
    NormLIFCall: norm.run_norm_lif,
    NormLIFRateCall: norm.run_norm_lif_rates,
    NormCall: norm_alone.run_norm,
    NormRateCall: norm_alone.run_norm_rates,
    NormMeanCall: norm_alone.run_norm_mean,
    MaxPoolRateCall: pool.run,
    RateGradientCall: rate_gradients.run,
    ConvolutionCall: convolution.run,
    ConvolutionGradientCall: convolution.gradients,
}


@final
@backends.register("native")
class Native(Backend):
    """LIF neurons, batch norms in training, and convolutions that work where there are events.

    The reference computes single steps with gradients, your own surrogates, and parameters that are
    not scalars. PyTorch computes dense and small convolutions.

    >>> import torch
    >>> x = torch.ones(1, 64, 32, 32).to(memory_format=torch.channels_last)  # dense
    >>> Native().serves(ConvolutionCall(x, torch.ones(64, 64, 3, 3), None, (1, 1), (1, 1)))
    False
    """

    def missing(self) -> str | None:
        return None if library.is_built() else library.what_is_missing()

    def serves(self, call: Call) -> bool:
        if type(call) is LIFCall or type(call) is LIFRateCall:
            return lif.serves(call) and is_there()
        if type(call) is LIFStepCall:
            return lif.serves_step(call) and is_there()
        if type(call) is NormLIFCall or type(call) is NormLIFRateCall:
            return norm.serves(call) and is_there()
        if type(call) is NormCall or type(call) is NormRateCall:
            return norm_alone.serves(call) and is_there()
        if type(call) is NormMeanCall:
            return norm_alone.serves_mean(call) and is_there()
        if type(call) is MaxPoolRateCall:
            return pool.serves(call) and is_there()
        if type(call) is RateGradientCall:
            return rate_gradients.serves(call) and is_there()
        if type(call) is ConvolutionCall:
            return convolution.serves(call) and is_there()
        if type(call) is ConvolutionGradientCall:
            return convolution.serves_gradients(call) and is_there()
        return False

    def run(self, call: Call) -> Any:
        return _RUN[type(call)](call)

    def instructions(self) -> str:
        return library.chosen_instructions()


def is_there() -> bool:
    """Return whether the library was built, from these sources; if not, warn once."""
    if not library.is_built():
        _warn_once()
    return library.is_built()


is_there._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as in choice.py


@cache
def _warn_once() -> None:
    logging.getLogger("leanspike").warning(
        "neurons run on the slow reference; %s", library.what_is_missing()
    )
