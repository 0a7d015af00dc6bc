"""Event-driven convolutions, in which inputs of 0 cost nothing if a backend supports that.

A dense convolution multiplies each weight by each input. Most inputs of a spiking layer are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

import torch
from torch import Tensor, nn

from leanspike.backends import ConvolutionCall, Stream, choose
from leanspike.renamed import renamed
from leanspike.synapse.dense import is_learning, is_plain
from leanspike.synapse.onednn import is_stepped_around
from leanspike.synapse.stand_in import StandIn
from leanspike.transforms import is_transforming


@final
class EventConv2d(StandIn, nn.Conv2d):
    """An ``nn.Conv2d`` for spikes that is event-driven where that is faster.

    Parameters and gradients are the same, results are the same to rounding. It is event-driven on
    the CPU, in float32 and bfloat16 (also by autocast), if few inputs are not 0. The bound is
    `DENSEST`, and a sample of the inputs is counted. In training (`convolving_faster`) the bound is
    `DENSEST_LEARNING`, above which backends may have a faster dense convolution. Elsewhere, and
    under ``torch.compile``, it is PyTorch's. It is fastest in channels_last. Contiguous inputs and
    their outputs are copied.

    Example:
        >>> conv = nn.Conv2d(64, 64, 3, padding=1)
        >>> spikes = (torch.rand(8, 64, 16, 16) < 0.1).float()
        >>> spikes = spikes.to(memory_format=torch.channels_last)
        >>> torch.allclose(EventConv2d.of(conv)(spikes), conv(spikes), atol=1e-5)
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, C, H, W]``, as ``nn.Conv2d`` does."""
        call = None if torch.compiler.is_compiling() else self._call(x)
        backend = None if call is None else choose(call)
        if call is None or backend is None:
            return super().forward(x if call is None else call.x)
        y: Tensor = backend.run(call)
        return y

    def _call(self, x: Tensor) -> ConvolutionCall | None:
        """Return the call for a backend, or None if PyTorch must compute it."""
        if is_transforming() or not is_plain(self, x) or is_stepped_around(self, x):
            return None
        assert not isinstance(self.padding, str)
        if torch.is_autocast_enabled(x.device.type):  # as torch's own convolution does
            if x.dtype == torch.float64:
                return None
            x = x.to(torch.get_autocast_dtype(x.device.type))
        elif x.dtype != self.weight.dtype:
            return None
        stream = None if torch.is_grad_enabled() else _stream.get()
        how = self.stride, self.padding, self.dilation, self.groups
        return ConvolutionCall(x, self.weight, self.bias, *how, stream, is_learning(self))


_stream: ContextVar[Stream | None] = ContextVar("leanspike_stream", default=None)


@contextmanager
def streaming(stream: Stream) -> Iterator[None]:
    """Let event-driven convolutions keep the layout of their weights in ``stream`` meanwhile.

    >>> conv = EventConv2d.of(nn.Conv2d(64, 64, 3, padding=1)).requires_grad_(False)
    >>> spikes = (torch.rand(1, 64, 16, 16) < 0.1).float()
    >>> stream, spikes = Stream(), spikes.to(memory_format=torch.channels_last)
    >>> with streaming(stream), torch.no_grad():
    ...     y = conv(spikes)
    >>> torch.allclose(y, conv(spikes), atol=1e-5)
    True
    """
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


MOVED = ("DENSEST", "LEAST_WORK", "OUTPUTS", "density")

__getattr__ = renamed(
    __name__, {name: f"leanspike.backends.native.convolution.{name}" for name in MOVED}
)
