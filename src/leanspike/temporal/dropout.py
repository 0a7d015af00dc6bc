"""Dropout with one mask for all timesteps, and a way to change its rate for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from leanspike.distributed import drawn
from leanspike.errors import LeanspikeError

Drops = Literal["elements", "channels", "samples"]


@final
class TemporalDropout(nn.Module):
    """Dropout with one mask per forward pass, shared by all timesteps.

    A connection that is dropped stays dropped for the whole sequence, as in DIET-SNN's official
    code. Independent masks would let every signal through within a few steps. In eval mode the
    layer returns its input.

    Args:
        p: the probability in [0, 1] of dropping.
        drops: "elements"; whole "channels" (axis 1 of ``[N, C, ...]``), as ``nn.Dropout2d`` drops
            them; or whole "samples", as stochastic depth drops a branch.

    Raises:
        LeanspikeError: for a probability outside its range.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> y_TN = TemporalDropout(0.5)(torch.ones(3, 1, 4))
    >>> bool((y_TN[0] == y_TN[1]).all() and (y_TN[0] == y_TN[2]).all())
    True
    """

    def __init__(self, p: float, drops: Drops = "elements") -> None:
        super().__init__()
        _check_probability(p)
        self.p = p
        self.drops = drops

    def forward(self, x_TN: Tensor) -> Tensor:
        """Drop parts of ``[T, N, ...]`` in training, and scale the rest by 1/(1 − p)."""
        mask_N = self.mask(x_TN[0])
        return x_TN if mask_N is None else x_TN * mask_N

    def mask(self, x_N: Tensor) -> Tensor | None:
        """Draw a new mask for a sequence of steps like ``x_N``; None where nothing is dropped.

        Its entries are 0 or 1/(1 − p).
        """
        if not self.training or self.p == 0:
            return None
        own = {"elements": x_N.dim(), "channels": 2, "samples": 1}[self.drops]
        shape = (*x_N.shape[:own], *[1] * (x_N.dim() - own))
        return drawn(shape, lambda whole: F.dropout(x_N.new_ones(whole), self.p))

    def extra_repr(self) -> str:
        """Return the settings, for ``print(network)``."""
        return f"p={self.p}, drops={self.drops!r}"


@contextmanager
def dropout_rate(network: nn.Module, p: float | None) -> Iterator[None]:
    """Let every :class:`TemporalDropout` of ``network`` drop with probability ``p`` for a while.

    DIET-SNN's code trains the SNN with other rates than the ANN: 0.2 everywhere, where the ANN has
    0.5 behind its linear layers. With ``p=None`` each layer keeps its own rate.

    Raises:
        LeanspikeError: for a probability outside [0, 1], or a network without dropout.

    >>> network = nn.Sequential(TemporalDropout(0.2), nn.ReLU(), TemporalDropout(0.5))
    >>> with dropout_rate(network, 0.2):
    ...     print(network[0].p, network[2].p)
    0.2 0.2
    >>> network[0].p, network[2].p
    (0.2, 0.5)
    """
    layers = [module for module in network.modules() if isinstance(module, TemporalDropout)]
    own = [layer.p for layer in layers]
    if p is not None:
        _check_probability(p)
        if not layers:
            raise LeanspikeError(
                f"dropout is {p}, and the network has no dropout layer; build it with dropout, or "
                "leave the rate out"
            )
        for layer in layers:
            layer.p = p
    try:
        yield
    finally:
        for layer, rate in zip(layers, own, strict=True):
            layer.p = rate


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise LeanspikeError(f"p is {p}; give a probability from 0 to 1")
