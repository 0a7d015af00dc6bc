"""The exponential moving average of a network's weights over the steps of its training."""

from __future__ import annotations

from typing import Any, final

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from leanspike.errors import LeanspikeError


def averaging(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that holds the average of its weights.

    After step n of the training, call ``update_parameters(network)``. Then ``module`` holds the
    average of every parameter: weights, biases, thresholds, leaks.

        w̄_1 = w_1,    w̄_n = decay · w̄_{n−1} + (1 − decay) · w_n

    The statistics of norms are averaged alike. About 1 / (1 − decay) steps count. PyTorch's
    ``AveragedModel`` does the work.

    Args:
        network: stays as it is. It must allow a deep copy.
        decay: above 0 and below 1.

    Raises:
        LeanspikeError: for another ``decay``.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> average = averaging(network, decay=0.75)
    >>> for value in (0.0, 8.0):
    ...     _ = nn.init.constant_(network.weight, value)
    ...     average.update_parameters(network)
    >>> average.module.weight.item()
    2.0
    """
    if not 0 < decay < 1:
        raise LeanspikeError(f"average is {decay}; give a decay above 0 and below 1, as 0.99")
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


@final
class Trained:
    """A network in training, and the one that answers for it: itself, or the average.

    Args:
        network: trained in place.
        decay: the decay of the average; None: there is no average.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        self.average = None if decay is None else averaging(network, decay)

    @property
    def answers(self) -> nn.Module:
        """The network that is validated, selected and kept."""
        return self.network if self.average is None else self.average.module

    def stepped(self) -> None:
        """Tell the average of a step that was taken."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def end(self, best: dict[str, Any]) -> None:
        """Give the network the best weights, or those of the network that answers."""
        if best or self.average is not None:
            self.network.load_state_dict(best or self.answers.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        average = {} if self.average is None else self.average.state_dict()
        return {"network": self.network.state_dict(), "average": average}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from a checkpoint; one from before averages existed has none."""
        self.network.load_state_dict(saved["network"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
