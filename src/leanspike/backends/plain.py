"""The backend that always serves: the neurons' equations in plain PyTorch."""

from __future__ import annotations

from typing import Any, final

from leanspike.backends.calls import Call, NeuronCall
from leanspike.backends.protocol import Backend, backends


@final
@backends.register("reference")
class Reference(Backend):
    """The backend that runs the reference of each neuron's call, on any device, in any dtype.

    It leaves convolutions to PyTorch.

    >>> import torch
    >>> from leanspike.backends import ConvolutionCall
    >>> x = torch.ones(1, 1, 1, 1)
    >>> Reference().serves(ConvolutionCall(x, x, None, (1, 1), (0, 0)))
    False
    """

    def serves(self, call: Call) -> bool:
        return isinstance(call, NeuronCall)

    def run(self, call: Call) -> Any:
        assert isinstance(call, NeuronCall)
        return call.reference()
