"""A price on work: the accumulates that spikes cause, beside what the ANN multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from leanspike.distributed import mean_of_all
from leanspike.errors import LeanspikeError
from leanspike.evaluation.per_spike import Caused, PerSpike
from leanspike.execute.listening import listening
from leanspike.section import Positive
from leanspike.surgery import SpikingNetwork
from leanspike.train.objective import Objective, Term, objectives


@final
@objectives.register("accumulates")
class Accumulates(Objective):
    """The work that spikes cause, as a price on it; for neurons that spike.

        W = accumulates of all steps / multiply-accumulates of the network as an ANN

        loss = W, or max(0, W / target - 1) with a target

    W is the mean over samples. Both numbers are those of :func:`leanspike.evaluate`: without
    products with padding, and without what spikes do not cause, such as a first layer that sees the
    image. A spike costs as many accumulates as it meets weights: one that enters a convolution of
    256 channels costs more than one that enters ten outputs. Dropout is not counted, as in eval
    mode.

    With a target there is no price below it. The excess is relative, so that a weight holds small
    and large targets alike. It is that of all processes together. Each micro-batch has an excess of
    its own.

    Neither W nor its gradient depends on the height of a spike.

    Raises:
        LeanspikeError: for an ANN, and for a network whose accumulates cannot be counted.

    >>> from leanspike import spike
    >>> ann = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> snn, x, work = spike(ann, example_input=torch.zeros(1, 2)), torch.rand(4, 2), Accumulates()
    >>> with work.watch(snn):
    ...     y_TNK = snn(x, timesteps=2)
    >>> 0 <= work(y_TNK, torch.zeros(4), x).item() <= 2 * 24 / (16 + 24)
    True
    """

    class Config(Term):
        """A price on the accumulates that spikes cause; for an SNN only."""

        target: Positive | None = None
        """The accumulates / the ANN's multiply-accumulates from which on there is a price."""

    def __init__(self, target: float | None = None) -> None:
        super().__init__()
        if target is not None and not target > 0:
            raise LeanspikeError(f"target is {target}; give a number above 0, or None")
        self.target = target
        self._found: WeakKeyDictionary[SpikingNetwork, PerSpike] = WeakKeyDictionary()
        self._caused: Caused | None = None

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        if not isinstance(network, SpikingNetwork):
            raise LeanspikeError("accumulates need a spiking network; leave them out for the ANN")
        if network not in self._found:
            self._found[network] = PerSpike.of(network)
        found = self._found[network]
        self._caused = Caused(found, network)
        with listening(network, found.heard, self._caused):
            yield

    def forward(self, y_TNK: Tensor, labels: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        caused, self._caused = self._caused, None
        if caused is None or not caused.parts:
            raise LeanspikeError(
                "no spikes were seen; run the network, which must not be compiled, inside "
                "watch(network) before each loss"
            )
        samples = x.shape[caused.network.plan.encoder.batch_axis]
        work = caused.total() / (caused.found.ann_macs * samples)
        if self.target is None:
            return work
        above = mean_of_all(work.detach()) > self.target
        return torch.where(above, work / self.target - 1, 0.0)
