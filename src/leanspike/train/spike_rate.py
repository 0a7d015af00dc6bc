"""A price on spikes.

Shapes: T timesteps, N samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from leanspike.errors import LeanspikeError
from leanspike.neuron import Neuron
from leanspike.section import NonNegative
from leanspike.surgery import SpikingNetwork
from leanspike.train.objective import Objective, Term, objectives
from leanspike.train.watch import hooks


@final
@objectives.register("spike_rate")
class SpikeRate(Objective):
    """The spikes per neuron over all steps, as a price on them; for neurons that spike.

        R = Σ_l Σ_t spikes of layer l at t / Σ_l neurons of layer l          over all samples

    Neither R nor its gradient depends on the height of a spike.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> snn, x, rate = spike(ann, example_input=torch.zeros(1, 2)), torch.rand(4, 2), SpikeRate()
    >>> with rate.watch(snn):
    ...     y_TNK = snn(x)
    >>> 0 <= rate(y_TNK, torch.zeros(4), x).item() <= 5
    True
    """

    class Config(Term):
        """A price on spikes per neuron; for an SNN only."""

        weight: NonNegative = 0.1
        """The factor of this term."""

    def __init__(self) -> None:
        super().__init__()
        self._spikes: list[Tensor] = []
        self._neurons = 0

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        if not isinstance(network, SpikingNetwork):
            raise LeanspikeError("a spike rate needs a spiking network; leave it out for the ANN")
        self._spikes, self._neurons = [], 0

        def count(module: nn.Module, _args: Any, o_TN: Any) -> None:
            assert isinstance(module, Neuron)
            self._spikes.append(_spikes(o_TN, module.spike_height()))
            self._neurons += o_TN[0].numel()

        with hooks([(layer, count) for layer in _spiking(network)]):
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        if not self._neurons:
            raise LeanspikeError(
                "no spikes were seen; run the network inside watch(network) before each loss"
            )
        rate = torch.stack(self._spikes).sum() / self._neurons
        self._spikes, self._neurons = [], 0
        return rate


def _spiking(network: SpikingNetwork) -> list[Neuron]:
    """Return the neurons of a network, or raise where some do not spike."""
    found = []
    for path, module in network.neurons():
        if not isinstance(module, Neuron) or module.spike_height() is None:
            raise LeanspikeError(
                f"neurons {path}: a {type(module).__name__} emits no spikes, so there is no spike "
                "rate; leave spike_rate out, or put neurons that spike in its place"
            )
        found.append(module)
    return found


def _spikes(o_TN: Tensor, height: Tensor | None) -> Tensor:
    """Count the spikes, with a gradient that does not depend on their height.

    The height is not detached: the threshold in the outputs v·o has to cancel in the gradient, too.
    """
    assert height is not None
    dtype = torch.promote_types(o_TN.dtype, torch.float32)
    if height.ndim == 0:
        return o_TN.sum(dtype=dtype) / height
    return (o_TN.sum(0, dtype=dtype) / height).sum()
